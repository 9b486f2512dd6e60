"""From the classes of a network to the masks of a result: believed, told apart by side, and tidied."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from service.errors import Reason, UnusableStudy
from service.infer.air import INFECTION, AirRules, believable
from service.infer.extent import INFECTION_BIT, LEFT_BIT, RIGHT_BIT
from service.infer.lungs import LEFT, RIGHT, LungRules, sides_of
from service.infer.tidy import without_holes, without_pale, without_single_slices, without_specks

_MIN_EXCESS_HU = 100.0  # ground glass lies about 150 HU and more above healthy lung

Labels = NDArray[np.uint8]


def masks_of(
    classes: Labels, hu: NDArray[np.float32], spacing_mm: tuple[float, float, float], min_infection_ml: float,
) -> tuple[Labels, NDArray[np.bool_]]:
    """Clean the classes up.

    classes: (z, y, x) as `read_slices` gives them; hu: the same shape; infection in pieces below min_infection_ml is
    dropped. Returns bits of SEGMENTS, (z, y, x) uint8, and (z,) which slices were misread.
    Raises: UnusableStudy(NO_LUNG_FOUND).
    """
    labels, misread = believable(classes, hu, spacing_mm, AirRules())
    rules = LungRules()
    sides = sides_of(labels > 0, hu, spacing_mm, rules)
    if not sides.any():
        raise UnusableStudy(Reason.NO_LUNG_FOUND, f"less than {rules.min_lungs_ml:.0f} ml of lung in "
                                                  f"{len(labels)} slices")
    max_hole_px = rules.max_hole_mm2 / (spacing_mm[1] * spacing_mm[2])
    masks = np.zeros(labels.shape, np.uint8)
    for k in np.flatnonzero(sides.any(axis=(1, 2))):
        right = without_holes(sides[k] == RIGHT, max_hole_px)
        left = without_holes(sides[k] == LEFT, max_hole_px) & ~right
        masks[k] = right * np.uint8(RIGHT_BIT) | left * np.uint8(LEFT_BIT)
    sick = without_single_slices((labels == INFECTION) & (masks > 0), spacing_mm)
    voxel_ml = spacing_mm[0] * spacing_mm[1] * spacing_mm[2] / 1000.0
    sick = without_specks(sick, min_infection_ml / voxel_ml)
    sick = without_pale(sick, hu, _healthy_hu(hu, masks, sick) + _MIN_EXCESS_HU)
    masks |= sick * np.uint8(INFECTION_BIT)
    return masks, misread


def _healthy_hu(hu: NDArray[np.float32], masks: Labels, sick: NDArray[np.bool_]) -> float:
    """Return the median attenuation of this patient's lung outside infection, from every fourth row and column."""
    sample = hu[:, ::4, ::4][(masks[:, ::4, ::4] > 0) & ~sick[:, ::4, ::4]]
    return float(np.median(sample)) if sample.size else -np.inf
