"""Calibration, thresholds and the putting together of folds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from models.training.calibrate import calibration, logits_of, probabilities_from, thresholds  # noqa: E402
from models.training.pooled import merged  # noqa: E402

RANDOM = np.random.default_rng(2)


def test_logits_and_probabilities_are_each_others_inverse() -> None:
    alone = RANDOM.uniform(0.01, 0.99, (5, 2))
    shared = RANDOM.dirichlet(np.ones(3), 5)
    given = np.hstack([shared, alone])
    np.testing.assert_allclose(probabilities_from(logits_of(given, 3), 3), given, atol=1e-6)


def test_a_known_temperature_is_found_again() -> None:
    true = RANDOM.normal(size=(20_000, 3)) * 1.5
    labels = np.zeros(true.shape, np.int8)
    drawn = (probabilities_from(true, 3).cumsum(axis=1) > RANDOM.random((len(true), 1))).argmax(axis=1)
    labels[np.arange(len(true)), drawn] = 1
    scale, offset = calibration(true * 4.0, labels, 3, np.ones(len(true), bool))
    assert scale == pytest.approx([0.25] * 3, rel=0.05)
    assert np.ptp(offset) < 0.1


def test_each_output_that_stands_alone_has_its_own_curve_and_empty_labels_do_not_count() -> None:
    true = RANDOM.normal(size=(20_000, 1)) * 2.0
    label = (RANDOM.random(true.shape) < 1 / (1 + np.exp(-true))).astype(np.int8)
    labels = np.where(RANDOM.random(true.shape) < 0.3, np.int8(-1), label)
    wrong = np.hstack([(true - 1.0) * 2.0, true])
    scale, offset = calibration(wrong, np.hstack([labels, np.full_like(labels, -1)]), 0, np.ones(len(true), bool))
    assert scale == pytest.approx([0.5, 1.0], rel=0.06) and offset == pytest.approx([1.0, 0.0], abs=0.08)


@pytest.mark.parametrize("sensitivity", [0.6, 0.9, 1.0])
def test_a_threshold_reaches_the_sensitivity_that_was_asked_for(sensitivity: float) -> None:
    scores, sick = RANDOM.random((400, 1)), RANDOM.random((400, 1)) < 0.3
    found = thresholds(scores, sick.astype(np.int8), np.array(["a"] * 400), ["x"], {"x": {"sensitivity": sensitivity}})
    assert (scores[sick] >= found["x"]).mean() >= sensitivity
    assert (scores[sick] >= found["x"] + 0.02).mean() < sensitivity + 1e-9 or sensitivity == 1.0


def test_of_two_points_the_higher_threshold_and_only_the_named_sources_count() -> None:
    scores, sick = RANDOM.random((400, 1)), RANDOM.random((400, 1)) < 0.3
    sources = np.where(np.arange(400) % 2, "a", "b")
    point = {"sensitivity": 0.9, "specificity": 0.95, "sources": ["a"]}
    found = thresholds(scores, sick.astype(np.int8), sources, ["x"], {"x": point})["x"]
    well = scores[~sick[:, 0] & (sources == "a"), 0]
    assert (well < found).mean() >= 0.95
    assert found > thresholds(scores, sick.astype(np.int8), sources, ["x"], {"x": {"sensitivity": 0.9}})["x"]


@dataclass(frozen=True)
class Part:
    """Answers of one fold."""

    names: list[str]
    scores: np.ndarray
    title: str


def test_folds_are_put_end_to_end() -> None:
    whole = merged([Part(["a"], np.ones((1, 2)), "t"), Part(["b", "c"], np.zeros((2, 2)), "t")])
    assert whole.names == ["a", "b", "c"] and whole.title == "t"
    np.testing.assert_array_equal(whole.scores, [[1, 1], [0, 0], [0, 0]])
