"""The slices of a CT series that arrives, as far as their headers tell: worth reading ahead, and which of them next."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from service.assemble.choose import THIN_MM
from service.assemble.geometry import AXIAL_COSINE
from service.domain.study import CT_IMAGE_STORAGE, Header
from service.pipeline.slices_ct import SliceFile

_LEAST_PX, _MOST_PX = 64, 2048


def worth_reading(header: Header) -> bool:
    """Tell whether an image may be a slice that a model will read; the geometry of its series is judged later."""
    return (header.sop_class_uid == CT_IMAGE_STORAGE and (header.number_of_frames or 1) == 1
            and "LOCALIZER" not in header.image_type[2:3]
            and header.image_type[:1] != ("DERIVED",) and header.image_type[1:2] != ("SECONDARY",)
            and bool(header.rescale_slope) and header.rescale_intercept is not None
            and all(_LEAST_PX <= (n or 0) <= _MOST_PX for n in (header.rows, header.columns))
            and _height(header) is not None)


def _normal(header: Header) -> tuple[float, float, float] | None:
    if len(header.image_orientation_patient) != 6 or not all(map(math.isfinite, header.image_orientation_patient)):
        return None
    orientation = np.array(header.image_orientation_patient)
    x, y, z = np.cross(orientation[:3], orientation[3:])
    return (float(x), float(y), float(z)) if abs(z) >= AXIAL_COSINE else None


def _height(header: Header) -> float | None:
    """Return where an axial slice lies along its normal, mm; None when it is not axial, or does not say."""
    normal, position = _normal(header), header.image_position_patient
    if normal is None or len(position) != 3 or not all(map(math.isfinite, position)):
        return None
    return float(np.dot(normal, position))


@dataclass(eq=False)
class Series:
    """The slices of one series, by SOP Instance UID, and those that have not been read, in the order they came."""

    files: dict[str, SliceFile] = field(default_factory=dict)
    pending: dict[str, float] = field(default_factory=dict)
    heights_mm: list[float] = field(default_factory=list)
    ascends: bool = True

    def add(self, file: SliceFile) -> None:
        """Take a slice in; one of another size or orientation than the first is left out, for the series will be refused."""
        first = next(iter(self.files.values()), file).header
        height_mm, normal = _height(file.header), _normal(file.header)
        if height_mm is None or normal is None or (first.rows, first.columns) != (file.header.rows, file.header.columns) \
                or not np.allclose(first.image_orientation_patient, file.header.image_orientation_patient, atol=1e-3):
            return
        uid = file.header.sop_instance_uid
        self.ascends = normal[2] > 0
        self.files[uid], self.pending[uid] = file, height_mm
        self.heights_mm.append(height_mm)

    @property
    def spacing_mm(self) -> float:
        """The distance of the slices as far as they are here; their thickness while there are too few."""
        between = np.diff(np.unique(np.round(self.heights_mm, 3)))
        thickness = next(iter(self.files.values())).header.slice_thickness or THIN_MM
        return float(between.min()) if len(between) > 1 else thickness

    @property
    def place(self) -> tuple[bool, int]:
        """Which of several series is read first, the smallest: as `assemble.choose` prefers, but for what is not known."""
        number = next(iter(self.files.values())).header.series_number
        return self.spacing_mm > THIN_MM + 1e-3, number if number is not None else 1 << 31

    def next(self, most: int, first_look_mm: float) -> Sequence[SliceFile]:
        """Return the slices to read next: those of a first look before the others, then in the order they came."""
        between_mm = max(self.spacing_mm, 1e-3)
        step = max(1, int(first_look_mm / between_mm + 1e-6))
        early = [uid for uid, at in self.pending.items() if round(at / between_mm) % step == 0]
        chosen = (early or list(self.pending))[:most]
        return [self.files[uid] for uid in chosen]

    def done(self, uid: str) -> None:
        """Take note that a slice was read."""
        self.pending.pop(uid, None)

    def leave(self) -> None:
        """Read no more of what is here; what comes later is read again."""
        self.pending.clear()
