"""Reading single images: grey values, Hounsfield units and masks. Every fault is an `Unreadable` with its reason."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

HU_OFFSET = 1024.0


class Unreadable(ValueError):
    """A file that cannot be used; the text says why."""


def read_grey(path: Path) -> NDArray[np.float32]:
    """Read a picture as grey values: (y, x) float32 in 0..1. Raises: Unreadable."""
    grey = _decode(path, cv2.IMREAD_GRAYSCALE)
    return grey.astype(np.float32) / np.float32(255.0)


def read_any(path: Path) -> NDArray[np.float32]:
    """Read a picture of 8 or 16 bits as stored, colours as grey: (y, x) float32. Raises: Unreadable."""
    return _decode(path, cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH).astype(np.float32)


def read_hu(path: Path) -> NDArray[np.float32]:
    """Read a 16-bit PNG whose value minus 1024 is HU: (y, x) float32, HU. Raises: Unreadable."""
    stored = _decode(path, cv2.IMREAD_UNCHANGED)
    if stored.dtype != np.uint16 or stored.ndim != 2:
        raise Unreadable("not a 16-bit grey image")
    return stored.astype(np.float32) - np.float32(HU_OFFSET)


def read_indices(path: Path, shape: tuple[int, ...], largest: int | None = None) -> NDArray[np.uint8]:
    """Read a mask as stored, indices of an indexed PNG or grey values: (y, x) uint8.

    shape: of the image it belongs to; largest: the largest label that is known, None for any.
    Raises: Unreadable when it is absent, no mask, of another shape, or holds another label.
    """
    if not path.is_file():
        raise Unreadable("missing mask")
    try:
        with Image.open(path) as image:
            stored = np.asarray(image)
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise Unreadable("unreadable mask") from error
    if stored.ndim != 2:
        raise Unreadable("the mask is a colour picture, not labels")
    if stored.shape != shape:
        raise Unreadable(f"mask of another size: {stored.shape}, its image is {shape}")
    mask: NDArray[np.uint8] = stored.astype(np.uint8)
    if largest is not None and mask.max(initial=0) > largest:
        raise Unreadable(f"unknown label in the mask: {int(mask.max())}; known are 0 to {largest}")
    return mask


def _decode(path: Path, mode: int) -> NDArray[np.generic]:
    if not path.is_file():
        raise Unreadable("missing file")
    content = np.fromfile(path, np.uint8)
    try:
        decoded = cv2.imdecode(content, mode) if len(content) else None
    except cv2.error as error:
        raise Unreadable("unreadable image") from error
    if decoded is None:
        raise Unreadable("unreadable image")
    if min(decoded.shape[:2]) < 16:
        raise Unreadable("an image needs 16 pixels a side")
    return decoded
