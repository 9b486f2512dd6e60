"""Slices turned as a radiologist sees them, and masks turned back (PS3.3 C.7.6.2.1.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from service.domain.study import VolumeGeometry


@dataclass(frozen=True)
class Presentation:
    """How the source grid is turned so that rows run toward posterior and columns toward the patient's left.

    transpose: rows and columns change places first; then each axis is flipped or not. ascends: the stack runs toward
    the head. Only views are made.
    """

    transpose: bool
    flip_rows: bool
    flip_columns: bool
    ascends: bool

    @classmethod
    def of(cls, geometry: VolumeGeometry) -> Presentation:
        """Read it from the orientation and the normal of a volume."""
        return cls.along(geometry.orientation, geometry.normal[2] > 0)

    @classmethod
    def along(cls, orientation: Sequence[float], ascends: bool) -> Presentation:
        """Read it from Image Orientation (Patient): x grows to the left, y to posterior, z to the head."""
        along_columns, along_rows = tuple(orientation[:3]), tuple(orientation[3:])
        transpose = abs(along_rows[0]) > abs(along_columns[0])
        if transpose:
            along_columns, along_rows = along_rows, along_columns
        return cls(transpose, along_rows[1] < 0, along_columns[0] < 0, ascends)

    def turn(self, slices: NDArray[Any]) -> NDArray[Any]:
        """Turn (z, y, x) of the source grid; the order of the slices stays."""
        turned = slices.swapaxes(-1, -2) if self.transpose else slices
        return self._flip(turned)

    def turn_back(self, slices: NDArray[Any]) -> NDArray[Any]:
        """Undo `turn`."""
        flipped = self._flip(slices)
        return flipped.swapaxes(-1, -2) if self.transpose else flipped

    def _flip(self, slices: NDArray[Any]) -> NDArray[Any]:
        return slices[..., :: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1]
