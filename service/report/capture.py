"""The saliency of a radiograph as a picture: Secondary Capture, RGB, marked as not for diagnosis (PS3.3 A.8)."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from service.domain.finding import Assessment
from service.errors import Defect, Reason
from service.report.document import Context, Made
from service.report.picture import BANNER, Picture, band, bar_height, secondary_capture, told

LONGEST_SIDE = 1024
FAINTEST = 0.15  # saliency below this is not coloured
STRONGEST_BLEND = 0.55  # so that the radiograph stays visible under the colour


def capture(context: Context, source: Dataset, assessment: Assessment, grey: NDArray[np.float32], number: int) -> Made:
    """Build one Secondary Capture of a radiograph with its saliency blended in.

    grey: (y, x) float32 in 0..1, bright = dense, on the same grid as the saliency; number: instance number, from 1.
    Raises: Defect when picture and saliency differ in size.
    """
    saliency = assessment.saliency[str(source.SOPInstanceUID)]
    if saliency.shape != grey.shape:
        raise Defect(Reason.INTERNAL_ERROR, f"the saliency is {saliency.shape}, the radiograph {grey.shape}")
    pixels = blended(grey, saliency, told(assessment))
    made = secondary_capture(context, pixels, [source], number, "Radiograph with the saliency of a model.", "saliency")
    made.PatientOrientation = source.get("PatientOrientation") or ""
    return Made("sc", made, f"saliency picture, {pixels.shape[1]} x {pixels.shape[0]}")


def blended(grey: NDArray[np.float32], saliency: NDArray[np.float32], said: str = "") -> Picture:
    """Return (y, x, 3) uint8 RGB: the radiograph, the saliency over it in colour, a legend and the warning.

    The longest side becomes at most 1024 pixels; the side ratio is kept. said: the result in one line, below.
    """
    scale = min(1.0, LONGEST_SIDE / max(grey.shape))
    size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
    base = cv2.resize(np.ascontiguousarray(grey, dtype=np.float32), size, interpolation=cv2.INTER_AREA)
    heat = cv2.resize(np.ascontiguousarray(saliency, dtype=np.float32), size, interpolation=cv2.INTER_LINEAR)
    base, heat = (np.clip(np.nan_to_num(a), 0.0, 1.0) for a in (base, heat))
    colour = _colours(heat)
    weight = (np.where(heat >= FAINTEST, heat, 0.0) * STRONGEST_BLEND)[..., None]
    picture = np.repeat((base * 255.0)[..., None], 3, axis=2) * (1 - weight) + colour * weight
    return _annotated(np.round(picture).astype(np.uint8), said)


def _colours(values: NDArray[np.float32]) -> Picture:
    mapped = cv2.applyColorMap(np.round(values * 255).astype(np.uint8), cv2.COLORMAP_TURBO)
    return np.asarray(cv2.cvtColor(mapped, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def _annotated(picture: Picture, said: str) -> Picture:
    """Add a band with the warning above, and the result and the legend below, so that no part of the image is covered."""
    width = picture.shape[1]
    bar = bar_height(width)
    bottom = np.zeros((bar, width, 3), np.uint8)
    ramp = np.tile(np.linspace(0, 1, max(2, width // 3), dtype=np.float32), (max(1, bar // 2), 1))
    bottom[bar // 4:bar // 4 + ramp.shape[0], 2:2 + ramp.shape[1]] = _colours(ramp)
    text = band(width - ramp.shape[1] - 6, "influence on the result: low (left) to high", height=bar)
    bottom[:, ramp.shape[1] + 6:] = text
    lines = [band(width, said)] if said else []
    return np.ascontiguousarray(np.vstack([band(width, BANNER), picture, *lines, bottom]))
