"""Waiting times of queues that are known exactly; the simulation is held against them.

All rates and times are in one unit of the caller's choice. Classes are given most urgent first. A wait ends when service
begins; where a class may be interrupted, the wait is the time in the system less the service itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate


@dataclass(frozen=True)
class Served:
    """One class of arrivals: rate of arrival, mean and second moment of the time that one takes."""

    rate: float
    mean: float
    second_moment: float

    @classmethod
    def exponential(cls, rate: float, mean: float) -> Served:
        """Return a class whose service times are exponential."""
        return cls(rate, mean, 2 * mean * mean)

    @property
    def load(self) -> float:
        """Share of one server that this class keeps busy."""
        return self.rate * self.mean


def erlang_c(servers: int, offered: float) -> float:
    """Return the probability that an arrival has to wait in M/M/c (Erlang's second formula).

    offered: rate times mean service time, below the number of servers. Raises: ValueError when it is not.
    """
    _require_stable(offered / servers)
    blocked = 1.0  # Erlang B, by its recursion over the servers
    for n in range(1, servers + 1):
        blocked = offered * blocked / (n + offered * blocked)
    return blocked / (1 - offered / servers * (1 - blocked))


def wait(servers: int, rate: float, mean: float) -> float:
    """Return the mean wait in M/M/c in order of arrival."""
    if rate == 0:
        return 0.0
    return erlang_c(servers, rate * mean) * mean / (servers - rate * mean)


def not_interrupted(classes: Sequence[Served]) -> list[float]:
    """Return the mean wait of each class in M/G/1 where nobody is interrupted (Cobham 1954)."""
    residual = sum(c.rate * c.second_moment for c in classes) / 2
    return [residual / ((1 - above) * (1 - upto)) for above, upto in _loads(classes)]


def interrupted(classes: Sequence[Served]) -> list[float]:
    """Return the mean wait of each class in M/G/1 where a more urgent arrival interrupts, and work is resumed."""
    residuals = accumulate(c.rate * c.second_moment / 2 for c in classes)
    return [
        c.mean / (1 - above) + residual / ((1 - above) * (1 - upto)) - c.mean
        for c, residual, (above, upto) in zip(classes, residuals, _loads(classes), strict=True)
    ]


def not_interrupted_by(servers: int, rates: Sequence[float], mean: float) -> list[float]:
    """Return the mean wait of each class in M/M/c with one exponential service time for all, nobody interrupted."""
    total = sum(rates) * mean
    busy = erlang_c(servers, total) * mean / servers
    return [busy / ((1 - above) * (1 - upto))
            for above, upto in _loads([Served.exponential(r / servers, mean) for r in rates])]


def interrupted_by(servers: int, rates: Sequence[float], mean: float) -> list[float]:
    """Return the mean wait of each class in M/M/c with one exponential service time for all, where urgency interrupts.

    The first k classes do not see the others, so together they are a plain M/M/c; the k-th is what it adds to the rest.
    """
    waits, above, rate_above = [], 0.0, 0.0
    for rate in rates:
        upto = (rate_above + rate) * wait(servers, rate_above + rate, mean)
        waits.append((upto - above) / rate if rate else 0.0)
        above, rate_above = upto, rate_above + rate
    return waits


@dataclass(frozen=True)
class Split:
    """How a flag splits what arrives. flagged: share with a flag; right, right_without: predictive values."""

    flagged: float
    right: float
    right_without: float


def split(prevalence: float, sensitivity: float, specificity: float) -> Split:
    """Return the share that is flagged, and the positive and the negative predictive value."""
    flagged = prevalence * sensitivity + (1 - prevalence) * (1 - specificity)
    right = prevalence * sensitivity / flagged if flagged else 1.0
    right_without = (1 - prevalence) * specificity / (1 - flagged) if flagged < 1 else 1.0
    return Split(flagged, right, right_without)


def _loads(classes: Sequence[Served]) -> list[tuple[float, float]]:
    """Return for each class the load of those above it, and with its own. Raises: ValueError when it is 1 or more."""
    upto = list(accumulate(c.load for c in classes))
    _require_stable(upto[-1])
    return list(zip([0.0, *upto], upto, strict=False))


def _require_stable(load: float) -> None:
    if not 0 <= load < 1 or math.isnan(load):
        raise ValueError(f"the load must be in 0..1, below 1, for a wait to have a mean; it is {load:.3g}")
