"""CT slices in Hounsfield units to the tensor of a segmentation network, and the way back.

The steps imitate the look of the public lesion set that the network learned from: there each slice was scaled
by its own minimum and maximum and then equalised tile by tile (CLAHE). They are applied to one slice at a
time, in the manifest's order:

    air       values outside the scan circle (-2000, -3024, not a number) become air; clamped to `window_hu`
    square    the shorter side is padded with air on both sides, so that the aspect is kept
    resize    to `side_px` x `side_px`, cubic; averaged first where the slice is more than twice as large
    stretch   the slice's own minimum becomes 0 and its maximum 1; a slice of one value becomes 0
    equalise  8-bit CLAHE, `clahe_clip_limit`, `clahe_tiles` x `clahe_tiles` tiles; the result stays in 0..1
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from service.prepare.arguments import Parameters, Plane, Step, interval, number, run_steps


def air(hu: Plane, parameters: Parameters) -> Plane:
    """Clamp a slice to `window_hu`; what is below it or not a number becomes air.

    hu: (y, x) float32, HU; returns the same shape.
    """
    low, high = (np.float32(limit) for limit in interval(parameters, "window_hu"))
    raised = np.fmax(hu, low, dtype=np.float32)  # of a number and "not a number", fmax takes the number
    return np.minimum(raised, high, out=raised)


def square(hu: Plane, parameters: Parameters) -> Plane:
    """Pad the shorter side with air, half before and half after (one more after where the difference is odd).

    hu: (y, x) float32, HU; returns (s, s) with s the longer side.
    """
    rows, columns = hu.shape
    if rows == columns:
        return hu
    top, left, side = _placement(rows, columns)
    padded = np.full((side, side), interval(parameters, "window_hu")[0], np.float32)
    padded[top:top + rows, left:left + columns] = hu
    return padded


def resize(hu: Plane, parameters: Parameters) -> Plane:
    """Resize a square slice to `side_px`; cubic, after averaging down to twice that size.

    hu: (s, s) float32, HU; returns (side_px, side_px). Pixel centres correspond (half-pixel rule of OpenCV).
    """
    side = int(number(parameters, "side_px", 16, 2048))
    if hu.shape[0] > 2 * side:
        hu = cv2.resize(hu, (2 * side, 2 * side), interpolation=cv2.INTER_AREA)
    if hu.shape[0] == side:
        return hu
    low, high = interval(parameters, "window_hu")
    resized: Plane = np.clip(cv2.resize(hu, (side, side), interpolation=cv2.INTER_CUBIC), low, high)
    return resized


def stretch(values: Plane, parameters: Parameters) -> Plane:
    """Scale a slice by its own minimum and maximum to 0..1; a slice of one value becomes 0.

    values: (y, x) float32, any unit; returns the same shape, float32.
    """
    low, high = float(values.min()), float(values.max())
    if high <= low:
        return np.zeros_like(values)
    return ((values - np.float32(low)) / np.float32(high - low)).astype(np.float32)


def equalise(values: Plane, parameters: Parameters) -> Plane:
    """Equalise a slice tile by tile in 8 bits (contrast limited, CLAHE).

    values: (y, x) float32 in 0..1; returns the same shape in 0..1, in steps of 1/255.
    """
    clip_limit = number(parameters, "clahe_clip_limit", 0.1, 100.0)
    tiles = int(number(parameters, "clahe_tiles", 1, 64))
    grey = np.rint(np.clip(values, 0.0, 1.0) * 255.0).astype(np.uint8)
    equaliser = cv2.createCLAHE(clipLimit=clip_limit, tileGridSize=(tiles, tiles))
    equalised: Plane = equaliser.apply(grey).astype(np.float32) / np.float32(255.0)
    return equalised


STEPS: dict[str, Step] = {
    "air": air, "square": square, "resize": resize, "stretch": stretch, "equalise": equalise,
}
"""Every preparation step of a CT slice by the name that a manifest uses, in the usual order."""


def slice_tensor(
    hu: NDArray[np.float32], parameters: Parameters, steps: Sequence[str] = tuple(STEPS),
) -> NDArray[np.float32]:
    """Prepare CT slices for the network.

    hu: (n, y, x) float32, HU, any size, n may be 0; returns (n, 1, side_px, side_px) float32 in 0..1.
    Raises: InvalidManifest for an unknown step or a parameter that is missing or out of range; ValueError for
    another number of axes.
    """
    if hu.ndim != 3:
        raise ValueError(f"slices must be (n, y, x), got {hu.ndim} axes")
    side = int(number(parameters, "side_px", 16, 2048))
    tensor = np.zeros((len(hu), 1, side, side), np.float32)
    for place, plane in enumerate(hu):
        tensor[place, 0] = run_steps(plane, steps, STEPS, parameters)
    return tensor


def restore(values: NDArray[Any], rows: int, columns: int) -> NDArray[Any]:
    """Map the network's output back to the source grid: the inverse of `square` and `resize`.

    values: (..., s, s); floating values (probabilities) are interpolated linearly and keep 0..1, uint8 and
    bool (labels, masks) take the nearest. Returns (..., rows, columns) of the same dtype, the padding cut off.
    """
    top, left, side = _placement(rows, columns)
    inexact = np.issubdtype(values.dtype, np.floating)
    kept = values.astype(np.float32 if inexact else np.uint8, copy=False)
    restored = np.empty((*values.shape[:-2], rows, columns), kept.dtype)
    rule = cv2.INTER_LINEAR if inexact else cv2.INTER_NEAREST_EXACT
    for place in np.ndindex(values.shape[:-2]):
        plane = np.ascontiguousarray(kept[place])
        if rows == columns:
            cv2.resize(plane, (side, side), dst=restored[place], interpolation=rule)
        else:
            restored[place] = cv2.resize(plane, (side, side), interpolation=rule)[top:top + rows, left:left + columns]
    return restored.astype(values.dtype, copy=False)


def _placement(rows: int, columns: int) -> tuple[int, int, int]:
    """Where a rows x columns slice lies in its square: (top, left, side), pixels."""
    side = max(rows, columns)
    return (side - rows) // 2, (side - columns) // 2, side
