"""From the classes of a network to the masks of a result: believed, told apart by side, and tidied."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from service.domain.box import box_of
from service.domain.room import SPARE
from service.errors import Reason, UnusableStudy
from service.infer.air import INFECTION, AirRules, believable
from service.infer.extent import INFECTION_BIT, LEFT_BIT, RIGHT_BIT
from service.infer.lungs import LEFT, RIGHT, LungRules, middle_column, sides_of
from service.infer.tidy import Components, coarse_step, each, without_holes, without_single_slices

_MIN_EXCESS_HU = 100.0  # ground glass lies about 150 HU and more above healthy lung

Labels = NDArray[np.uint8]


def masks_of(
    classes: Labels, hu: NDArray[np.float32], spacing_mm: tuple[float, float, float], min_infection_ml: float,
    give_way: Callable[[], None] = lambda: None,
) -> tuple[Labels, NDArray[np.bool_]]:
    """Clean the classes up.

    classes: (z, y, x) as `read_slices` gives them; hu: the same shape; infection in pieces below min_infection_ml is
    dropped. give_way: called between the steps; it returns when nothing more urgent is under way. Returns bits of SEGMENTS,
    (z, y, x) uint8, and (z,) which slices were misread.
    Raises: UnusableStudy(NO_LUNG_FOUND).
    """
    rules, step = LungRules(), coarse_step(classes)
    masks, misread = SPARE.zeros(classes.shape, np.uint8), np.zeros(len(classes), np.bool_)
    place = box_of(classes, step)
    middle_px = middle_column(hu)
    if place is not None:
        inner = hu[place]
        labels, misread[place[0]] = believable(classes[place], inner, spacing_mm, AirRules(), step)
        give_way()
        sides = sides_of(labels > 0, middle_px - place[2].start, spacing_mm, rules, step)
        give_way()
        masks[place] = _tidied(sides, labels, inner, spacing_mm, min_infection_ml)
    if not masks.any():
        raise UnusableStudy(Reason.NO_LUNG_FOUND, f"less than {rules.min_lungs_ml:.0f} ml of lung in "
                                                  f"{len(classes)} slices")
    return masks, misread


def _tidied(
    sides: Labels, labels: Labels, hu: NDArray[np.float32], spacing_mm: tuple[float, float, float],
    min_infection_ml: float,
) -> Labels:
    """Fill the holes of each lung, and keep the infection of the labels that is borne out.

    All (z, y, x); returns bits of SEGMENTS.
    """
    max_hole_px = LungRules().max_hole_mm2 / (spacing_mm[1] * spacing_mm[2])
    masks, sick = SPARE.empty(sides.shape, np.uint8), SPARE.empty(sides.shape, np.bool_)

    def fill(k: int) -> None:
        if not sides[k].any():
            masks[k], sick[k] = 0, False
            return
        right = without_holes(sides[k] == RIGHT, max_hole_px)
        left = without_holes(sides[k] == LEFT, max_hole_px) & ~right
        masks[k] = right * np.uint8(RIGHT_BIT) | left * np.uint8(LEFT_BIT)
        np.logical_and(labels[k] == INFECTION, masks[k], out=sick[k])

    each(fill, range(len(sides)))
    voxel_ml = spacing_mm[0] * spacing_mm[1] * spacing_mm[2] / 1000.0
    found = Components.of(without_single_slices(sick, spacing_mm))
    found = found.only(found.sizes >= min_infection_ml / voxel_ml)
    least_hu = _healthy_hu(hu, masks, found) + _MIN_EXCESS_HU
    masks.ravel()[found.only(found.medians(hu) >= least_hu).places] |= np.uint8(INFECTION_BIT)
    return masks


def _healthy_hu(hu: NDArray[np.float32], masks: Labels, sick: Components) -> float:
    """Return the median attenuation of this patient's lung outside infection, from every fourth row and column."""
    sample = hu[:, ::4, ::4][(masks[:, ::4, ::4] > 0) & ~sick.sampled(4)]
    return float(np.median(sample)) if sample.size else -np.inf
