"""Key slices of a CT side by side, with the contours of the segments: Secondary Capture, for viewers without SEG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from service.domain import codes
from service.domain.finding import Assessment, Segment
from service.domain.study import VolumeGeometry
from service.report.document import Context, Made
from service.report.picture import BANNER, Picture, band, secondary_capture, told
from service.report.segmentation import Drawn

PANEL_PX = 512
WINDOW = "lung window -600 / 1500 HU"
_LETTERS = ("L", "R"), ("P", "A"), ("H", "F")


def montage(
    context: Context, sources: Sequence[Dataset], geometry: VolumeGeometry, assessment: Assessment, found: Drawn,
    slices: Sequence[int], pictures: Mapping[str, NDArray[np.float32]],
) -> Made:
    """Build one Secondary Capture of the key slices.

    slices: their places in `sources`; pictures: by SOP Instance UID, (y, x) float32 0..1 in the lung window, the grid of
    the masks.
    """
    order = sorted(slices, reverse=geometry.normal[2] > 0)  # from the head down
    panels = [_panel(pictures[str(sources[z].SOPInstanceUID)], found, z, geometry) for z in order]
    heads = [band(PANEL_PX, f"slice {z + 1} of {len(sources)}, {geometry.positions_mm[z]:.1f} mm") for z in order]
    width = PANEL_PX * len(panels)
    pixels = np.ascontiguousarray(np.vstack([
        band(width, BANNER, height=36), np.hstack(heads), np.hstack(panels), _legend(found.segments, width),
        band(width, told(assessment), height=28)]))
    shown = [sources[z] for z in order]
    made = secondary_capture(
        context, pixels, shown, 1, f"Key slices of a CT with the contours of a segmentation, {WINDOW}.", "key slices")
    return Made("sc", made, f"{len(panels)} key slices with contours")


def _panel(grey: NDArray[np.float32], found: Drawn, z: int, geometry: VolumeGeometry) -> Picture:
    """Return one slice, as stored, with contours and the letters of the patient's sides; black where it is not square."""
    scale = PANEL_PX / max(grey.shape[0] * geometry.spacing_mm[1], grey.shape[1] * geometry.spacing_mm[2])
    high = max(1, round(grey.shape[0] * geometry.spacing_mm[1] * scale))
    wide = max(1, round(grey.shape[1] * geometry.spacing_mm[2] * scale))
    shown = cv2.resize(np.round(np.clip(grey, 0, 1) * 255).astype(np.uint8), (wide, high), interpolation=cv2.INTER_LINEAR)
    image = cv2.cvtColor(shown, cv2.COLOR_GRAY2RGB)
    for segment in sorted(found.segments, key=lambda s: s.category == codes.MORPHOLOGICALLY_ABNORMAL):
        mask = (found.masks[z] >> np.uint8(segment.number - 1)) & np.uint8(1)
        large = cv2.resize(mask, (wide, high), interpolation=cv2.INTER_NEAREST)
        borders, _ = cv2.findContours(large, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(image, borders, -1, segment.colour, 1, cv2.LINE_AA)
    panel = np.zeros((PANEL_PX, PANEL_PX, 3), np.uint8)
    panel[:high, :wide] = image
    row, column = geometry.orientation[:3], geometry.orientation[3:]
    for text, at in ((_toward(row, -1), (6, high // 2)), (_toward(row, 1), (wide - 22, high // 2)),
                     (_toward(column, -1), (wide // 2, 20)), (_toward(column, 1), (wide // 2, high - 8))):
        for colour, thickness in (((0, 0, 0), 4), ((255, 255, 0), 1)):
            cv2.putText(panel, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.6, colour, thickness, cv2.LINE_AA)
    return panel


def _toward(direction: Sequence[float], sign: int) -> str:
    """Return the letter of the side of the patient that a direction of the image points to (PS3.3 C.7.6.1.1.1)."""
    axis = int(np.argmax(np.abs(direction)))
    return _LETTERS[axis][0 if direction[axis] * sign > 0 else 1]


def _legend(segments: Sequence[Segment], width: int) -> Picture:
    parts = [(s.label, s.colour) for s in segments] + [(WINDOW, (200, 200, 200))]
    each = width // len(parts)
    line = np.hstack([band(each, text, height=28, colour=colour) for text, colour in parts])
    return np.pad(line, ((0, 0), (0, width - line.shape[1]), (0, 0)))
