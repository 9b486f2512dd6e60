"""Figures with their intervals: a figure is a function of the weights of its images, patients are drawn again.

An estimator takes weights (b, n), one row for each resample and one column for each image, and returns (b,) values;
not a number where the resample does not define it. The point is its value at weights of 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Weights = NDArray[np.float64]
Values = NDArray[np.float64]
Estimator = Callable[[Weights], Values]

_CHUNK = 100
_LEAST_DEFINED = 0.9
_TAIL = 0.025


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval; low and high are None where none can be given."""

    value: float
    low: float | None
    high: float | None


def ratio(numerator: NDArray[np.generic], denominator: NDArray[np.generic] | None = None) -> Estimator:
    """Return the estimator of sum(numerator) / sum(denominator), or of the mean; arrays are (n,)."""
    above = np.asarray(numerator, float)
    below = np.ones(len(above)) if denominator is None else np.asarray(denominator, float)
    return lambda weights: _divided(weights @ above, weights @ below)


def auc(scores: NDArray[np.generic], positive: NDArray[np.bool_]) -> Estimator:
    """Return the estimator of the area under the ROC curve, ties counting half; scores and positive are (n,)."""
    order = np.argsort(scores, kind="stable")
    ranked, is_positive = np.asarray(scores)[order], np.asarray(positive, float)[order]
    first, past = np.searchsorted(ranked, ranked, "left"), np.searchsorted(ranked, ranked, "right")

    def estimate(weights: Weights) -> Values:
        drawn = weights[:, order]
        up = drawn * is_positive
        down = np.concatenate([np.zeros((len(drawn), 1)), np.cumsum(drawn - up, axis=1)], axis=1)
        beaten = (up * (down[:, first] + down[:, past])).sum(axis=1) / 2.0
        return _divided(beaten, up.sum(axis=1) * down[:, -1])

    return estimate


def calibration_error(confidence: NDArray[np.generic], right: NDArray[np.bool_], bins: int = 10) -> Estimator:
    """Return the estimator of the expected calibration error over equal bins of confidence; arrays are (n,)."""
    member = np.minimum((np.asarray(confidence, float) * bins).astype(int), bins - 1)[:, np.newaxis] == np.arange(bins)
    gap = (np.asarray(confidence, float) - np.asarray(right, float))[:, np.newaxis] * member
    return lambda weights: _divided(np.abs(weights @ gap).sum(axis=1), weights.sum(axis=1))


def f1(called: NDArray[np.bool_], true: NDArray[np.bool_]) -> Estimator:
    """Return the estimator of 2 TP / (2 TP + FP + FN); arrays are (n,)."""
    return ratio(2.0 * (called & true), called.astype(float) + true)


def mean_of(estimators: Sequence[Estimator]) -> Estimator:
    """Return the estimator of the mean of several figures of the same images, of those that a resample defines."""

    def estimate(weights: Weights) -> Values:
        values = np.stack([each(weights) for each in estimators])
        defined = ~np.isnan(values)
        return _divided(np.where(defined, values, 0.0).sum(axis=0), defined.sum(axis=0))

    return estimate


def kappa(one: NDArray[np.generic], other: NDArray[np.generic]) -> Estimator:
    """Return the estimator of Cohen's kappa of two raters' categories (n,); 1 where both always say the same one."""
    categories = np.union1d(one, other)
    first, second = (np.asarray(rater)[:, np.newaxis] == categories for rater in (one, other))
    same = np.asarray(one) == np.asarray(other)

    def estimate(weights: Weights) -> Values:
        total = weights.sum(axis=1)
        agreed = _divided(weights @ same, total)
        by_chance = _divided(((weights @ first) * (weights @ second)).sum(axis=1), total**2)
        return np.where(by_chance >= 1.0, 1.0, _divided(agreed - by_chance, 1.0 - by_chance))

    return estimate


def difference(one: Estimator, other: Estimator) -> Estimator:
    """Return the estimator of `one` minus `other` on the same resamples."""
    return lambda weights: one(weights) - other(weights)


@dataclass(frozen=True)
class Resampler:
    """Draws groups (patients, cases) with replacement, never images. The same seed draws the same."""

    seed: int = 0
    resamples: int = 1000

    def estimate(self, estimator: Estimator, groups: NDArray[np.generic], share: bool = False) -> Estimate | None:
        """Return the value with its percentile interval, or None where the images do not define it.

        groups: (n,), what each image belongs to; share: the figure is a share of images, so that at exactly 0 or 1,
        where every resample gives the same, the exact binomial bound for that many groups is given instead.
        The interval is None for a single group and where more than a tenth of the resamples do not define the figure.
        It is stretched to hold the value where the resamples lie to one side of it (the calibration error is biased).
        """
        if not len(groups):
            return None
        value = float(estimator(np.ones((1, len(groups))))[0])
        if np.isnan(value):
            return None
        _, member = np.unique(groups, return_inverse=True)
        count = int(member.max()) + 1
        if count < 2:
            return Estimate(value, None, None)
        if share and value in (0.0, 1.0):
            bound = _TAIL ** (1.0 / count)
            return Estimate(value, bound, 1.0) if value else Estimate(value, 0.0, 1.0 - bound)
        values = np.concatenate([estimator(weights) for weights in self._weights(member, count)])
        values = values[~np.isnan(values)]
        if len(values) < _LEAST_DEFINED * self.resamples:
            return Estimate(value, None, None)
        low, high = np.quantile(values, [_TAIL, 1.0 - _TAIL])
        return Estimate(value, min(float(low), value), max(float(high), value))

    def _weights(self, member: NDArray[np.intp], count: int) -> Iterator[Weights]:
        random = np.random.default_rng(self.seed)
        for first in range(0, self.resamples, _CHUNK):
            size = min(_CHUNK, self.resamples - first)
            yield random.multinomial(count, np.full(count, 1.0 / count), size=size).astype(float)[:, member]


def _divided(above: Values, below: Values) -> Values:
    """Return above / below, not a number where below is 0."""
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=np.asarray(below) != 0)
