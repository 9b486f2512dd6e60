"""The box that a mask fills, so that what is done with the mask is done there only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Place = tuple[slice, slice, slice]


def box_of(mask: NDArray[np.generic], step: int = 1, bits: int = 0xFF) -> Place | None:
    """Return the smallest box that holds every voxel with any of the bits; rows and columns begin at a multiple of `step`.

    mask: (z, y, x) of a bool or uint8; None when no voxel has any.
    """
    plane = np.zeros(mask.shape[1:], np.uint8)
    marked = np.zeros(len(mask), np.bool_)
    for k, values in enumerate(mask.view(np.uint8)):
        here = values if bits == 0xFF else values & np.uint8(bits)
        marked[k] = bool(here.any())
        if marked[k]:
            np.bitwise_or(plane, here, out=plane)
    if not marked.any():
        return None
    slices, rows, columns = (np.flatnonzero(a) for a in (marked, plane.any(axis=1), plane.any(axis=0)))
    return (slice(int(slices[0]), int(slices[-1]) + 1), slice(int(rows[0]) // step * step, int(rows[-1]) + 1),
            slice(int(columns[0]) // step * step, int(columns[-1]) + 1))
