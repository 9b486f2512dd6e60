"""The closed forms: published figures to three decimals, and against each other where two of them must agree."""

from __future__ import annotations

import math
from dataclasses import astuple

import pytest

from service.simulate.closed_form import (
    Served,
    erlang_c,
    interrupted,
    interrupted_by,
    not_interrupted,
    not_interrupted_by,
    split,
    wait,
)
from service.simulate.textbook import CASES, Case

PUBLISHED = {  # minutes: in order of arrival, flagged, not flagged, diseased, and the change for diseased and the others
    "load 0.8": (40.000, 1.682, 48.411, 6.355, -33.645, 3.738),
    "load 0.8, no interruption": (40.000, 9.346, 46.729, 13.084, -26.916, 2.991),
    "load 0.5": (10.000, 0.989, 11.978, 2.088, -7.912, 0.879),
    "load 0.9": (90.000, 1.933, 109.332, 12.673, -77.327, 8.592),
    "load 0.8, sensitivity 0.95, specificity 0.88": (40.000, 1.939, 49.694, 4.327, -35.673, 3.964),
    "load 0.8, two readers": (17.778, 0.212, 21.634, 2.354, -15.424, 1.714),
    "load 0.8, three readers": (10.787, 0.040, 13.146, 1.350, -9.436, 1.048),
    "load 0.8, one in ten an emergency of 5 min": (41.099, 2.441, 49.585, 7.155, -33.944, 3.772),
}


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_each_published_case_is_met_to_three_decimals(case: Case) -> None:
    assert [f"{x:.3f}" for x in astuple(case.exact())] == [f"{x:.3f}" for x in PUBLISHED[case.name]]


def test_every_published_case_is_there() -> None:
    assert [case.name for case in CASES] == list(PUBLISHED)


@pytest.mark.parametrize(("servers", "offered", "waits"), [
    (1, 0.8, 0.8), (2, 1.6, 0.7111), (3, 2.4, 0.6472), (10, 8.0, 0.4092)])
def test_erlang_c_is_that_of_the_tables(servers: int, offered: float, waits: float) -> None:
    assert erlang_c(servers, offered) == pytest.approx(waits, abs=5e-5)


def test_one_server_is_the_plain_queue() -> None:
    assert wait(1, 0.08, 10) == pytest.approx(40.0)
    assert not_interrupted_by(1, [0.02, 0.06], 10) == pytest.approx(
        not_interrupted([Served.exponential(0.02, 10), Served.exponential(0.06, 10)]))
    assert interrupted_by(1, [0.02, 0.06], 10) == pytest.approx(
        interrupted([Served.exponential(0.02, 10), Served.exponential(0.06, 10)]))


@pytest.mark.parametrize("servers", [1, 2, 7])
@pytest.mark.parametrize("form", [interrupted_by, not_interrupted_by])
def test_no_order_changes_the_mean_over_all_when_services_are_alike(servers: int, form: object) -> None:
    rates = [0.01 * servers, 0.03 * servers, 0.05 * servers]
    waits = form(servers, rates, 10.0)  # type: ignore[operator]
    assert sum(r * w for r, w in zip(rates, waits, strict=True)) / sum(rates) == pytest.approx(wait(servers, sum(rates), 10))
    assert waits == sorted(waits)


def test_constant_services_wait_half_as_long() -> None:
    """Pollaczek and Khinchine: M/D/1 waits half of M/M/1."""
    constant = Served(0.08, 10, 100)
    assert not_interrupted([constant])[0] == pytest.approx(20.0)
    assert interrupted([constant])[0] == pytest.approx(20.0)


def test_unequal_services_keep_the_conservation_law() -> None:
    """Kleinrock: the sum of load times wait does not depend on the order of the classes."""
    short, long = Served.exponential(0.05, 2), Served(0.03, 20, 450)
    one, other = not_interrupted([short, long]), not_interrupted([long, short])
    assert short.load * one[0] + long.load * one[1] == pytest.approx(long.load * other[0] + short.load * other[1])


@pytest.mark.parametrize("load", [1.0, 1.3, math.nan])
def test_a_load_without_a_mean_wait_is_refused(load: float) -> None:
    with pytest.raises(ValueError, match="below 1"):
        not_interrupted([Served.exponential(load, 1.0)])
    with pytest.raises(ValueError, match="below 1"):
        erlang_c(2, 2 * load)


def test_split_gives_the_predictive_values() -> None:
    found = split(0.1, 0.9, 0.9)
    assert (found.flagged, found.right, found.right_without) == pytest.approx((0.18, 0.5, 0.81 / 0.82))
    assert split(0.0, 0.9, 1.0).right == 1.0
    assert split(1.0, 1.0, 0.5).right_without == 1.0


def test_emergencies_with_several_readers_have_no_closed_form() -> None:
    with pytest.raises(ValueError, match="no closed form"):
        Case("x", 0.8, readers=2, emergency=0.1).exact()
