"""A radiograph as shown to the tensor of a classification network, and a map of evidence back to its pixels.

The steps, in the manifest's order:

    trim     the outer `margin_fraction` of each side is left out: side markers and burned-in text lie there
    reduce   larger images are shrunk, aspect kept, to the size that the network's training images had: directly
             shrunk to the input they would look sharper than those, and sharpness decides more than one likes
    resize   to `rows_px` x `columns_px`; the aspect is NOT kept, because padding would tell the network the
             shape of the original, and the shape tells the hospital
    stretch  the `low_percentile` becomes 0 and the `high_percentile` 1, so two display windows look alike
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from service.domain.room import SPARE
from service.prepare.arguments import Parameters, Plane, Step, number, run_steps

LEAST_RANGE = 1e-4
"""Below this difference of grey an image counts as blank: what is left is rounding."""
_GAP = 3.0


def trim(grey: Plane, parameters: Parameters) -> Plane:
    """Leave out the outer `margin_fraction` of each side.

    grey: (y, x) float32; returns the inner part.
    """
    top, bottom, left, right = _inner(grey.shape[0], grey.shape[1], parameters)
    return grey[top:bottom, left:right]


def reduce(grey: Plane, parameters: Parameters) -> Plane:
    """Shrink so that the longer side is `longest_px`, averaging, aspect kept; a smaller image stays as it is.

    grey: (y, x) float32; returns (y', x') float32. Networks that learned from shrunken pictures know their sharpness
    and no other: the pixels of a detector, shrunk in one go to another aspect, look like texture to them. A detector's
    image is halved first for as long as three times the size is left, which takes a third of the time.
    """
    longest = number(parameters, "longest_px", 16, 4096)
    factor = longest / max(grey.shape)
    if factor >= 1.0:
        return grey
    size = (max(1, round(grey.shape[1] * factor)), max(1, round(grey.shape[0] * factor)))
    while max(grey.shape) >= 2 * _GAP * longest and min(grey.shape) > 1:
        rows, columns = grey.shape[0] // 2, grey.shape[1] // 2
        grey = cv2.resize(grey[:2 * rows, :2 * columns], (columns, rows), interpolation=cv2.INTER_AREA)
    reduced: Plane = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    return reduced if np.isfinite(reduced).all() else cv2.resize(_numbers(grey), size, interpolation=cv2.INTER_AREA)


def resize(grey: Plane, parameters: Parameters) -> Plane:
    """Resize to `rows_px` x `columns_px`, averaging where it shrinks.

    grey: (y, x) float32; returns (rows_px, columns_px) float32.
    """
    rows, columns = _size_px(parameters)
    shrinks = grey.shape[0] >= rows and grey.shape[1] >= columns
    rule = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized: Plane = cv2.resize(grey, (columns, rows), interpolation=rule)
    return resized if np.isfinite(resized).all() else cv2.resize(_numbers(grey), (columns, rows), interpolation=rule)


def stretch(grey: Plane, parameters: Parameters) -> Plane:
    """Scale by two percentiles of the image to 0..1; an image without contrast becomes 0.

    grey: (y, x) float32; returns the same shape, float32 in 0..1.
    """
    low_percentile = number(parameters, "low_percentile", 0.0, 49.0)
    high_percentile = number(parameters, "high_percentile", 51.0, 100.0)
    low, high = np.percentile(grey, [low_percentile, high_percentile]).astype(np.float32)
    if high - low < LEAST_RANGE:
        return np.zeros_like(grey)
    stretched: Plane = np.clip((grey - low) / (high - low), 0.0, 1.0).astype(np.float32)
    return stretched


STEPS: dict[str, Step] = {"trim": trim, "reduce": reduce, "resize": resize, "stretch": stretch}
"""Every preparation step of a radiograph by the name that a manifest uses, in the usual order."""

USUAL = ("trim", "resize", "stretch")
"""The steps of a manifest that names none."""


def image_tensor(
    grey: NDArray[np.float32], parameters: Parameters, steps: Sequence[str] = USUAL,
) -> NDArray[np.float32]:
    """Prepare one radiograph for the network.

    grey: (y, x) float32 in 0..1 as displayed, bright = dense; returns (1, 1, rows_px, columns_px) float32 in
    0..1.
    Raises: InvalidManifest for an unknown step or a parameter that is missing or out of range; ValueError for
    another number of axes or fewer than 16 pixels a side.
    """
    if grey.ndim != 2 or min(grey.shape) < 16:
        raise ValueError(f"a radiograph must be (y, x) with at least 16 pixels a side, got {grey.shape}")
    values = grey.astype(np.float32, copy=False)
    first = next((step for step in steps if step != "trim"), "")
    if first not in ("reduce", "resize"):  # which see by their own few pixels whether all were numbers
        values = _numbers(values)
    values = run_steps(values, steps, STEPS, parameters)
    return np.ascontiguousarray(values, dtype=np.float32)[np.newaxis, np.newaxis]


def saliency_on_source(
    activation: NDArray[np.float32], rows: int, columns: int, parameters: Parameters,
) -> NDArray[np.float32]:
    """Map one class's activation map to the source pixel grid: the inverse of `trim`, `reduce` and `resize`.

    activation: (h, w) float32, the class's evidence at each place, positive = in favour; returns (rows,
    columns) float32 in 0..1: 0 is no evidence or outside the trimmed image, 1 the strongest place. An image
    without any place above `saliency_floor` stays faint instead of being blown up to 1.
    Raises: InvalidManifest for a parameter that is missing or out of range.
    """
    floor = number(parameters, "saliency_floor", 1e-6, 1e6)
    evidence = np.maximum(np.nan_to_num(activation.astype(np.float32, copy=False)), 0.0)
    strongest = np.float32(max(float(evidence.max(initial=0.0)), floor))
    return restore((evidence / strongest).astype(np.float32), rows, columns, parameters)


def restore(values: NDArray[np.float32], rows: int, columns: int, parameters: Parameters) -> NDArray[np.float32]:
    """Map a network's output back to the source pixel grid: the inverse of `trim`, `reduce` and `resize`.

    values: (..., h, w) float32 in 0..1; returns (..., rows, columns), interpolated linearly, 0 where `trim` took off.
    Raises: InvalidManifest for a parameter that is missing or out of range.
    """
    top, bottom, left, right = _inner(rows, columns, parameters)
    size = (*values.shape[:-2], rows, columns)
    restored: NDArray[np.float32] = (SPARE.zeros if top or left else SPARE.empty)(size, np.float32)
    for place in np.ndindex(values.shape[:-2]):
        plane = np.ascontiguousarray(values[place], np.float32)
        inner = restored[(*place, slice(top, bottom), slice(left, right))]
        cv2.resize(plane, (right - left, bottom - top), dst=inner, interpolation=cv2.INTER_LINEAR)
        if inner.size and not 0.0 <= plane.min() <= plane.max() < 1.0:  # rounding alone may exceed the ends
            np.clip(inner, 0.0, 1.0, out=inner)
    return restored


def _numbers(grey: Plane) -> Plane:
    """Replace what is no number, or infinite, by 0 or 1."""
    return np.nan_to_num(grey, nan=0.0, posinf=1.0, neginf=0.0)


def _inner(rows: int, columns: int, parameters: Parameters) -> tuple[int, int, int, int]:
    """The part that `trim` keeps: (top, bottom, left, right), pixels, ends exclusive."""
    margin = number(parameters, "margin_fraction", 0.0, 0.25)
    top, left = round(rows * margin), round(columns * margin)
    return top, rows - top, left, columns - left


def _size_px(parameters: Parameters) -> tuple[int, int]:
    return int(number(parameters, "rows_px", 16, 2048)), int(number(parameters, "columns_px", 16, 2048))
