"""Read the masks of an earlier study back from its Segmentation (PS3.3 A.51, BINARY), as we made it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset

from service.domain import codes
from service.domain.room import SPARE
from service.follow.grid import Grid

Mask = NDArray[np.bool_]
RIGHT, LEFT, ABNORMAL = 1, 2, 4
_SLICES = 16


@dataclass(frozen=True, eq=False)
class Marked:
    """What a segmentation marked, on one grid: no mask is made of it but where one is asked for.

    marks: (z, y, x) uint8; right, left, abnormal: the bits in it of the lungs and of what is abnormal in them.
    """

    grid: Grid
    marks: NDArray[np.uint8]
    right: int = RIGHT
    left: int = LEFT
    abnormal: int = ABNORMAL

    def lungs(self) -> Mask:
        """Return the mask of both lungs."""
        mask: Mask = SPARE.empty(self.marks.shape, np.bool_)
        bits = np.uint8(self.right | self.left)
        for z in range(0, len(mask), _SLICES):  # few large steps: after each of many small ones it would wait for Python
            np.not_equal(self.marks[z:z + _SLICES] & bits, 0, out=mask[z:z + _SLICES])
        return mask

    def count(self, bits: int, places: tuple[NDArray[np.intp], ...]) -> int:
        """Return how many of the places, (z, y, x), carry any of the bits."""
        return int(np.count_nonzero(self.marks[places] & np.uint8(bits)))


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
    marks: NDArray[np.uint8] = SPARE.zeros(shape, np.uint8)
    parts = {int(s.SegmentNumber): _part(s) for s in made.SegmentSequence}
    for n, frame in enumerate(frames):
        part = parts[int(frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber)]
        if part:
            marks[slices[n]] |= _plane(made, n) * np.uint8(part)
    return Marked(grid, marks)


def _part(segment: Dataset) -> int:
    """Return which bit a segment is, 0 for none."""
    if segment.SegmentedPropertyCategoryCodeSequence[0].CodeValue == codes.MORPHOLOGICALLY_ABNORMAL.value:
        return ABNORMAL
    sides = segment.SegmentedPropertyTypeCodeSequence[0].get("SegmentedPropertyTypeModifierCodeSequence") or []
    values = {side.CodeValue for side in sides}
    return RIGHT if codes.RIGHT.value in values else LEFT if codes.LEFT.value in values else 0


def _plane(made: Dataset, number: int) -> NDArray[np.uint8]:
    """Unpack one frame: a bit for each pixel, the first in the lowest, frames without a gap (PS3.5 8.1.1)."""
    size = int(made.Rows) * int(made.Columns)
    start = number * size
    packed = np.frombuffer(made.PixelData, np.uint8, offset=start // 8, count=-(-(start % 8 + size) // 8))
    bits = np.unpackbits(packed, bitorder="little")[start % 8:start % 8 + size]
    return bits.reshape(int(made.Rows), int(made.Columns))
