"""The department: what its file may say, and what is drawn from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from service.domain.urgency import Urgency
from service.simulate.arrivals import NO_FLAG, draw, flag_ranks, reading_times
from service.simulate.department import HOURS, Department, Detector, Modality, Shape, example_department
from service.simulate.department_file import InvalidDepartment, read_department

EXAMPLE = Path(__file__).parents[2] / "deploy/department.example.toml"


def written(folder: Path, text: str) -> Path:
    path = folder / "department.toml"
    path.write_text(text)
    return path


def test_the_example_file_says_what_the_default_says() -> None:
    assert read_department(EXAMPLE) == example_department()


def test_what_a_file_leaves_out_is_as_in_the_example(tmp_path: Path) -> None:
    assert read_department(written(tmp_path, "")) == example_department()
    one = read_department(written(tmp_path, "[modality.cxr]\nper_weekday = 10\n"))
    assert [m.name for m in one.modalities] == ["cxr"] and one.modalities[0].per_weekday == 10
    assert one.modalities[0].prevalence == example_department().modalities[0].prevalence


def test_a_modality_of_ones_own_gets_no_ai(tmp_path: Path) -> None:
    text = "[modality.mr]\nper_weekday = 20\nreading_min = 15\nordered = {stat = 0.1}\n"
    (mr,) = read_department(written(tmp_path, text)).modalities
    assert (mr.reading_s, mr.reading_with_condition_s, mr.detectors) == (900, 900, ())
    assert mr.ordered == mr.ordered_with_condition == (0.1, 0.0, 0.9, 0.0)


@pytest.mark.parametrize(("text", "words"), [
    ("longest_wait_mn = 3", "longest_wait_mn: unknown key; did you mean 'longest_wait_min'?"),
    ("[modality.cxr]\nprevalense = {}", "modality.cxr.prevalense: unknown key; did you mean 'prevalence'?"),
    ("[modality.cxr]\nper_weekday = -1", "modality.cxr.per_weekday is -1; accepted: a number from 0"),
    ("[modality.cxr]\nper_weekday = true", "per_weekday is True"),
    ("[modality.cxr]\nper_weekday = nan", "per_weekday is nan"),
    ("[modality.cxr]\nprevalence = {a = 0.7, b = 0.7}", "1 in all at most"),
    ("[modality.cxr]\nordered = {now = 0.7}", "accepted: a table of shares in 0..1, 1 in all at most: stat, urgent"),
    ("[modality.cxr]\nby_hour = [1, 2]", "24 numbers"),
    ("[readers]\nby_hour = [1.5" + ", 1" * 23 + "]", "24 whole numbers"),
    ("[readers]\nby_hour = [0" + ", 0" * 23 + "]", "not all 0"),
    ("[readers]\nshape = 'normal'", "accepted: lognormal, exponential, constant"),
    ("[readers]\nby_hour = [1000" + ", 0" * 23 + "]", "24 whole numbers from 0 to 500, not all 0"),
    ("[modality.cxr]\nper_weekday = 1e9", "a number from 0 to 20000"),
    ("[ai]\nengines = 0", "ai.engines is 0"),
    ("[modality.cxr.assumed.mass]\nurgency = 'soon'", "modality.cxr.assumed.mass.urgency is 'soon'; accepted: stat"),
    ("[modality]\ncxr = 3", "modality.cxr must be a table"),
    ("[modality]", "modality is empty"),
    ("name = 3", "name is 3; accepted: a text"),
    ("name =", "not valid TOML"),
])
def test_a_wrong_file_is_refused_with_the_key_and_what_is_accepted(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InvalidDepartment) as refused:
        read_department(written(tmp_path, text))
    assert words in str(refused.value) and str(tmp_path) in str(refused.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidDepartment, match=r"nowhere\.toml: cannot be read"):
        read_department(tmp_path / "nowhere.toml")


def test_arrivals_follow_the_hours_the_weekend_and_the_shares() -> None:
    modality = Modality("cxr", 480.0, by_hour=(1.0,) * 12 + (3.0,) * 12, weekend=0.25, prevalence={"a": 0.2, "b": 0.1},
                        ordered=(0.1, 0.2, 0.6, 0.1), ordered_with_condition=(0.5, 0.5, 0.0, 0.0))
    load = draw(Department("x", (modality,)), 60 * HOURS, np.random.default_rng(1))
    hour = load.arrived_s / 3600 % HOURS
    assert np.all(np.diff(load.arrived_s) >= 0)
    assert load.size == pytest.approx(60 * 480 * 5.5, rel=0.02)
    assert np.mean(hour >= 120) == pytest.approx(0.5 / 5.5, abs=0.005)
    assert np.mean(hour % 24 >= 12) == pytest.approx(0.75, abs=0.005)
    assert [np.mean(load.condition == c) for c in (0, 1, -1)] == pytest.approx([0.2, 0.1, 0.7], abs=0.005)
    present = load.condition >= 0
    well, sick = (np.bincount(load.ordered_rank[who], minlength=4) / who.sum() for who in (~present, present))
    assert well.tolist() == pytest.approx([0.1, 0.2, 0.6, 0.1], abs=0.01)
    assert sick.tolist() == pytest.approx([0.5, 0.5, 0, 0], abs=0.01)


def test_a_flag_comes_as_often_as_sensitivity_and_specificity_say_and_asks_for_the_most_urgent() -> None:
    detectors = (Detector("m", "a", 0.8, 0.95, Urgency.URGENT, ""), Detector("m", "b", 0.6, 0.9, Urgency.STAT, ""))
    truth = np.repeat([0, 1, -1], 40000)
    rank = flag_ranks(detectors, truth, ("a", "b"), np.random.default_rng(4))
    flagged = rank < NO_FLAG
    expected = {0: 1 - 0.2 * 0.9, 1: 1 - 0.95 * 0.4, -1: 1 - 0.95 * 0.9}
    for number, share in expected.items():
        assert flagged[truth == number].mean() == pytest.approx(share, abs=0.01)
    assert np.mean(rank[truth == 1] == Urgency.STAT.rank) == pytest.approx(0.6, abs=0.01)


def test_a_failed_look_raises_no_flag() -> None:
    base = example_department()
    modality = replace(base.modalities[0], detectors=(Detector("m", "pneumonia", 1.0, 0.0, Urgency.STAT, ""),))
    department = replace(base, modalities=(modality,), ai=replace(base.ai, failure_rate=0.3))
    load = draw(department, HOURS, np.random.default_rng(2))
    assert np.array_equal(load.failed, ~load.flagged) and load.failed.mean() == pytest.approx(0.3, abs=0.04)


@pytest.mark.parametrize(("shape", "spread", "expected"), [
    (Shape.LOGNORMAL, 0.7, 0.7), (Shape.LOGNORMAL, 0.0, 0.0), (Shape.EXPONENTIAL, 0.7, 1.0), (Shape.CONSTANT, 0.7, 0.0)])
def test_reading_times_have_their_mean_and_spread(shape: Shape, spread: float, expected: float) -> None:
    department = replace(example_department(), shape=shape, spread=spread)
    times = reading_times(np.full(200_000, 240.0), department, np.random.default_rng(6))
    assert times.mean() == pytest.approx(240, rel=0.01) and times.std() / 240 == pytest.approx(expected, abs=0.02)


def test_the_load_counts_arrivals_conditions_and_readers() -> None:
    modality = Modality("x", 24.0, weekend=1.0, prevalence={"a": 0.5}, reading_s=1200.0, reading_with_condition_s=2400.0)
    assert Department("x", (modality,), readers=(1,) * HOURS).load == pytest.approx(0.5)
