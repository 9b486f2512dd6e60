"""Where the voxels of a stack of slices lie in the patient, and which voxel lies at a place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
"""(n, 3) patient coordinates, mm."""
Indices = NDArray[np.intp]
"""(n, 3) slice, row, column."""


@dataclass(frozen=True, eq=False)
class Grid:
    """A stack of slices in order (PS3.3 C.7.6.2.1.1).

    origins: (z, 3) the centre of the first voxel of each slice, mm; along_columns, along_rows: unit vectors in which the
    column and the row number grow; spacing_mm: (between slices, between rows, between columns); shape: (z, y, x).
    """

    origins: Points
    along_columns: Points
    along_rows: Points
    spacing_mm: tuple[float, float, float]
    shape: tuple[int, int, int]

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel, ml."""
        return float(np.prod(self.spacing_mm)) / 1000.0

    @property
    def normal(self) -> Points:
        """The unit vector across the slices, in the direction in which their number grows."""
        across = np.cross(self.along_columns, self.along_rows)
        return across if float((self.origins[-1] - self.origins[0]) @ across) >= 0 else -across

    def places(self, indices: Indices) -> Points:
        """Return where voxels lie."""
        _, row_mm, column_mm = self.spacing_mm
        across: Points = (self.origins[indices[:, 0]] + indices[:, 1:2] * row_mm * self.along_rows
                          + indices[:, 2:3] * column_mm * self.along_columns)
        return across

    def indices(self, places: Points) -> tuple[Indices, NDArray[np.bool_]]:
        """Return the voxel nearest to each place, and which places lie in the stack: of others the index means nothing."""
        heights, depths = self.origins @ self.normal, places @ self.normal
        z = np.clip(np.searchsorted(_middles(heights), depths), 0, len(heights) - 1)
        inside = np.abs(depths - heights[z]) <= 0.75 * self.spacing_mm[0]
        away = places - self.origins[z]
        y = np.rint(away @ self.along_rows / self.spacing_mm[1]).astype(np.intp)
        x = np.rint(away @ self.along_columns / self.spacing_mm[2]).astype(np.intp)
        inside &= (y >= 0) & (y < self.shape[1]) & (x >= 0) & (x < self.shape[2])
        return np.stack((z, np.where(inside, y, 0), np.where(inside, x, 0)), axis=1), inside

    def values(self, volume: NDArray[np.generic], places: Points) -> NDArray[np.generic]:
        """Return the value of a volume, on this grid, at each place; 0 beside the stack."""
        found, inside = self.indices(places)
        values = volume[found[:, 0], found[:, 1], found[:, 2]]
        values[~inside] = 0
        return values


def _middles(heights: NDArray[np.float64]) -> NDArray[np.float64]:
    return (heights[1:] + heights[:-1]) / 2
