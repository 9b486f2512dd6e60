"""Lung fields of a radiograph, and where in them a finding's evidence lies: side, and third of the height."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from service.domain import codes
from service.domain.codes import Code
from service.domain.manifest import Manifest
from service.domain.room import SPARE
from service.domain.study import RadiographImage
from service.errors import EngineUnavailable, Reason
from service.infer.lungs import LEFT, RIGHT
from service.infer.networks import Networks
from service.infer.outline import STRONG, sampling
from service.infer.tidy import SQUARE, without_holes
from service.infer.unfamiliar import require_familiar, unfamiliarity

Mask = NDArray[np.bool_]
Saliency = NDArray[np.float32]

_ZONES = (codes.UPPER_ZONE, codes.MIDDLE_ZONE, codes.LOWER_ZONE)
_SIDES = {RIGHT: codes.RIGHT, LEFT: codes.LEFT}
_LEAST_PIECE = 0.02  # of all lung; smaller pieces are noise
_STRADDLES = 0.2  # a piece with this share on either side of the middle is two lungs that touch
_LITTLE_LUNG = 0.08  # of the picture; a usual chest radiograph shows 0.25 and more
_EDGE = 0.02  # of the longer side: evidence this close to a lung field is not outside


@dataclass(frozen=True)
class FieldsTransform:
    """Preparation and its inverse, handed in so that this package does not import the preparing one.

    to_tensor: (y, x) float32 in 0..1 to (1, channels, h, w); restore: (n, h, w), rows, columns to (n, rows, columns) on
    the source pixel grid, nothing below 0.
    """

    to_tensor: Callable[[Saliency], Saliency]
    restore: Callable[[Saliency, int, int], Saliency]


@dataclass(frozen=True, eq=False)
class LungFields:
    """The lung fields of one radiograph on its source pixel grid.

    sides: (y, x) uint8, 0 none, 1 the patient's right, 2 left. notes: what limits them, in words.
    """

    sides: NDArray[np.uint8]
    notes: tuple[str, ...] = ()

    def zone(self, row: int, column: int) -> int:
        """Return the third of the height of its field that a pixel lies in: 1 upper, 2 middle, 3 lower; 0 outside."""
        top, height = self._heights.get(int(self.sides[row, column]), (row, 1))
        return 0 if not self.sides[row, column] else (row - top) * 3 // height + 1

    @cached_property
    def _heights(self) -> dict[int, tuple[int, int]]:
        """The first row and the height of each field."""
        rows = {side: _around(self.sides == side)[0] for side in (RIGHT, LEFT)}
        return {side: (found.start, found.stop - found.start) for side, found in rows.items()}

    @cached_property
    def near(self) -> Mask:
        """(y, x): where there is lung, or lung close by."""
        rows, columns = self.sides.shape
        step = sampling(self.sides.shape)
        distance = cv2.distanceTransform((self.sides[::step, ::step] == 0).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
        near = (distance * step <= max(1, round(_EDGE * max(rows, columns)))).view(np.uint8)
        if step > 1:
            near = near.repeat(step, 0)[:rows].repeat(step, 1)[:, :columns]
        wide: Mask = near.view(np.bool_)
        return wide


@dataclass(frozen=True)
class Placement:
    """Where the evidence of a finding peaks; outside: 0..1, the part of the strong evidence outside the lung fields."""

    side: Code | None
    zone: Code | None
    outside: float


def find_fields(
    image: RadiographImage, engine: Networks, manifest: Manifest, transform: FieldsTransform, mirrored: bool = False,
) -> LungFields:
    """Segment the lung fields of one radiograph.

    The model's input `image` is (1, channels, h, w); its output `probabilities` is (1, 2, h, w): background, lung.
    mirrored: the patient's right is at the right of the picture (Patient Orientation begins with R, PS3.3 C.7.6.1.1.1).
    Raises: UnusableStudy(UNFAMILIAR_IMAGE); EngineUnavailable when the output does not fit the manifest.
    """
    tensors = engine.run(manifest.name, {"image": transform.to_tensor(image.exposed)})
    found = tensors.get("probabilities")
    if found is None or found.ndim != 4 or found.shape[:2] != (1, 2):
        raise EngineUnavailable(Reason.ENGINE_FAILED, f"the output of {manifest.name} does not fit its manifest")
    require_familiar(unfamiliarity(tensors, manifest, 1), manifest)
    over, shape = found[0, 1] - found[0, 0], image.exposed.shape
    fine: Mask = SPARE.empty(shape, np.bool_)
    np.greater(transform.restore(over[np.newaxis], *shape)[0], 0, out=fine)
    sides = _sides_of(over > 0, mirrored)
    seen = image.whole(_carried(sides, over > 0, fine))
    return LungFields(seen, _notes(sides, fine.size / seen.size))


def fields_of(lung: Mask, mirrored: bool = False) -> LungFields:
    """Return the fields of a mask on the grid of the picture; see `_sides_of`."""
    sides = _sides_of(lung, mirrored)
    return LungFields(sides, _notes(sides))


def _carried(sides: NDArray[np.uint8], lung: Mask, fine: Mask) -> NDArray[np.uint8]:
    """Carry sides from the grid of the network to that of the picture, whose lung is `fine`.

    A pixel of the fine border that no lung of the network's grid meets takes the side of its neighbours; gaps that were
    filled there are filled here.
    """
    rows, columns = fine.shape

    def raised(plane: NDArray[np.uint8]) -> NDArray[np.uint8]:
        made: NDArray[np.uint8] = SPARE.empty((rows, columns), np.uint8)
        cv2.resize(plane, (columns, rows), dst=made, interpolation=cv2.INTER_NEAREST)
        return made

    wide = raised(np.where(sides > 0, sides, cv2.dilate(sides, SQUARE)))
    gaps = ((sides > 0) & ~lung).view(np.uint8)
    if gaps.any():
        np.logical_or(fine, raised(cv2.dilate(gaps, SQUARE)), out=fine)
    np.multiply(wide, fine, out=wide)
    return wide


def _sides_of(lung: Mask, mirrored: bool = False) -> NDArray[np.uint8]:
    """Tell right from left by the geometry of the picture: (y, x) uint8 as `LungFields.sides`.

    A gap that a field encloses belongs to it: a dense lesion is often not seen as lung. lung: (y, x); the patient's right
    is at the left of the picture unless mirrored.
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats(np.ascontiguousarray(lung).view(np.uint8), connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0
    pieces = [n for n in range(1, count) if areas[n] >= _LEAST_PIECE * areas.sum()]
    middle = _middle_column(stats[sorted(pieces, key=lambda n: -int(areas[n]))], lung.shape[1])
    column = int(np.ceil(middle))  # the first one that is not left of the middle
    first, second = (LEFT, RIGHT) if mirrored else (RIGHT, LEFT)
    sides = np.zeros(lung.shape, np.uint8)
    for n in pieces:
        rows, columns = _box(stats[n])
        piece, here = labels[rows, columns] == n, sides[rows, columns]
        cut = int(np.clip(column - columns.start, 0, piece.shape[1]))
        share = np.count_nonzero(piece[:, :cut]) / int(areas[n])
        if not _STRADDLES <= share <= 1 - _STRADDLES:
            cut = piece.shape[1] if share > 0.5 else 0
        here[:, :cut][piece[:, :cut]], here[:, cut:][piece[:, cut:]] = first, second
    for side in (RIGHT, LEFT):
        rows, columns = _around(sides == side)
        here = sides[rows, columns]
        here[without_holes(here == side, np.inf) & (here == 0)] = side
    return sides


def place(saliency: Saliency, fields: LungFields) -> Placement:
    """Tell in which side and zone the evidence peaks; neither when its peak in the lungs is under half of that outside.

    saliency: (y, x) float32 >= 0 on the grid of the fields.
    """
    step = sampling(saliency.shape)
    saliency, sides = saliency[::step, ::step], fields.sides[::step, ::step]
    inside = sides > 0
    strongest = float(saliency.max(initial=0.0))
    if strongest <= 0 or not inside.any():
        return Placement(None, None, 1.0 if strongest > 0 else 0.0)
    strong = np.where(saliency >= STRONG * strongest, saliency, np.float32(0))
    outside = 1.0 - float(strong[fields.near[::step, ::step]].sum(dtype=np.float64) / strong.sum(dtype=np.float64))
    within = np.where(inside, saliency, np.float32(-1))
    row, column = np.unravel_index(int(within.argmax()), within.shape)
    if within[row, column] < STRONG * strongest:
        return Placement(None, None, outside)
    return Placement(_SIDES[int(sides[row, column])], _ZONES[fields.zone(int(row) * step, int(column) * step) - 1], outside)


def _middle_column(largest_first: NDArray[np.int32], columns: int) -> float:
    """Return the column between the lungs: half way between the two largest pieces when they lie side by side."""
    boxes = [(int(s[cv2.CC_STAT_LEFT]), int(s[cv2.CC_STAT_LEFT] + s[cv2.CC_STAT_WIDTH]), int(s[cv2.CC_STAT_AREA]))
             for s in largest_first]
    if len(boxes) > 1 and boxes[1][2] >= _STRADDLES * boxes[0][2]:
        one, other = sorted(boxes[:2])
        overlap = min(one[1], other[1]) - other[0]
        if overlap < 0.5 * min(one[1] - one[0], other[1] - other[0]):
            return (one[1] + other[0]) / 2
    if boxes and boxes[0][1] - boxes[0][0] > 0.5 * columns:
        return (boxes[0][0] + boxes[0][1]) / 2
    return columns / 2


def _box(stats: NDArray[np.int32]) -> tuple[slice, slice]:
    """Return the rows and columns of a piece."""
    left, top, width, height = (int(n) for n in stats[:cv2.CC_STAT_AREA])
    return slice(top, top + height), slice(left, left + width)


def _around(mask: Mask) -> tuple[slice, slice]:
    """Return the rows and columns that a mask takes, none where it is empty."""
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    return slice(top, top + height), slice(left, left + width)


def _notes(sides: NDArray[np.uint8], part: float = 1.0) -> tuple[str, ...]:
    """Say what limits the fields. part: of the picture that the sides are of, 0..1."""
    share = part * cv2.countNonZero(sides) / sides.size
    notes = [f"little lung is seen: {100 * share:.0f} % of the picture"] if share < _LITTLE_LUNG else []
    if share:
        notes += [f"no {code.meaning.lower()} lung field was found" for side, code in _SIDES.items()
                  if not (sides == side).any()]
    return tuple(notes)
