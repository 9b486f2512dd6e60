"""Read the masks of an earlier study back from its Segmentation (PS3.3 A.51, BINARY), as we made it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset

from service.domain import codes
from service.follow.grid import Grid

Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Marked:
    """What a segmentation marked: the lungs and what is abnormal in them, (z, y, x) each, on one grid."""

    grid: Grid
    right: Mask
    left: Mask
    abnormal: Mask

    @property
    def lungs(self) -> Mask:
        """Both lungs."""
        return self.right | self.left


class Unreadable(ValueError):
    """A file that is no Segmentation of ours. The text says what is wrong."""


def read_segmentation(path: Path) -> Marked:
    """Read a Segmentation that this service made.  Raises: Unreadable, OSError."""
    made = dcmread(path)
    try:
        return _read(made)
    except (AttributeError, KeyError, IndexError, ValueError) as error:
        raise Unreadable(f"not a segmentation of ours ({type(error).__name__})") from error


def _read(made: Dataset) -> Marked:
    frames = made.PerFrameFunctionalGroupsSequence
    origins = np.array([f.PlanePositionSequence[0].ImagePositionPatient for f in frames], np.float64)
    shared = made.SharedFunctionalGroupsSequence[0]
    orientation = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, np.float64)
    across = np.cross(orientation[:3], orientation[3:])
    heights = np.round(origins @ across, 3)
    levels, first, slices = np.unique(heights, return_index=True, return_inverse=True)
    measures = shared.PixelMeasuresSequence[0]
    spacing = float(measures.get("SpacingBetweenSlices") or measures.SliceThickness), *map(float, measures.PixelSpacing)
    shape = len(levels), int(made.Rows), int(made.Columns)
    grid = Grid(origins[first], orientation[:3], orientation[3:], (spacing[0], spacing[1], spacing[2]), shape)
    masks = {part: np.zeros(shape, np.bool_) for part in ("right", "left", "abnormal")}
    parts = {int(s.SegmentNumber): _part(s) for s in made.SegmentSequence}
    for n, frame in enumerate(frames):
        part = parts[int(frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber)]
        if part:
            masks[part][slices[n]] |= _plane(made, n)
    return Marked(grid, masks["right"], masks["left"], masks["abnormal"])


def _part(segment: Dataset) -> str:
    """Return which mask a segment belongs to, "" for none."""
    if segment.SegmentedPropertyCategoryCodeSequence[0].CodeValue == codes.MORPHOLOGICALLY_ABNORMAL.value:
        return "abnormal"
    sides = segment.SegmentedPropertyTypeCodeSequence[0].get("SegmentedPropertyTypeModifierCodeSequence") or []
    values = {side.CodeValue for side in sides}
    return "right" if codes.RIGHT.value in values else "left" if codes.LEFT.value in values else ""


def _plane(made: Dataset, number: int) -> Mask:
    """Unpack one frame: a bit for each pixel, the first in the lowest, frames without a gap (PS3.5 8.1.1)."""
    size = int(made.Rows) * int(made.Columns)
    start = number * size
    packed = np.frombuffer(made.PixelData, np.uint8, offset=start // 8, count=-(-(start % 8 + size) // 8))
    bits = np.unpackbits(packed, bitorder="little")[start % 8:start % 8 + size]
    plane: Mask = bits.reshape(int(made.Rows), int(made.Columns)).view(np.bool_)
    return plane
