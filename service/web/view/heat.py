"""The saliency of a radiograph, taken out of our own secondary capture of it, so that a reader can switch it on and off.

The capture is the radiograph with the saliency blended in: grey * (1 - w) + colour(s) * w, w = STRONGEST_BLEND * s. Grey has
no colour, so the differences between the channels depend on s alone, and s is found by them.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.errors import InvalidDicomError
from pydicom.pixels import pixel_array

from service.report.capture import FAINTEST, STRONGEST_BLEND
from service.report.picture import bar_height

_STEPS = 256
_LEAST_COLOUR = 4
"""Differences of channels under this are grey."""

_UNREADABLE = (OSError, InvalidDicomError, AttributeError, ValueError, KeyError, IndexError)


class NoHeat(LookupError):
    """A secondary capture that holds no saliency that can be taken out."""


def heat_of(capture: Path, width: int, height: int) -> tuple[str, NDArray[np.uint8]]:
    """Return the image that a capture was made of, and its saliency, (y, x) uint8, 255 strongest.

    width, height: of that image, pixels; the saliency has its side ratio. Raises: NoHeat.
    """
    try:
        source = str(pydicom.dcmread(capture, stop_before_pixels=True).SourceImageSequence[0].ReferencedSOPInstanceUID)
        pixels = pixel_array(capture)
    except _UNREADABLE as error:
        raise NoHeat("the picture cannot be read") from error
    if pixels.ndim != 3:
        raise NoHeat("the picture has no colours")
    rows = round(height * min(1.0, pixels.shape[1] / width))
    top = bar_height(pixels.shape[1])
    if pixels.shape[0] < top + rows or rows < 1:
        raise NoHeat("the picture is not of this image")
    return source, unblended(pixels[top:top + rows])


def unblended(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the saliency of a blended picture: (y, x, 3) uint8 RGB gives (y, x) uint8, 0 where the picture is grey."""
    wide = picture.astype(np.int16)
    red, blue = wide[..., 0] - wide[..., 1], wide[..., 2] - wide[..., 1]
    found: NDArray[np.uint8] = _table()[(red + 255) >> 1, (blue + 255) >> 1]
    found[np.maximum(np.abs(red), np.abs(blue)) < _LEAST_COLOUR] = 0
    return found


def as_png(heat: NDArray[np.uint8]) -> bytes:
    """Return a saliency as PNG with transparency: the colours of the capture, none where it is faint."""
    colour = cv2.applyColorMap(heat, cv2.COLORMAP_TURBO)
    strength = heat.astype(np.float32) / 255.0
    alpha = np.where(strength >= FAINTEST - 0.02, strength * STRONGEST_BLEND * 255.0, 0.0).astype(np.uint8)
    made, data = cv2.imencode(".png", np.dstack([colour, alpha]), [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not made:
        raise NoHeat("the picture cannot be encoded")
    return bytes(data)


@lru_cache(maxsize=1)
def _table() -> NDArray[np.uint8]:
    """Return the saliency for each pair of differences (red, blue against green), by twos."""
    steps = np.arange(_STEPS)
    colours = cv2.cvtColor(cv2.applyColorMap(steps.astype(np.uint8)[None], cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)[0]
    weight = STRONGEST_BLEND * steps / 255.0
    colours = colours.astype(np.float32)
    reds, blues = (weight * (colours[:, k] - colours[:, 1]) for k in (0, 2))
    kept = np.flatnonzero(steps >= 255 * FAINTEST - 1)
    at = (np.arange(256, dtype=np.float32) * 2 - 254.5)
    table = np.zeros((256, 256), np.uint8)
    for row, red in enumerate(at):
        apart = (reds[kept] - red)[:, None] ** 2 + (blues[kept, None] - at[None]) ** 2
        table[row] = steps[kept][np.argmin(apart, axis=0)]
    return table
