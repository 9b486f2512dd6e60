"""Whose wait is told: the groups of studies that the result has a row for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.domain.urgency import Urgency
from service.simulate.arrivals import NO_FLAG, Workload, conditions
from service.simulate.department import Department

ALL = "all studies"
TOLD = "with a condition that the AI tells"
TOLD_ROUTINE = "with such a condition, ordered routine or low"
UNTOLD = "with a condition that no bundle tells"
WITHOUT = "without a condition"
FLAGGED = "flagged by the AI"
NOT_FLAGGED = "not flagged"


@dataclass(frozen=True, eq=False)
class Group:
    """Some of the studies of a replication. kind: all, truth, flag, ordered, modality or condition; studies: (n,) bool."""

    kind: str
    name: str
    studies: NDArray[np.bool_]


def groups(department: Department, load: Workload) -> Iterator[Group]:
    """Yield the groups in the order in which they are shown; always the same ones for one department."""
    names = conditions(department)
    told_names = {d.finding for m in department.modalities for d in m.detectors}
    sick = load.condition >= 0
    told = np.isin(load.condition, [number for number, name in enumerate(names) if name in told_names])
    yield Group("all", ALL, np.ones(load.size, bool))
    yield Group("truth", TOLD, told)
    yield Group("truth", TOLD_ROUTINE, told & (load.ordered_rank >= Urgency.ROUTINE.rank))
    yield Group("truth", UNTOLD, sick & ~told)
    yield Group("truth", WITHOUT, ~sick)
    yield Group("flag", FLAGGED, load.flag_rank < NO_FLAG)
    yield Group("flag", NOT_FLAGGED, load.flag_rank == NO_FLAG)
    for urgency in Urgency:
        yield Group("ordered", f"ordered {urgency.value}", load.ordered_rank == urgency.rank)
    for number, modality in enumerate(department.modalities):
        yield Group("modality", modality.name, load.modality == number)
    for number, name in enumerate(names):
        yield Group("condition", name, load.condition == number)
