"""From "lung somewhere" to right lung and left lung: components, sides, and lungs that touch.

Everything here sees slices as `Presentation` turns them: columns run toward the patient's left, so the right lung has
the smaller column. The search runs on a coarse grid of about 256 pixels; its result is carried to the fine one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from service.domain.room import SPARE
from service.infer.tidy import SQUARE, carried, coarse_step, each, labelled

RIGHT, LEFT = 1, 2

Mask = NDArray[np.bool_]
Sides = NDArray[np.uint8]
_BODY_HU = -300.0


@dataclass(frozen=True)
class LungRules:
    """What counts as lung.

    min_lungs_ml: less than this in all is no lung; min_component_ml: smaller pieces (bowel gas, noise) are dropped;
    touching_share: a piece with at least this share of itself on either side of the body's middle is two lungs that
    touch; longest_bridge_mm: half the width of the widest bridge between them; max_hole_mm2: enclosed gaps up to this
    area in a slice (vessels, small nodules) belong to the lung.
    """

    min_lungs_ml: float = 100.0
    min_component_ml: float = 10.0
    touching_share: float = 0.2
    longest_bridge_mm: float = 20.0
    max_hole_mm2: float = 200.0


def sides_of(
    lung: Mask, middle_px: float, spacing_mm: tuple[float, float, float], rules: LungRules, step: int = 0,
) -> Sides:
    """Tell the lungs apart.

    lung: (z, y, x); middle_px: the column of the body's middle; step: of the coarse grid, 0 for that of `coarse_step`.
    Returns (z, y, x) uint8: 0 none, 1 RIGHT, 2 LEFT; all 0 when no lung was found.
    """
    step = step or coarse_step(lung)
    coarse = np.ascontiguousarray(lung[:, ::step, ::step])
    voxel_ml = float(np.prod(spacing_mm)) * step * step / 1000.0
    pieces, sizes = _pieces(coarse, rules.min_component_ml / voxel_ml)
    if sizes.sum() * voxel_ml < rules.min_lungs_ml:
        return np.zeros(lung.shape, np.uint8)
    middle = middle_px / step
    coarse_sides: Sides = SPARE.zeros(coarse.shape, np.uint8)
    radius_px = max(1, round(rules.longest_bridge_mm / (spacing_mm[2] * step)))
    for place, number in _by_size(pieces, sizes):
        piece = pieces[place] == number
        offset = middle - place[2].start
        columns = np.count_nonzero(piece, axis=(0, 1))
        share = float(columns[np.arange(len(columns)) < offset].sum() / columns.sum())
        if min(share, 1 - share) >= rules.touching_share:
            sides = _split(piece, offset, radius_px)
        else:
            sides = piece * np.uint8(RIGHT if share > 0.5 else LEFT)
        coarse_sides[place] |= sides
    return carried(coarse_sides, lung, step)


def middle_column(hu: NDArray[np.float32]) -> float:
    """Return the column of the body's middle: the mean over everything that is not air or lung.  hu: (z, y, x)."""
    step = coarse_step(hu)
    counts = each(lambda k: np.count_nonzero(hu[k, ::step, ::step] > _BODY_HU, axis=0), range(len(hu)))
    columns = np.sum(counts, axis=0)
    if not columns.any():
        return float(hu.shape[2]) / 2
    return step * _mean_column(columns)


def _mean_column(counts: NDArray[np.int64]) -> float:
    """Return the mean column of what is counted by column."""
    return float(np.average(np.arange(len(counts)), weights=counts))


def _pieces(mask: Mask, min_voxels: float) -> tuple[NDArray[np.unsignedinteger[Any]], NDArray[np.int64]]:
    """Return the labelled components and their sizes by label; the size of those too small is 0."""
    labels, count = labelled(mask)
    sizes = np.bincount(labels[mask], minlength=count + 1)
    sizes[sizes < min_voxels] = 0
    return labels, sizes


def _by_size(pieces: NDArray[np.unsignedinteger[Any]], sizes: NDArray[np.int64]) -> list[tuple[Any, int]]:
    """Return (bounding box, label) of each component that has a size, the largest first."""
    boxes = ndimage.find_objects(pieces)
    order = sorted((n for n in range(1, len(sizes)) if sizes[n]), key=lambda n: -int(sizes[n]))
    return [(boxes[number - 1], number) for number in order]


def _split(piece: Mask, middle: float, radius_px: int) -> Sides:
    """Part two lungs that touch: erode in each slice until two cores come apart, then grow these back over the piece.

    Without two cores the plane through `middle` divides.
    """
    core = piece.astype(np.uint8)
    for radius in range(1, radius_px + 1):
        core = _each(core, lambda s: cv2.erode(s, SQUARE, borderType=cv2.BORDER_CONSTANT, borderValue=0))
        sides = _two_cores(core.astype(bool), middle, 0.1 * float(piece.sum()))
        if sides is not None:
            return _grown(sides, piece, middle, radius + 3)
    return _divided(piece, middle)


def _two_cores(core: Mask, middle: float, min_voxels: float) -> Sides | None:
    labels, sizes = _pieces(core, min_voxels)
    if np.count_nonzero(sizes) < 2:
        return None
    sides = np.zeros(core.shape, np.uint8)
    for place, number in _by_size(labels, sizes):
        inside = labels[place] == number
        centre = place[2].start + _mean_column(np.count_nonzero(inside, axis=(0, 1)))
        sides[place][inside] = RIGHT if centre < middle else LEFT
    return sides if (sides == RIGHT).any() and (sides == LEFT).any() else None


def _grown(sides: Sides, piece: Mask, middle: float, times: int) -> Sides:
    """Let both sides grow inside the piece, one pixel at a time in each slice; what neither reaches goes by the plane."""

    def grow(k: int) -> None:
        here = sides[k]
        free = (piece[k] & (here == 0)).view(np.uint8)
        grown = {side: (here == side).view(np.uint8) for side in (RIGHT, LEFT)}
        for _ in range(times):
            for side in (RIGHT, LEFT):
                new = cv2.bitwise_and(cv2.dilate(grown[side], SQUARE), free)
                cv2.bitwise_or(grown[side], new, dst=grown[side])
                cv2.bitwise_xor(free, new, dst=free)
        sides[k] = RIGHT * grown[RIGHT] + LEFT * grown[LEFT]

    each(grow, range(len(sides)))
    rest = piece & (sides == 0)
    return sides | _divided(rest, middle)


def _divided(piece: Mask, middle: float) -> Sides:
    right = np.arange(piece.shape[2]) < middle
    return np.where(piece, np.where(right, np.uint8(RIGHT), np.uint8(LEFT)), np.uint8(0))


def _each(slices: NDArray[np.uint8], change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]]) -> NDArray[np.uint8]:
    changed: NDArray[np.uint8] = SPARE.empty(slices.shape, np.uint8)

    def one(k: int) -> None:
        changed[k] = change(slices[k])

    each(one, range(len(slices)))
    return changed
