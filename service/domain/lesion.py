"""A lesion and its course: what was found at which place, and what became of it since an earlier study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

Point = tuple[float, float, float]
"""A place in patient coordinates (PS3.3 C.7.6.2.1.1): x to the left, y to posterior, z to the head, mm."""

CHANGED_SHARE = 0.25
"""A volume counts as changed from this share of the earlier one; below lie the differences of one and the same scan."""
CHANGED_ML = 0.5
"""And from this volume, in ml: of a speck a quarter is nothing."""


class Course(StrEnum):
    """What became of a lesion since an earlier study."""

    NEW = "new"
    GROWN = "grown"
    STEADY = "unchanged"
    SHRUNK = "shrunk"
    GONE = "gone"
    MERGED = "merged"


@dataclass(frozen=True)
class Lesion:
    """One lesion: marked voxels that touch each other, or several such pieces that were one lesion before.

    number: from 1, the largest first; tracking_uid: Tracking Unique Identifier, kept over time; centre_mm: its centre;
    seeds_mm: a voxel of each piece, by which it is found again in the Segmentation; side: "Right", "Left" or "" on both;
    sop_instance_uid: the slice in which it is largest.
    """

    number: int
    tracking_uid: str
    volume_ml: float
    centre_mm: Point
    seeds_mm: tuple[Point, ...]
    side: str
    sop_instance_uid: str

    @property
    def name(self) -> str:
        """How the report and the page call it: "lesion 1"."""
        return f"lesion {self.number}"

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary of JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Lesion:
        """Read back what `to_json` made."""
        return cls(stored["number"], stored["tracking_uid"], stored["volume_ml"], _point(stored["centre_mm"]),
                   tuple(_point(s) for s in stored["seeds_mm"]), stored["side"], stored["sop_instance_uid"])


@dataclass(frozen=True)
class Followed:
    """What became of one lesion. number: in this study, 0 where it is gone; of a merged one, of the lesion it went into.

    then_ml, now_ml: its volume; of a lesion that others went into, then_ml is that of all of them. side: as of `Lesion`.
    """

    tracking_uid: str
    number: int
    course: Course
    then_ml: float
    now_ml: float
    side: str = ""

    @property
    def difference_ml(self) -> float:
        """Now less then, ml."""
        return self.now_ml - self.then_ml


@dataclass(frozen=True)
class Alignment:
    """How two studies were laid over each other, by the masks of the lungs.

    overlap: share of the smaller lungs, 0..1, that lies in the other; shift_mm: of the lungs' centre; rotation_deg.
    """

    overlap: float
    shift_mm: float
    rotation_deg: float


@dataclass(frozen=True)
class Following:
    """The lesions of this study and of an earlier one beside each other; why_not: why they could not be, "" where they
    were."""

    lesions: tuple[Followed, ...] = ()
    alignment: Alignment | None = None
    why_not: str = ""

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Following:
        """Read back what `dataclasses.asdict` made."""
        aligned = stored.get("alignment")
        return cls(tuple(Followed(**{**f, "course": Course(f["course"])}) for f in stored.get("lesions", ())),
                   Alignment(**aligned) if aligned else None, stored.get("why_not", ""))


def course_of(then_ml: float, now_ml: float) -> Course:
    """Return what a change of volume is called: by its share and by its size."""
    least = max(CHANGED_ML, CHANGED_SHARE * then_ml)
    if abs(now_ml - then_ml) < least:
        return Course.STEADY
    return Course.GROWN if now_ml > then_ml else Course.SHRUNK


def _point(stored: Any) -> Point:
    x, y, z = stored
    return float(x), float(y), float(z)
