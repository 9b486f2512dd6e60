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
from service.domain.study import RadiographImage
from service.errors import EngineUnavailable, Reason
from service.infer.lungs import LEFT, RIGHT
from service.infer.networks import Networks
from service.infer.outline import STRONG
from service.infer.tidy import without_holes
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

    to_tensor: (y, x) float32 in 0..1 to (1, channels, h, w); restore: (2, h, w) probabilities, rows, columns to (2, rows,
    columns) on the source pixel grid.
    """

    to_tensor: Callable[[Saliency], Saliency]
    restore: Callable[[Saliency, int, int], Saliency]


@dataclass(frozen=True, eq=False)
class LungFields:
    """The lung fields of one radiograph on its source pixel grid.

    sides, zones: (y, x) uint8; sides: 0 none, 1 the patient's right, 2 left; zones: 0 none, 1 upper, 2 middle, 3 lower
    third of the height of that field. notes: what limits them, in words.
    """

    sides: NDArray[np.uint8]
    zones: NDArray[np.uint8]
    notes: tuple[str, ...] = ()

    @cached_property
    def near(self) -> Mask:
        """(y, x): where there is lung, or lung close by."""
        radius = max(1, round(_EDGE * max(self.sides.shape)))
        distance = cv2.distanceTransform((self.sides == 0).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
        near: Mask = distance <= radius
        return near


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
    background, lung = image.whole(transform.restore(found[0], *image.exposed.shape))
    return fields_of(lung > background, mirrored)


def fields_of(lung: Mask, mirrored: bool = False) -> LungFields:
    """Tell right from left by the geometry of the picture, and cut each field into thirds of its height.

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
    return LungFields(sides, _thirds(sides), _notes(sides))


def place(saliency: Saliency, fields: LungFields) -> Placement:
    """Tell in which side and zone the evidence peaks; neither when its peak in the lungs is under half of that outside.

    saliency: (y, x) float32 >= 0 on the grid of the fields.
    """
    inside = fields.sides > 0
    strongest = float(saliency.max(initial=0.0))
    if strongest <= 0 or not inside.any():
        return Placement(None, None, 1.0 if strongest > 0 else 0.0)
    strong = np.where(saliency >= STRONG * strongest, saliency, np.float32(0))
    outside = 1.0 - float(strong[fields.near].sum(dtype=np.float64) / strong.sum(dtype=np.float64))
    within = np.where(inside, saliency, np.float32(-1))
    row, column = np.unravel_index(int(within.argmax()), within.shape)
    if within[row, column] < STRONG * strongest:
        return Placement(None, None, outside)
    return Placement(_SIDES[int(fields.sides[row, column])], _ZONES[int(fields.zones[row, column]) - 1], outside)


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


def _thirds(sides: NDArray[np.uint8]) -> NDArray[np.uint8]:
    zones = np.zeros_like(sides)
    for side in (RIGHT, LEFT):
        rows, columns = _around(sides == side)
        third = np.arange(rows.stop - rows.start) * 3 // max(rows.stop - rows.start, 1) + 1
        zones[rows, columns] += (sides[rows, columns] == side) * third.astype(np.uint8)[:, np.newaxis]
    return zones


def _notes(sides: NDArray[np.uint8]) -> tuple[str, ...]:
    share = cv2.countNonZero(sides) / sides.size
    notes = [f"little lung is seen: {100 * share:.0f} % of the picture"] if share < _LITTLE_LUNG else []
    if share:
        notes += [f"no {code.meaning.lower()} lung field was found" for side, code in _SIDES.items()
                  if not (sides == side).any()]
    return tuple(notes)
