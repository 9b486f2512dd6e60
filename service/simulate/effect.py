"""Runs the replications and puts them together: who waits how long under each order, with intervals.

Intervals are 95 %, by Student's t over independent replications. Every policy sees the same studies, reading times and
flags in a replication, so differences are paired and their intervals are narrow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.domain.urgency import Urgency
from service.simulate.arrivals import HOUR_S, Floats, Workload, draw
from service.simulate.department import HOURS, Department
from service.simulate.groups import TOLD, WITHOUT, groups
from service.simulate.intervals import Estimate, estimate
from service.simulate.queue import Looked, look
from service.simulate.reading import Policy, read

COOL_DOWN_H = 48
"""Arrivals after the counted time, so that the last counted studies are passed by later ones as all others are."""
CURVE_MIN = tuple(float(x) for x in (*range(0, 60, 5), *range(60, 241, 10), *range(270, 1441, 30)))
CURVES = (TOLD, WITHOUT)


@dataclass(frozen=True)
class Length:
    """How much is simulated: replications of so many counted weeks, each after a warm-up of so many weeks from empty."""

    replications: int = 20
    weeks: int = 3
    warm_up_weeks: int = 1

    @property
    def hours(self) -> int:
        """Hours simulated in one replication."""
        return (self.weeks + self.warm_up_weeks) * HOURS + COOL_DOWN_H

    def counted(self, load: Workload) -> NDArray[np.bool_]:
        """Return which studies count, (n,) bool."""
        since_s = self.warm_up_weeks * HOURS * HOUR_S
        return (load.arrived_s >= since_s) & (load.arrived_s < since_s + self.weeks * HOURS * HOUR_S)


@dataclass(frozen=True)
class Measures:
    """Waits of one group, seconds: mean, 95th percentile and longest of a replication; gain: mean less that of FIFO."""

    mean: Estimate
    p95: Estimate
    longest: Estimate
    gain: Estimate


@dataclass(frozen=True)
class Row:
    """One group under every policy. studies: how many in all replications."""

    kind: str
    name: str
    studies: int
    waits: dict[Policy, Measures]


@dataclass(frozen=True)
class Notification:
    """What the AI does for one modality and ordered urgency, seconds. passed: less urgent studies overtaken, for each
    study of the row."""

    modality: str
    urgency: str
    studies: int
    to_result: Estimate
    to_result_p95: Estimate
    queue_wait: Estimate
    passed: Estimate


@dataclass(frozen=True)
class Effect:
    """The result. curves: by group and policy, the share of studies whose reading has begun after CURVE_MIN minutes."""

    department: Department
    length: Length
    seed: int
    studies: int
    rows: tuple[Row, ...]
    notifications: tuple[Notification, ...]
    curves: dict[str, dict[Policy, tuple[float, ...]]]
    history: str = ""

    def row(self, name: str) -> Row:
        """Return the row of a group. Raises: KeyError when there is no such group."""
        return {row.name: row for row in self.rows}[name]


class NothingArrived(ValueError):
    """No study came in the counted time of any replication: there is nothing to tell."""


Source = Callable[[np.random.Generator], tuple[Workload, Looked, NDArray[np.bool_]]]
"""Makes one replication: its studies, what the models' queue did with them, and which of them count."""


def drawn(department: Department, length: Length) -> Source:
    """Return a source of studies drawn from a department's figures."""

    def source(random: np.random.Generator) -> tuple[Workload, Looked, NDArray[np.bool_]]:
        load = draw(department, length.hours, random)
        return load, look(load, department.targets_s, department.ai.engines), length.counted(load)

    return source


def simulate(department: Department, length: Length, seed: int, source: Source | None = None, history: str = "",
             progress: Callable[[int], None] = lambda _done: None) -> Effect:
    """Run every replication under every policy.

    source: the studies of a replication, drawn from the department's figures when None; history: what they are, in words.
    progress: called with the number of replications that are done. Raises: NothingArrived.
    """
    make = source or drawn(department, length)
    gathered = _Gathered(department)
    for number, child in enumerate(np.random.SeedSequence(seed).spawn(length.replications)):
        load, looked, counted = make(np.random.default_rng(child))
        gathered.add(load, looked, counted)
        progress(number + 1)
    if not gathered.studies:
        raise NothingArrived("no study came in the simulated weeks; raise per_weekday of a modality, or simulate more weeks")
    return Effect(department, length, seed, gathered.studies, gathered.rows(), gathered.notifications(),
                  gathered.curves(), history)


