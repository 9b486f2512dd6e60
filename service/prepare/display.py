"""A radiograph as a reader sees it: Modality LUT, VOI, then inversion, in this order (PS3.3 C.11, PS3.4 N.2)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from service.domain.study import RadiographImage
from service.errors import Reason, UnusableStudy
from service.prepare import exposed
from service.prepare.codestream import FrameDecoder, decode_frame
from service.prepare.exposed import box_of, shut_off
from service.prepare.lookup import LookupTable, lookup_table
from service.prepare.padding import padded
from service.prepare.pixels import decode, describe, element, read

_KEYWORDS = (
    "SOPClassUID", "ModalityLUTSequence", "RescaleSlope", "RescaleIntercept", "VOILUTSequence", "WindowCenter",
    "WindowWidth", "VOILUTFunction", "PresentationLUTShape", "PixelSpacing", "ImagerPixelSpacing",
    "LossyImageCompression", *exposed.KEYWORDS,
)
_GREY_TOLERANCE = 8
"""Colour channels of a grey picture may differ by this much of 255: lossy compression."""

_PERCENTILES = (0.5, 99.5)
_LEAST_CONTRAST = 0.05

Values = NDArray[np.float32]
Mask = NDArray[np.bool_]


def to_grey(source: Dataset | Path, decoder: FrameDecoder = decode_frame) -> tuple[RadiographImage, tuple[str, ...]]:
    """Turn one radiograph into the grey values that a viewer would show.

    source: a CR or DX data set with file meta information, or its path; decoder: of compressed pixels. Returns the
    image, (y, x) float32 in 0..1, bright = dense, padding 0; and the limitations found, in words.
    VOI LUT comes before the first window; where both are absent or show nothing, the 0.5 to 99.5 percentiles are used.
    MONOCHROME1 is inverted last; Presentation LUT Shape is not trusted against it. What shutter or collimator shut off is
    black, and no part of what models look at.
    Raises: UnusableStudy(INVALID_PIXEL_DESCRIPTION) for colour, several frames or a damaged Modality LUT;
    UnusableStudy(UNREADABLE_PIXELS), and what the decoder raises; OSError when a path cannot be opened.
    """
    dataset = read(source, *_KEYWORDS) if isinstance(source, Path) else source
    if describe(dataset).frames != 1:
        raise _invalid("NumberOfFrames", dataset.NumberOfFrames, "1")
    photometric = str(element(dataset, "PhotometricInterpretation") or "")
    stored = _monochrome(decode(dataset, decoder=decoder), photometric)
    outside = padded(stored, dataset)
    shut, told = shut_off(dataset, *stored.shape)
    if shut is not None:
        outside = shut if outside is None else outside | shut
    shown, limitations = _voi(_modality(stored, dataset), dataset, outside)
    if photometric == "MONOCHROME1":
        shown = np.float32(1.0) - shown
    if outside is not None:
        shown[outside] = 0.0
    image = RadiographImage(str(element(dataset, "SOPInstanceUID") or ""), shown, box_of(shut, shown))
    return image, (*limitations, *told, *_limitations(dataset, photometric))


def _monochrome(stored: NDArray[Any], photometric: str) -> NDArray[Any]:
    """Return (y, x) stored values; a colour image is accepted only when it holds nothing but grey."""
    if stored.ndim == 2:
        if photometric not in ("MONOCHROME1", "MONOCHROME2"):
            raise _invalid("PhotometricInterpretation", photometric, "MONOCHROME1 or MONOCHROME2")
        return stored
    largest = 255 if stored.dtype.itemsize == 1 else 65535
    tolerance = _GREY_TOLERANCE * (1 if largest == 255 else 257)
    wide = stored.astype(np.int32)
    if photometric in ("YBR_FULL", "YBR_FULL_422"):
        grey, colour = wide[..., 0], np.abs(wide[..., 1:] - (largest + 1) // 2)
    elif photometric in ("RGB", "YBR_ICT", "YBR_RCT"):  # the last two are RGB after decoding
        grey, colour = wide[..., 1], np.abs(wide - wide[..., 1:2])
    else:
        raise _invalid("PhotometricInterpretation", photometric, "MONOCHROME1 or MONOCHROME2, or RGB that is grey")
    if int(colour.max()) > tolerance:
        raise _invalid("PhotometricInterpretation", f"{photometric} with colours", "grey values")
    return grey

_HIGHEST_VALUE = 1e30  # that a pixel may stand for: single precision ends at 3e38


def _modality(stored: NDArray[Any], dataset: Dataset) -> Values:
    """Apply the Modality LUT or the rescale; where both are absent the values stay (PS3.3 C.11.1)."""
    sequence = element(dataset, "ModalityLUTSequence")
    if sequence:
        table = lookup_table(sequence[0], signed=stored.dtype.kind == "i")
        if table is None:
            raise _invalid("ModalityLUTSequence", "damaged", "LUTDescriptor and LUTData that agree")
        return table.apply(stored)
    slope, intercept = _number(dataset, "RescaleSlope", 1.0), _number(dataset, "RescaleIntercept", 0.0)
    if slope == 0 or not abs(slope) * 2**16 + abs(intercept) < _HIGHEST_VALUE:  # nor where either is not a number
        raise UnusableStudy(Reason.INVALID_RESCALE, f"RescaleSlope is {slope}, RescaleIntercept {intercept}")
    return stored.astype(np.float32) * np.float32(slope) + np.float32(intercept)


def _voi(values: Values, dataset: Dataset, outside: Mask | None) -> tuple[Values, tuple[str, ...]]:
    """Return what is to be shown, 0..1, and a limitation when the image brings no usable window."""
    sequence = element(dataset, "VOILUTSequence")
    table: LookupTable | None = lookup_table(sequence[0], signed=bool(values.min() < 0)) if sequence else None
    if table is not None:
        shown = table.apply(values) / np.float32(table.highest)
        if _shows_something(shown, outside):
            return shown, ()
    windowed = _windowed(values, dataset)
    if windowed is not None and _shows_something(windowed, outside):
        return windowed, ()
    low, high = np.percentile(_inside(values, outside), _PERCENTILES)
    why = "window absent" if windowed is None else "window unusable"
    if not high > low:
        raise UnusableStudy(Reason.BLANK_IMAGE, f"every value is {float(low):g}")
    return _clipped((values - np.float32(low)) / np.float32(high - low)), (f"{why}: percentiles used",)


def _windowed(values: Values, dataset: Dataset) -> Values | None:
    """Apply the first window by its VOI LUT function (PS3.3 C.11.2.1.2, C.11.2.1.3); None when there is none."""
    centre, width = _number(dataset, "WindowCenter", math.nan), _number(dataset, "WindowWidth", math.nan)
    function = str(element(dataset, "VOILUTFunction") or "LINEAR")
    least = 1.0 if function == "LINEAR" else 0.0
    if not (abs(centre) < _HIGHEST_VALUE and least <= width < _HIGHEST_VALUE and width > 0):  # nor if no number
        return None
    if function == "SIGMOID":
        power = np.clip(-4.0 * (values - np.float32(centre)) / np.float32(width), -80.0, 80.0)
        return np.asarray(1.0 / (1.0 + np.exp(power)), np.float32)
    if function == "LINEAR_EXACT":
        return _clipped((values - np.float32(centre)) / np.float32(width) + np.float32(0.5))
    return _clipped((values - np.float32(centre - 0.5)) / np.float32(max(width - 1.0, 1e-3)) + np.float32(0.5))


def _shows_something(shown: Values, outside: Mask | None) -> bool:
    """Tell whether a window leaves contrast: neither flat nor nearly all black and white."""
    inside = _inside(shown, outside)
    low, high = np.percentile(inside, _PERCENTILES)
    clipped = float(np.mean((inside <= 0.0) | (inside >= 1.0)))
    return bool(high - low >= _LEAST_CONTRAST and clipped < 0.95)


def _inside(values: Values, outside: Mask | None) -> Values:
    """Return a sample of the values that are not padding, for percentiles."""
    step = max(1, min(values.shape) // 512)
    sample = values[::step, ::step]
    if outside is None or bool(outside[::step, ::step].all()):
        return sample.ravel()
    return sample[~outside[::step, ::step]]


def _limitations(dataset: Dataset, photometric: str) -> tuple[str, ...]:
    found = []
    shape = str(element(dataset, "PresentationLUTShape") or "")
    if shape and photometric.startswith("MONOCHROME") and (shape == "INVERSE") != (photometric == "MONOCHROME1"):
        found.append(f"PresentationLUTShape {shape[:16]} contradicts {photometric}, which was followed")
    if not element(dataset, "PixelSpacing") and not element(dataset, "ImagerPixelSpacing"):
        found.append("spacing unknown")
    if str(element(dataset, "LossyImageCompression") or "") == "01":
        found.append("lossy compressed")
    return tuple(found)


def _number(dataset: Dataset, keyword: str, absent: float) -> float:
    """Return the first value of an element as a number; `absent` when it is missing, NaN when it is not a number."""
    try:
        value = element(dataset, keyword)
        if isinstance(value, (list, tuple)) or (hasattr(value, "__getitem__") and not isinstance(value, str)):
            value = value[0] if len(value) else None
        return absent if value in (None, "") else float(value)
    except (ValueError, TypeError, OverflowError):
        return math.nan


def _clipped(values: Values) -> Values:
    clipped: Values = np.clip(values, 0.0, 1.0)
    return clipped


def _invalid(keyword: str, value: object, accepted: str) -> UnusableStudy:
    return UnusableStudy(Reason.INVALID_PIXEL_DESCRIPTION, f"{keyword} is {value}; accepted: {accepted}")
