"""Pictures of result objects for the study page: PNG of a secondary capture, key slices of a segmentation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.errors import InvalidDicomError
from pydicom.pixels import iter_pixels, pixel_array

from service.domain.study import Header
from service.errors import FirstlookError
from service.prepare.codestream import FrameDecoder
from service.prepare.frames import frame_headers
from service.prepare.pixels import decode, read
from service.store.files import Files

_LONGEST_PX = 1600
_TILE_PX = 448
_TILES = 6
_LEGEND_PX = 32
_LUNG_WINDOW_HU = (-1350.0, 150.0)

Picture = NDArray[np.uint8]


class NoPicture(LookupError):
    """No picture can be made of this object, or its images are gone."""


def capture_png(result: Path) -> bytes:
    """Return a secondary capture (PS3.3 A.8) as PNG, at most 1600 pixels long.

    Raises: NoPicture when the file is gone or has no picture.
    """
    try:
        pixels = pixel_array(result)
    except (OSError, InvalidDicomError, AttributeError) as error:
        raise NoPicture("the object holds no readable picture") from error
    if pixels.ndim == 3:
        pixels = pixels[..., ::-1]
    scale = min(1.0, _LONGEST_PX / max(pixels.shape[:2]))
    small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else pixels
    return _png(np.ascontiguousarray(small, np.uint8))


def montage(spool_dir: Files | Path, decoder: FrameDecoder, result: Path, sources: Mapping[str, str]) -> bytes:
    """Return key slices of a binary segmentation (PS3.3 A.51) as PNG: the CT in a lung window, contours in colour.

    decoder: of compressed source images; result: the SEG file; sources: path of each source image, relative to
    spool_dir, by SOP Instance UID.
    Raises: NoPicture when the segmentation is empty or an image is gone.
    """
    try:
        seg = pydicom.dcmread(result, stop_before_pixels=True)
        slices = _key_slices(seg, result)
        tiles = [_tile(seg, result, _hu(spool_dir / sources[uid], number, decoder), frames)
                 for (uid, number), frames in slices]
    except (OSError, KeyError, TypeError, InvalidDicomError, AttributeError, FirstlookError) as error:
        raise NoPicture("the segmentation or an image of it cannot be read") from error
    if not tiles:
        raise NoPicture("the segmentation is empty")
    columns = min(3, len(tiles))
    blank = np.zeros_like(tiles[0])
    tiles += [blank] * (-len(tiles) % columns)
    lines = [np.hstack(tiles[at:at + columns]) for at in range(0, len(tiles), columns)]
    return _png(np.vstack([*lines, _legend(seg, columns * _TILE_PX)]))


def _key_slices(seg: Any, result: Path) -> list[tuple[tuple[str, int], list[int]]]:
    """Choose slices spread over the last segment (the finding); return (source, its frames of the SEG), head to foot."""
    numbers = [_segment_number(group) for group in seg.PerFrameFunctionalGroupsSequence]
    areas = [int(np.count_nonzero(frame)) for frame in iter_pixels(result)]
    finding = max((n for n, area in zip(numbers, areas, strict=True) if area), default=None)
    by_source: dict[tuple[str, int], list[int]] = {}
    for frame, group in enumerate(seg.PerFrameFunctionalGroupsSequence):
        if areas[frame]:
            by_source.setdefault(_source(group), []).append(frame)
    held = [(source, sum(areas[f] for f in frames if numbers[f] == finding), frames) for source, frames in by_source.items()]
    candidates = [(source, area, frames) for source, area, frames in held if area]
    chosen = []
    for part in np.array_split(np.arange(len(candidates)), min(_TILES, len(candidates)) or 1):
        if part.size:
            source, _, frames = max((candidates[k] for k in part), key=lambda one: one[1])
            chosen.append((source, frames))
    return chosen


def _hu(source: Path, number: int, decoder: FrameDecoder) -> NDArray[np.float32]:
    """Return an image, or a frame of it (number from 1), in HU."""
    image = read(source, "RescaleSlope", "RescaleIntercept")
    if "RescaleSlope" in image:
        slope, intercept = float(image.RescaleSlope), float(image.RescaleIntercept)
    else:
        header = frame_headers(source, Header("", "", "", ""))[number - 1]
        slope, intercept = header.rescale_slope or 1.0, header.rescale_intercept or 0.0
    return decode(image, number - 1, decoder).astype(np.float32) * np.float32(slope) + np.float32(intercept)


def _tile(seg: Any, result: Path, hu: NDArray[np.float32], frames: list[int]) -> Picture:
    low, high = _LUNG_WINDOW_HU
    grey = (255 * np.clip((hu - low) / (high - low), 0, 1)).astype(np.uint8)
    size = (_TILE_PX, _TILE_PX)
    tile = cv2.cvtColor(cv2.resize(grey, size, interpolation=cv2.INTER_LINEAR), cv2.COLOR_GRAY2BGR)
    for frame in frames:
        group = seg.PerFrameFunctionalGroupsSequence[frame]
        segment = next(s for s in seg.SegmentSequence if s.SegmentNumber == _segment_number(group))
        mask = cv2.resize(pixel_array(result, index=frame), size, interpolation=cv2.INTER_NEAREST)
        outlines, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(tile, outlines, -1, _colour(segment), 2, cv2.LINE_AA)
    return np.asarray(tile, np.uint8)


def _legend(seg: Any, width_px: int) -> Picture:
    """Return a line with the label of each segment in its colour, and the notice."""
    line = np.zeros((_LEGEND_PX, width_px, 3), np.uint8)
    labels = [(str(segment.SegmentLabel), _colour(segment)) for segment in seg.SegmentSequence]
    at = 8
    for text, colour in [*labels, ("Research use only", (200, 200, 200))]:
        cv2.putText(line, text, (at, _LEGEND_PX - 10), cv2.FONT_HERSHEY_SIMPLEX, 0.6, colour, 1, cv2.LINE_AA)
        at += cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.6, 1)[0][0] + 24
    return line


def _colour(segment: Any) -> tuple[int, int, int]:
    """Return (blue, green, red) of RecommendedDisplayCIELabValue (PS3.3 C.10.7.1.1); yellow where there is none."""
    lab = segment.get("RecommendedDisplayCIELabValue")
    if lab is None:
        return (0, 220, 255)
    light, a, b = (float(v) / 65535 for v in lab)
    pixel = np.array([[[light * 100, a * 255 - 128, b * 255 - 128]]], np.float32)
    blue, green, red = (round(255 * float(v)) for v in cv2.cvtColor(pixel, cv2.COLOR_Lab2BGR)[0, 0])
    return (blue, green, red)


def _segment_number(group: Any) -> int:
    return int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)


def _source(group: Any) -> tuple[str, int]:
    """Return the SOP Instance UID and the number of the frame, 1 for an image of one, that a frame was drawn on."""
    source = group.DerivationImageSequence[0].SourceImageSequence[0]
    return str(source.ReferencedSOPInstanceUID), int(source.get("ReferencedFrameNumber") or 1)


def _png(picture: Picture) -> bytes:
    made, data = cv2.imencode(".png", picture)
    if not made:
        raise NoPicture("the picture cannot be encoded")
    return bytes(data)
