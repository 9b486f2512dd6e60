"""Means with 95 % intervals over independent replications (Student's t), and paired differences."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Estimate:
    """A mean and the interval around it; low and high are NaN where there are fewer than two replications."""

    value: float
    low: float
    high: float

    def holds(self, expected: float) -> bool:
        """Tell whether the interval holds a value."""
        return self.low <= expected <= self.high

    def scaled(self, factor: float) -> Estimate:
        """Return the estimate in another unit; factor is positive."""
        return Estimate(self.value * factor, self.low * factor, self.high * factor)


def student_t(confidence: float, freedom: int) -> float:
    """Return the two-sided quantile of Student's t: 2.093 for 0.95 and 19.

    Exact for one and two degrees of freedom; else by the expansion around the normal quantile (Abramowitz and Stegun
    26.7.5), which is right to 0.3 % from four degrees of freedom at a confidence of 0.95.
    """
    if freedom < 1 or not 0 < confidence < 1:
        raise ValueError(f"a confidence in 0..1 and one degree of freedom at least, got {confidence} and {freedom}")
    if freedom == 1:
        return math.tan(math.pi * confidence / 2)
    if freedom == 2:
        return confidence * math.sqrt(2 / (1 - confidence * confidence))
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return math.fsum(term / float(freedom) ** power for power, term in enumerate(terms))


def estimate(values: NDArray[np.float64], confidence: float = 0.95) -> Estimate:
    """Return the mean of replications, (n,) float64, and its interval; replications without a value (NaN) are left out."""
    known = values[~np.isnan(values)]
    if known.size == 0:
        return Estimate(math.nan, math.nan, math.nan)
    mean = float(known.mean())
    if known.size == 1:
        return Estimate(mean, math.nan, math.nan)
    half = student_t(confidence, known.size - 1) * float(known.std(ddof=1)) / math.sqrt(known.size)
    return Estimate(mean, mean - half, mean + half)
