"""Draws what comes to a department: studies with times, ordered urgency, condition, flag and reading time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.domain.urgency import Urgency
from service.simulate.department import HOURS, Department, Detector, Modality, Shape

NO_FLAG = len(Urgency)
"""The rank that an AI without a flag asks for: less urgent than any, so it raises nothing."""
HOUR_S = 3600.0
Floats = NDArray[np.float64]
Ranks = NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class Workload:
    """The studies of one replication, each array (n,), in order of arrival.

    arrived_s: first image, seconds since Monday, midnight; modality: index into the department's; condition: index into
    `conditions`, -1: none; ordered_rank: as ordered; flag_rank: what the AI asks for, NO_FLAG: nothing; last_image_s,
    queued_s: when the study had arrived, and when it was judged complete; compute_s: time of the models; failed: the AI
    gives no result; noticed: a reader acts on its flag though the list is not re-ordered.
    """

    arrived_s: Floats
    modality: Ranks
    condition: Ranks
    ordered_rank: Ranks
    flag_rank: Ranks
    reading_s: Floats
    last_image_s: Floats
    queued_s: Floats
    compute_s: Floats
    failed: NDArray[np.bool_]
    noticed: NDArray[np.bool_]

    @property
    def size(self) -> int:
        """How many studies there are."""
        return int(self.arrived_s.size)

    @property
    def flagged(self) -> NDArray[np.bool_]:
        """(n,) bool: the AI asks for an urgency."""
        return self.flag_rank < NO_FLAG


def conditions(department: Department) -> tuple[str, ...]:
    """Return the names of all conditions, in the order of the modalities; `Workload.condition` counts in it."""
    return tuple(dict.fromkeys(name for m in department.modalities for name in m.prevalence))


def draw(department: Department, hours: int, random: np.random.Generator) -> Workload:
    """Draw the arrivals of some hours, from Monday at midnight.

    Arrivals are Poisson with the rate of each hour of the week; everything else is independent from study to study.
    """
    names = conditions(department)
    parts = [_draw_modality(m, number, department, names, hours, random) for number, m in enumerate(department.modalities)]
    order = np.argsort(np.concatenate([p.arrived_s for p in parts]), kind="stable")
    columns = {name: np.concatenate([getattr(p, name) for p in parts])[order] for name in Workload.__dataclass_fields__}
    return Workload(**columns)


def _draw_modality(
    modality: Modality, number: int, department: Department, names: Sequence[str], hours: int, random: np.random.Generator,
) -> Workload:
    rates = np.array(modality.per_hour())[np.arange(hours) % HOURS]
    per_hour = random.poisson(rates)
    arrived = (np.repeat(np.arange(hours), per_hour) + random.random(per_hour.sum())) * HOUR_S
    n = arrived.size
    condition = _pick(random, n, list(modality.prevalence.values()))
    condition = np.array([*(names.index(name) for name in modality.prevalence), -1])[condition]
    present = condition >= 0
    ordered = np.where(present, _pick(random, n, modality.ordered_with_condition), _pick(random, n, modality.ordered))
    failed = random.random(n) < department.ai.failure_rate
    flag = flag_ranks(modality.detectors, condition, names, random)
    means = np.where(present, modality.reading_with_condition_s, modality.reading_s)
    last = arrived + modality.transfer_s
    return Workload(
        arrived, np.full(n, number, np.int8), condition.astype(np.int8), np.minimum(ordered, NO_FLAG - 1).astype(np.int8),
        np.where(failed, NO_FLAG, flag).astype(np.int8), reading_times(means, department, random), last,
        last + modality.quiet_s, np.full(n, modality.compute_s), failed | (len(modality.detectors) == 0),
        random.random(n) < department.flag_noticed)


def flag_ranks(
    detectors: Sequence[Detector], condition: NDArray[np.int64], names: Sequence[str], random: np.random.Generator,
) -> NDArray[np.int64]:
    """Return the most urgent rank that any detector asks for, (n,), NO_FLAG where none fires.

    A detector fires with its sensitivity where its condition is, else with one minus its specificity; detectors err
    independently of each other, so several of them flag more studies without a condition than one.
    """
    rank = np.full(condition.size, NO_FLAG)
    for detector in detectors:
        there = condition == (names.index(detector.finding) if detector.finding in names else -2)
        chance = np.where(there, detector.sensitivity, 1 - detector.specificity)
        fires = random.random(condition.size) < chance
        rank = np.where(fires, np.minimum(rank, detector.urgency.rank), rank)
    return rank


def reading_times(means_s: Floats, department: Department, random: np.random.Generator) -> Floats:
    """Return a reading time for each mean, (n,) seconds, scattered as the department says."""
    if department.shape is Shape.EXPONENTIAL:
        return means_s * random.exponential(size=means_s.size)
    if department.shape is Shape.CONSTANT or department.spread == 0:
        return means_s.astype(np.float64)
    sigma = math.sqrt(math.log1p(department.spread**2))
    return means_s * random.lognormal(-sigma * sigma / 2, sigma, means_s.size)


def _pick(random: np.random.Generator, n: int, shares: Sequence[float]) -> NDArray[np.int64]:
    """Draw an index by its share; what is left of 1 is the index after the last."""
    return np.searchsorted(np.cumsum(shares), random.random(n), side="right")
