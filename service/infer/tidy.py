"""Small repairs of masks: gaps, specks, patches of a single slice, and the way from a coarse grid to the fine one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import cc3d
import cv2
import numpy as np
from numpy.typing import NDArray

from service.domain.box import box_of
from service.domain.room import SPARE

Mask = NDArray[np.bool_]
Result = TypeVar("Result")
SQUARE = np.ones((3, 3), np.uint8)
_MOST_WORKERS = 4


def each(work: Callable[[int], Result], numbers: Iterable[int]) -> list[Result]:
    """Do some work for each slice, by its number, on a few threads; returns the results in order.

    It pays where the work is numpy's and OpenCV's, for these let other threads run.
    """
    workers = min(_MOST_WORKERS, os.cpu_count() or 1)
    parts = np.array_split(np.fromiter(numbers, np.intp), 4 * workers)
    with ThreadPoolExecutor(workers, "slices") as pool:
        return [one for done in pool.map(lambda part: [work(int(n)) for n in part], parts) for one in done]


def coarse_step(slices: NDArray[np.generic]) -> int:
    """Return the step that samples (z, y, x) to about 256 pixels a side: components are searched on that grid."""
    return max(1, round(int(min(slices.shape[1:])) / 256))


def carried(coarse: NDArray[np.unsignedinteger[Any]], mask: Mask, step: int,
            values: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
    """Carry values from the coarse grid to the voxels of a fine mask; all else is 0.

    An edge pixel of the mask that no coarse one met takes the (largest) value of its neighbours. values: of the numbers that
    coarse holds, where these are not the values themselves.
    """
    rows, columns = mask.shape[1:]
    fine: NDArray[np.uint8] = SPARE.empty(mask.shape, np.uint8)

    def raise_slice(k: int) -> None:
        here = np.ascontiguousarray(coarse[k] if values is None else values[coarse[k]])
        if not here.any():
            fine[k] = 0
            return
        wide = np.where(here > 0, here, cv2.dilate(here, SQUARE))
        raised = cv2.resize(wide, None, fx=step, fy=step, interpolation=cv2.INTER_NEAREST) if step > 1 else wide
        np.multiply(raised[:rows, :columns], mask[k], out=fine[k])

    each(raise_slice, range(len(mask)))
    return fine


def without_holes(mask: Mask, max_hole_px: float) -> Mask:
    """Fill the gaps of a slice that the mask encloses, up to an area; (y, x) in and out."""
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    place = slice(top, top + height), slice(left, left + width)
    gaps = np.pad(~mask[place], 1, constant_values=True).view(np.uint8)
    count, labels = cv2.connectedComponents(gaps, connectivity=4)
    if count <= 2:  # the mask itself, and all around it
        return mask
    small = np.bincount(labels.ravel(), minlength=count) <= max_hole_px
    small[0] = small[labels[0, 0]] = False  # 0: the mask itself; the corner: outside
    if not small.any():
        return mask
    filled = mask.copy()
    filled[place] |= small[labels[1:-1, 1:-1]]
    return filled


def labelled(mask: Mask) -> tuple[NDArray[np.unsignedinteger[Any]], int]:
    """Number the components of a mask, faces touching, in the order of their first voxels.

    mask: (z, y, x). Returns the number of each voxel's component, from 1, 0 outside of the mask; and how many there are.
    """
    if not mask.size:
        return np.zeros(mask.shape, np.uint16), 0
    return cc3d.connected_components(np.ascontiguousarray(mask).view(np.uint8), connectivity=6, return_N=True)


@dataclass(frozen=True, eq=False)
class Components:
    """The 3D components of a mask, faces touching.

    places: (n,) of the marked voxels in the flattened mask, in order; numbers: (n,) their component, from 1; shape: of
    the mask.
    """

    places: NDArray[np.intp]
    numbers: NDArray[np.int32]
    shape: tuple[int, ...]

    @classmethod
    def of(cls, mask: Mask) -> Components:
        """Find them. mask: (z, y, x)."""
        box = box_of(mask)
        if box is None:
            return cls(np.zeros(0, np.intp), np.zeros(0, np.int32), mask.shape)
        labels, _ = labelled(mask[box])
        return cls(np.flatnonzero(mask), labels[mask[box]].astype(np.int32), mask.shape)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """The voxels of each component, by its number; 0 has none."""
        return np.bincount(self.numbers, minlength=1)

    def medians(self, values: NDArray[np.float32]) -> NDArray[np.float64]:
        """The median of each component's voxels, by its number; values: of the mask's shape."""
        medians = np.full(len(self.sizes), np.nan)
        inside = values[np.unravel_index(self.places, self.shape)]
        order = np.argsort(self.numbers, kind="stable")
        for part in np.split(order, np.flatnonzero(np.diff(self.numbers[order])) + 1):
            if len(part):
                medians[self.numbers[part[0]]] = np.median(inside[part])
        return medians

    def only(self, kept: NDArray[np.bool_]) -> Components:
        """Keep components by their numbers, which stay. kept: as long as `sizes`."""
        inside = kept[self.numbers]
        return Components(self.places[inside], self.numbers[inside], self.shape)

    def sampled(self, step: int) -> Mask:
        """Return the mask of these components in every slice, and there in every `step`-th row and column."""
        z, y, x = np.unravel_index(self.places, self.shape)
        met = (y % step == 0) & (x % step == 0)
        mask = np.zeros((self.shape[0], -(-self.shape[1] // step), -(-self.shape[2] // step)), np.bool_)
        mask[z[met], y[met] // step, x[met] // step] = True
        return mask


def without_single_slices(mask: Mask, spacing_mm: tuple[float, float, float], reach_mm: float = 2.5) -> Mask:
    """Remove what no slice about `reach_mm` above or below bears out, within 2 mm in the plane; (z, y, x) in and out.

    A network that sees one slice at a time is at times alone with its opinion. Slices further apart than twice the reach
    cannot bear each other out, and stay as they are.
    """
    if spacing_mm[0] > 2 * reach_mm or not mask.any():
        return mask
    offset = max(1, round(reach_mm / spacing_mm[0]))
    radius = max(1, round(2.0 / min(spacing_mm[1:])))
    square = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    marked = np.array([one.any() for one in mask])
    result: Mask = SPARE.empty(mask.shape, np.bool_)

    def bear_out(k: int) -> None:
        if not marked[k]:
            result[k] = False
            return
        neighbours = [mask[n] for n in (k - offset, k + offset) if 0 <= n < len(mask)]
        beside = np.logical_or.reduce(neighbours) if neighbours else mask[k]
        np.logical_and(mask[k], cv2.dilate(beside.view(np.uint8), square).view(np.bool_), out=result[k])

    each(bear_out, range(len(mask)))
    return result
