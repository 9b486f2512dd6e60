"""Work items of a Unified Procedure Step manager (PS3.4 CC): what is asked for, and how far we are with it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

PRIORITIES = ("HIGH", "MEDIUM", "LOW")
"""Scheduled Procedure Step Priority (0074,1200), most urgent first; as an ordered priority it says the same."""


class ItemState(StrEnum):
    """How far we are with a work item.

    CLAIMING: our claim was written down, and perhaps sent; its answer is not known. OURS: IN PROGRESS under our
    transaction. COMPLETED, CANCELED: its final state, set by us. LOST: it is somebody else's, or gone.
    """

    CLAIMING = "claiming"
    OURS = "ours"
    COMPLETED = "completed"
    CANCELED = "canceled"
    LOST = "lost"


OPEN_ITEMS = (ItemState.CLAIMING.value, ItemState.OURS.value)


@dataclass(frozen=True)
class Offered:
    """A work item that a manager lists. codes: its scheduled work item codes, and stations: those it is scheduled for, each
    "VALUE^SCHEME"; study_instance_uids: of its input; ready: Input Readiness State is READY, or not told."""

    uid: str
    priority: str
    codes: frozenset[str]
    stations: frozenset[str]
    study_instance_uids: tuple[str, ...]
    ready: bool

    def is_for(self, codes: Collection[str], station: str) -> bool:
        """Tell whether it asks for what we do, of us or of anybody, on one study that is there."""
        return (self.ready and len(self.study_instance_uids) == 1 and bool(self.codes & set(codes))
                and (not self.stations or station in self.stations))

    @property
    def rank(self) -> int:
        """Place by priority, 0 first."""
        return PRIORITIES.index(self.priority) if self.priority in PRIORITIES else 1


@dataclass(frozen=True)
class Created:
    """One object that came of a work item. retrieve_ae_title: of where it was stored, "" nowhere yet."""

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    retrieve_ae_title: str = ""


@dataclass(frozen=True)
class Performance:
    """What was done: when (Unix time, seconds), and what came of it."""

    study_instance_uid: str
    began_at: float
    ended_at: float
    created: tuple[Created, ...]
