"""Small repairs of masks: gaps, specks, patches of a single slice, and the way from a coarse grid to the fine one."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]
SQUARE = np.ones((3, 3), np.uint8)


def coarse_step(slices: NDArray[np.generic]) -> int:
    """Return the step that samples (z, y, x) to about 256 pixels a side: components are searched on that grid."""
    return max(1, round(int(min(slices.shape[1:])) / 256))


def carried(coarse: NDArray[np.uint8], mask: Mask, step: int) -> NDArray[np.uint8]:
    """Carry values from the coarse grid to the voxels of a fine mask; all else is 0.

    An edge pixel of the mask that no coarse one met takes the (largest) value of its neighbours.
    """
    rows, columns = mask.shape[1:]
    fine = np.zeros(mask.shape, np.uint8)
    for k in np.flatnonzero(coarse.any(axis=(1, 2))):
        wide = np.where(coarse[k] > 0, coarse[k], cv2.dilate(coarse[k], SQUARE))
        raised = np.repeat(np.repeat(wide, step, axis=0), step, axis=1)[:rows, :columns]
        np.multiply(raised, mask[k], out=fine[k])
    return fine


def without_holes(mask: Mask, max_hole_px: float) -> Mask:
    """Fill the gaps of a slice that the mask encloses, up to an area; (y, x) in and out."""
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    place = slice(top, top + height), slice(left, left + width)
    gaps = np.pad(~mask[place], 1, constant_values=True).view(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(gaps, connectivity=4)
    small = stats[:, cv2.CC_STAT_AREA] <= max_hole_px
    small[0] = small[labels[0, 0]] = False  # 0: the mask itself; the corner: outside
    if count <= 2 or not small.any():
        return mask
    filled = mask.copy()
    filled[place] |= small[labels[1:-1, 1:-1]]
    return filled


def without_specks(mask: Mask, min_voxels: float) -> Mask:
    """Remove the 3D components of fewer voxels; (z, y, x) in and out."""
    if not mask.any():
        return mask
    place = ndimage.find_objects(mask.view(np.uint8))[0]
    labels, _ = ndimage.label(mask[place])
    kept = np.bincount(labels.ravel()) >= min_voxels
    kept[0] = False
    result = np.zeros_like(mask)
    result[place] = kept[labels]
    return result


def without_pale(mask: Mask, hu: NDArray[np.float32], least_hu: float) -> Mask:
    """Remove the 3D components whose median is below `least_hu`; (z, y, x) in and out."""
    labels, _ = ndimage.label(mask)
    result = np.zeros_like(mask)
    for number, place in enumerate(ndimage.find_objects(labels), 1):
        inside = labels[place] == number
        if float(np.median(hu[place][inside])) >= least_hu:
            result[place] |= inside
    return result


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
    result = np.zeros_like(mask)
    for k in np.flatnonzero(mask.any(axis=(1, 2))):
        neighbours = [mask[n] for n in (k - offset, k + offset) if 0 <= n < len(mask)]
        beside = np.logical_or.reduce(neighbours) if neighbours else mask[k]
        result[k] = mask[k] & cv2.dilate(beside.view(np.uint8), square).view(np.bool_)
    return result
