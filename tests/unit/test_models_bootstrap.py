"""Figures and their intervals: values worked out by hand, and patients, not images, that are drawn again."""

from __future__ import annotations

import numpy as np
import pytest

from models.evaluation.bootstrap import Estimator, Resampler, auc, calibration_error, difference, kappa, ratio

ONCE = np.ones((1, 4))


def value(estimator: Estimator, weights: np.ndarray = ONCE) -> float:
    return float(estimator(weights)[0])


@pytest.mark.parametrize(("scores", "positive", "expected"), [
    ([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1], 1.0),
    ([0.9, 0.8, 0.2, 0.1], [0, 0, 1, 1], 0.0),
    ([0.5, 0.5, 0.5, 0.5], [0, 1, 0, 1], 0.5),
    ([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1], 0.75),
    ([0.1, 0.4, 0.4, 0.8], [0, 0, 1, 1], 0.875),
])
def test_auc_is_the_share_of_pairs_in_order_ties_half(scores: list[float], positive: list[int], expected: float) -> None:
    assert value(auc(np.array(scores), np.array(positive, bool))) == pytest.approx(expected)


def test_auc_of_one_class_is_not_defined() -> None:
    estimator = auc(np.array([0.1, 0.2]), np.array([True, True]))
    assert Resampler().estimate(estimator, np.array(["a", "b"])) is None


def test_a_weight_of_two_is_the_same_image_twice() -> None:
    scores, positive = np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True])
    weights = np.array([[1.0, 2.0, 1.0, 0.0]])
    repeated = auc(np.repeat(scores, [1, 2, 1, 0]), np.repeat(positive, [1, 2, 1, 0]))
    assert value(auc(scores, positive), weights) == pytest.approx(value(repeated)) == pytest.approx(1 / 3)


def test_calibration_error_by_hand() -> None:
    estimator = calibration_error(np.array([0.95, 0.95, 0.65, 1.0]), np.array([True, False, True, True]))
    assert value(estimator) == pytest.approx((abs(0.95 + 0.95 + 1.0 - 2) + abs(0.65 - 1)) / 4)


def test_kappa_by_hand() -> None:
    one, other = np.array([1, 1, 0, 0]), np.array([1, 0, 0, 0])
    assert value(kappa(one, other)) == pytest.approx((0.75 - 0.5) / 0.5)
    assert value(kappa(one, one)) == 1.0
    assert value(kappa(np.zeros(4), np.zeros(4))) == 1.0


@pytest.mark.parametrize("seed", range(25))
def test_the_interval_holds_the_value(seed: int) -> None:
    random = np.random.default_rng(seed)
    scores, positive = random.random(30), random.random(30) < 0.5
    groups = random.integers(0, 15, 30)
    for estimator in (auc(scores, positive), ratio(positive), calibration_error(scores, positive),
                      kappa(scores > 0.5, positive)):
        found = Resampler(seed, 200).estimate(estimator, groups)
        assert found is not None and found.low is not None and found.high is not None
        assert found.low <= found.value <= found.high


def test_the_interval_reaches_down_to_a_calibration_error_of_nothing() -> None:
    confidence = np.repeat([0.25, 0.5, 0.75], 12)
    right = np.tile(np.arange(12), 3) < 12 * confidence
    found = Resampler().estimate(calibration_error(confidence, right), np.arange(36))
    assert found is not None and found.value == found.low == 0.0 and found.high is not None and found.high > 0.1


def test_copies_of_the_images_of_a_group_do_not_narrow_the_interval() -> None:
    random = np.random.default_rng(3)
    right, groups = random.random(40) < 0.7, np.arange(40)
    once = Resampler(1).estimate(ratio(right), groups)
    copied = Resampler(1).estimate(ratio(np.tile(right, 10)), np.tile(groups, 10))
    torn = Resampler(1).estimate(ratio(np.tile(right, 10)), np.arange(400))
    assert once == copied
    assert once is not None and torn is not None and once.low is not None and torn.low is not None
    assert torn.value - torn.low < 0.5 * (once.value - once.low)


def test_one_group_has_no_interval_and_a_share_of_one_has_the_exact_bound() -> None:
    alone = Resampler().estimate(ratio(np.array([1, 0])), np.array(["a", "a"]))
    assert alone is not None and (alone.value, alone.low, alone.high) == (0.5, None, None)
    sure = Resampler().estimate(ratio(np.ones(10)), np.arange(10), share=True)
    assert sure is not None and sure.low == pytest.approx(0.025 ** 0.1) and sure.high == 1.0
    none = Resampler().estimate(ratio(np.zeros(10)), np.arange(10), share=True)
    assert none is not None and none.low == 0.0 and none.high == pytest.approx(1 - 0.025 ** 0.1)


def test_the_same_seed_gives_the_same_interval_and_a_difference_with_itself_is_nothing() -> None:
    right = np.random.default_rng(0).random(50) < 0.6
    groups = np.arange(50)
    assert Resampler(7).estimate(ratio(right), groups) == Resampler(7).estimate(ratio(right), groups)
    assert Resampler(7).estimate(ratio(right), groups) != Resampler(8).estimate(ratio(right), groups)
    found = Resampler().estimate(difference(ratio(right), ratio(right)), groups)
    assert found is not None and (found.value, found.low, found.high) == (0.0, 0.0, 0.0)
