"""The simulation against what is known exactly, and against what was published of capped and uncapped lists."""

from __future__ import annotations

from dataclasses import astuple, replace

import numpy as np
import pytest

from service.simulate.closed_form import Served, not_interrupted
from service.simulate.effect import Length, simulate
from service.simulate.interrupted import waits_when_interrupted
from service.simulate.intervals import Estimate, estimate
from service.simulate.reading import Policy
from service.simulate.textbook import CASES, Case, radiographs, simulate_case

TOGETHER = 1 - 0.05 / 48  # 48 values: all hold together in 95 of 100 seeds


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_each_case_lies_within_its_interval(case: Case) -> None:
    found = simulate_case(case, studies=8000, replications=30, seed=11, confidence=TOGETHER)
    exact = astuple(case.exact())
    assert [one.holds(value) for one, value in zip(found, exact, strict=True)] == [True] * 6, (exact, found)
    for value, one in zip(exact[3:5], found[3:5], strict=True):  # an interval that holds anything proves nothing
        assert one.high - one.low < abs(value) * 0.8


def test_a_wrong_value_lies_outside_its_interval() -> None:
    """A flagged study that may not interrupt waits longer; the simulation tells the two cases apart."""
    interrupts, waits = CASES[0], CASES[1]
    found = simulate_case(interrupts, 8000, 30, 11, TOGETHER)
    assert not found[1].holds(waits.exact().flagged) and not found[3].holds(waits.exact().diseased)


def test_unequal_reading_times_without_interruption_agree_with_cobham() -> None:
    """Three classes with their own times: the readers' loop is that of the service's order."""
    case = replace(CASES[1], emergency=0.2, emergency_min=3.0)
    rates = [case.rate * 0.2, case.rate * 0.8 * case.flag.flagged, case.rate * 0.8 * (1 - case.flag.flagged)]
    exact = not_interrupted([Served.exponential(r, m) for r, m in zip(rates, (3.0, 10.0, 10.0), strict=True)])
    found = simulate_case(case, 8000, 30, 5, TOGETHER)
    assert found[1].holds(exact[1]) and found[2].holds(exact[2])


def test_an_interrupted_reading_is_resumed_where_it_was_left() -> None:
    arrived, reading = np.array([0.0, 4.0, 5.0, 6.0]), np.array([10.0, 3.0, 2.0, 1.0])
    waits = waits_when_interrupted(arrived, reading, np.array([2, 1, 2, 0], np.int8), readers=1)
    assert waits.tolist() == [4.0, 1.0, 9.0, 0.0]


def test_reordering_lengthens_the_longest_wait_unless_it_is_capped() -> None:
    """As published for radiographs: the mean of what matters falls by more than half, its longest wait (of what the AI
    missed) rises above that of first come; a cap brings it back and keeps the gain."""
    waits = simulate(radiographs(), Length(24, 4, 1), seed=2).row("pneumothorax").waits
    fifo, bare, capped = waits[Policy.FIFO], waits[Policy.UNCAPPED], waits[Policy.OURS]
    assert bare.gain.high < -fifo.mean.value / 2 and capped.gain.high < -fifo.mean.value / 2
    assert bare.longest.low > fifo.longest.high
    assert capped.longest.high < bare.longest.low and capped.longest.value < 1.15 * fifo.longest.value


def test_students_t_is_that_of_the_tables() -> None:
    scipy_stats = pytest.importorskip("scipy.stats")
    from service.simulate.intervals import student_t

    for freedom in (1, 2, 4, 9, 11, 19, 40, 500):
        for confidence in (0.9, 0.95, 0.99):
            exact = scipy_stats.t.ppf((1 + confidence) / 2, freedom)
            assert student_t(confidence, freedom) == pytest.approx(exact, rel=0.003 if confidence <= 0.95 else 0.02)
    with pytest.raises(ValueError, match="confidence"):
        student_t(0.95, 0)


def test_an_interval_holds_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(3)
    held = sum(estimate(random.exponential(7.0, 20)).holds(7.0) for _ in range(2000))
    assert 0.90 < held / 2000 < 0.97  # a little under 0.95: exponential values lean to one side


def test_an_interval_leaves_out_what_has_no_value() -> None:
    assert estimate(np.array([1.0, np.nan, 3.0])).value == 2.0
    assert np.isnan(estimate(np.array([np.nan])).value) and np.isnan(estimate(np.array([4.0])).low)
    assert Estimate(1.0, 0.5, 2.0).scaled(60) == Estimate(60.0, 30.0, 120.0)
