"""The pieces of a segmentation: marked voxels that touch each other, by faces, edges or corners."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cc3d
import numpy as np
from numpy.typing import NDArray

from service.domain.box import box_of
from service.domain.lesion import Lesion, Point
from service.follow.grid import Grid, Indices
from service.follow.kept import Marked

LEAST_ML = 0.1
"""Smaller pieces are not followed; they count in the volume of the whole."""
MOST = 30
"""So many lesions are followed, the largest."""
_NOTHING = np.zeros((0, 3), np.intp)


@dataclass(frozen=True, eq=False)
class Pieces:
    """The pieces of a mask that are followed.

    grid: of the mask; corner: of the box that labels is of, (z, y, x); labels: the number of each voxel's piece, from 1,
    the largest first, 0 none; volumes_ml: (pieces,).
    """

    grid: Grid
    corner: tuple[int, int, int]
    labels: NDArray[np.int32]
    volumes_ml: NDArray[np.float64]

    @property
    def count(self) -> int:
        """How many pieces there are."""
        return len(self.volumes_ml)

    def voxels(self, number: int) -> Indices:
        """Return the voxels of a piece in the order of the stack; 0: of all, piece by piece."""
        places, ends = self._by_piece
        some = places[ends[number - 1]:ends[number]] if number else places
        found: Indices = np.stack(np.unravel_index(some, self.labels.shape), axis=1) + np.asarray(self.corner)
        return found

    @cached_property
    def _by_piece(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The voxels in the flattened box, piece by piece, and where each piece ends; looked for once."""
        places = np.flatnonzero(self.labels)
        numbers = self.labels.ravel()[places]
        order = np.argsort(numbers, kind="stable")
        ends = np.concatenate(([0], np.cumsum(np.bincount(numbers, minlength=self.count + 1)[1:])))
        return places[order], ends.astype(np.intp)

    def at(self, place: Point) -> int:
        """Return the piece at a place, 0 where there is none."""
        return int(self.numbers(np.asarray([place]))[0])

    def numbers(self, places: NDArray[np.float64]) -> NDArray[np.int32]:
        """Return the piece at each of (n, 3) places, 0 where there is none."""
        found, inside = self.grid.indices(places)
        local = found - np.asarray(self.corner)
        inside &= ((local >= 0) & (local < np.asarray(self.labels.shape))).all(axis=1)
        local[~inside] = 0
        numbers = self.labels[local[:, 0], local[:, 1], local[:, 2]] if self.labels.size else np.zeros(len(places), np.int32)
        return np.where(inside, numbers, 0).astype(np.int32)


def pieces_of(mask: NDArray[np.generic], grid: Grid, bits: int = 0xFF) -> Pieces:
    """Find the pieces of a mask, (z, y, x) on the grid, bool or uint8: of the voxels with any of the bits."""
    box = box_of(mask, bits=bits)
    if box is None:
        return Pieces(grid, (0, 0, 0), np.zeros((0, 0, 0), np.int32), np.zeros(0))
    inside = (mask[box].view(np.uint8) & np.uint8(bits)) != 0
    found, count = cc3d.connected_components(inside.view(np.uint8), connectivity=26, return_N=True)
    places = np.flatnonzero(inside)  # numbers go as the first voxels of the pieces lie
    numbers_there = found.ravel()[places]
    sizes = np.bincount(numbers_there, minlength=count + 1)
    order = np.argsort(-sizes, kind="stable")  # of equal ones the first in the stack
    kept = [int(n) for n in order[:MOST] if sizes[n] * grid.voxel_ml >= LEAST_ML]
    numbers = np.zeros(count + 1, np.int32)
    numbers[kept] = np.arange(1, len(kept) + 1)
    corner = int(box[0].start), int(box[1].start), int(box[2].start)
    labels = np.zeros(found.shape, np.int32)
    labels.ravel()[places] = numbers[numbers_there]
    return Pieces(grid, corner, labels, sizes[kept] * np.float64(grid.voxel_ml))


def lesion_of(pieces: Pieces, numbers: Sequence[int], marked: Marked, sop_instance_uids: Sequence[str],
              tracking_uid: str = "") -> Lesion:
    """Describe the lesion that these pieces make up, as number 0.

    marked: what they are of, for their side; sop_instance_uids: of the slices in order.
    """
    voxels = np.concatenate([pieces.voxels(n) for n in numbers])
    where = voxels[:, 0], voxels[:, 1], voxels[:, 2]
    right, left = (marked.count(bits, where) for bits in (marked.right, marked.left))
    side = "Right" if right > 10 * left else "Left" if left > 10 * right else ""
    largest = int(np.bincount(voxels[:, 0]).argmax())
    return Lesion(
        number=0, tracking_uid=tracking_uid, volume_ml=round(float(pieces.volumes_ml[[n - 1 for n in numbers]].sum()), 3),
        centre_mm=_point(pieces.grid.places(voxels).mean(axis=0)),
        seeds_mm=tuple(_point(pieces.grid.places(pieces.voxels(n)[:1])[0]) for n in numbers), side=side,
        sop_instance_uid=sop_instance_uids[largest])


def _point(place: NDArray[np.float64]) -> Point:
    x, y, z = (round(float(v), 3) for v in place)
    return x, y, z