class _Gathered:
    """The numbers of each replication, until they are put together."""

    def __init__(self, department: Department) -> None:
        self._department = department
        self.studies = 0
        self._kinds: dict[str, str] = {}
        self._counts: dict[str, int] = {}
        self._waits: dict[tuple[str, Policy], list[tuple[float, float, float]]] = {}
        self._told: dict[tuple[int, int], list[tuple[float, float, float, float]]] = {}
        self._told_counts: dict[tuple[int, int], int] = {}
        self._curves: dict[tuple[str, Policy], NDArray[np.int64]] = {}

    def add(self, load: Workload, looked: Looked, counted: NDArray[np.bool_]) -> None:
        """Take one replication in."""
        self.studies += int(counted.sum())
        of = [(group, group.studies & counted) for group in groups(self._department, load)]
        for group, members in of:
            self._kinds[group.name] = group.kind
            self._counts[group.name] = self._counts.get(group.name, 0) + int(members.sum())
        for policy in Policy:
            started = read(load, looked.result_s, policy, self._department.readers, self._department.longest_wait_s)
            waited = started - load.arrived_s
            for group, members in of:
                self._waits.setdefault((group.name, policy), []).append(_summary(waited[members]))
                if group.name in CURVES:
                    found = np.searchsorted(np.sort(waited[members]), np.array(CURVE_MIN) * 60, side="right")
                    self._curves[group.name, policy] = self._curves.get((group.name, policy), 0) + found
        self._add_notifications(load, looked, counted)

    def _add_notifications(self, load: Workload, looked: Looked, counted: NDArray[np.bool_]) -> None:
        for number, modality in enumerate(self._department.modalities):
            if not modality.detectors:
                continue
            for urgency in Urgency:
                members = counted & (load.modality == number) & (load.ordered_rank == urgency.rank)
                to_result = (looked.result_s - load.last_image_s)[members & ~load.failed]
                mean, p95, _ = _summary(to_result)
                asked = members & ~np.isnan(looked.started_s)
                wait, passed = (looked.started_s - load.queued_s)[asked], looked.passed[asked]
                self._told.setdefault((number, urgency.rank), []).append(
                    (mean, p95, float(wait.mean()) if wait.size else np.nan, float(passed.mean()) if wait.size else np.nan))
                key = (number, urgency.rank)
                self._told_counts[key] = self._told_counts.get(key, 0) + int(members.sum())

    def rows(self) -> tuple[Row, ...]:
        """Return a row for each group that has any study."""
        return tuple(self._row(name) for name, count in self._counts.items() if count)

    def _row(self, name: str) -> Row:
        fifo = np.array(self._waits[name, Policy.FIFO])
        waits = {}
        for policy in Policy:
            values = np.array(self._waits[name, policy])
            mean, p95, longest = (estimate(values[:, column]) for column in range(3))
            waits[policy] = Measures(mean, p95, longest, estimate(values[:, 0] - fifo[:, 0]))
        return Row(self._kinds[name], name, self._counts[name], waits)

    def notifications(self) -> tuple[Notification, ...]:
        """Return a row for each modality and urgency that the models look at."""
        urgencies = list(Urgency)
        return tuple(
            Notification(self._department.modalities[number].name, urgencies[rank].value, self._told_counts[number, rank],
                         *(estimate(column) for column in np.array(values).T))
            for (number, rank), values in self._told.items() if self._told_counts[number, rank])

    def curves(self) -> dict[str, dict[Policy, tuple[float, ...]]]:
        """Return the share that has been begun after each of CURVE_MIN minutes."""
        return {
            name: {policy: tuple((self._curves[name, policy] / self._counts[name]).tolist()) for policy in Policy}
            for name in CURVES if self._counts.get(name)}


def _summary(values: Floats) -> tuple[float, float, float]:
    """Return mean, 95th percentile and maximum; NaN for none."""
    if not values.size:
        return (np.nan, np.nan, np.nan)
    return (float(values.mean()), float(np.quantile(values, 0.95)), float(values.max()))
