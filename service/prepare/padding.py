"""Pixels that are no part of the image: Pixel Padding Value and Range Limit (PS3.3 C.7.5.1.1.2)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from service.prepare.pixels import element


def padded(stored: NDArray[Any], dataset: Dataset) -> NDArray[np.bool_] | None:
    """Tell which stored values are padding.

    stored: as decoded, any shape. Returns a mask of the same shape, or None when the data set declares no padding. The
    declared values are read as signed or unsigned as the pixels are, whatever their VR: writers confuse US and SS.
    """
    first = _like(stored, element(dataset, "PixelPaddingValue"))
    if first is None:
        return None
    last = _like(stored, element(dataset, "PixelPaddingRangeLimit"))
    low, high = (first, first) if last is None else (min(first, last), max(first, last))
    mask: NDArray[np.bool_] = (stored >= low) & (stored <= high) if low < high else stored == low
    return mask


def _like(stored: NDArray[Any], value: object) -> int | None:
    """Return a declared value as a number of the kind that `stored` holds; None when absent or not a number."""
    if not isinstance(value, int):
        return None
    bits = 16 if stored.dtype.itemsize > 1 else 8
    if stored.dtype.kind == "i" and 1 << (bits - 1) <= value < 1 << bits:
        return value - (1 << bits)
    if stored.dtype.kind == "u" and -(1 << (bits - 1)) <= value < 0:
        return value + (1 << bits)
    return value
