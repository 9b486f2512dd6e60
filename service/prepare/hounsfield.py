"""Stored CT values to Hounsfield units, slice by slice, refused where they cannot be HU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from service.domain.study import CtVolume, Header, VolumeGeometry
from service.errors import Defect, Reason, UnusableStudy
from service.prepare.codestream import FrameDecoder, decode_frame
from service.prepare.padding import padded
from service.prepare.pixels import MOST_VOLUME_BYTES, decode, element, read, require_room

AIR_HU = -1024.0
"""Value of padding; nothing is less dense than air, so lower values (-2000 outside the scan circle) become it."""

HIGHEST_TISSUE_HU = 4000.0
_HIGHEST_RESCALE = 1e30  # single precision ends at 3e38
"""Metal may exceed it, but not in much of an image."""

_ACCEPTED_RESCALE_TYPES = ("", "HU", "US")
_DECODERS = 2


def to_hu(stored: NDArray[Any], slope: float | None, intercept: float | None,
          out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """Convert stored CT values to Hounsfield units.

    stored: any shape, as decoded; returns the same shape, float32, HU, not below AIR_HU: `out` where it is given.
    Raises: UnusableStudy(INVALID_RESCALE) when slope or intercept is absent or not finite, or slope is 0.
    See PS3.3 C.11.1 (Modality LUT).
    """
    if slope is None or not abs(slope) < _HIGHEST_RESCALE or slope == 0:
        raise _invalid("RescaleSlope", slope, "a number other than 0")
    if intercept is None or not abs(intercept) < _HIGHEST_RESCALE:
        raise _invalid("RescaleIntercept", intercept, "a number")
    hu: NDArray[np.float32] = np.multiply(stored, np.float32(slope), out=out, dtype=np.float32, casting="same_kind")
    hu += np.float32(intercept)
    return np.maximum(hu, np.float32(AIR_HU), out=hu)


def load_volume(paths: Sequence[Path], headers: Sequence[Header], geometry: VolumeGeometry,
                decoder: FrameDecoder = decode_frame, most_bytes: int = MOST_VOLUME_BYTES,
                give_way: Callable[[], None] = lambda: None) -> CtVolume:
    """Read and decode the slices of a series into one volume in HU; two threads decode.

    paths, headers: one for each slice, in the order of `geometry`; of the frames of an enhanced CT all have the same path,
    and the file is read once. Slope and intercept are those of each slice; padding
    becomes air. decoder: of compressed slices; most_bytes: the largest volume that is made; give_way: called before
    each slice, in the caller's context.
    Raises: UnusableStudy with INVALID_RESCALE (also when the values cannot be HU), VARIABLE_GEOMETRY (a slice of
    another size), INVALID_PIXEL_DESCRIPTION (also of too many voxels), UNREADABLE_PIXELS or DECODER_FAILED; OSError when
    a file cannot be opened.
    """
    require_room(len(headers) * geometry.rows * geometry.columns, most_bytes)
    hu = np.empty((len(headers), geometry.rows, geometry.columns), np.float32)
    whole = read_whole(paths, headers)

    def load(index: int) -> None:
        give_way()
        path = paths[index]
        dataset = whole[path] if path in whole else read(path)
        slice_hu(dataset, headers[index], (geometry.rows, geometry.columns), decoder, hu[index])

    with ThreadPoolExecutor(_DECODERS, thread_name_prefix="decode") as pool:
        work = [pool.submit(copy_context().run, load, index) for index in range(len(headers))]
        try:
            for done in work:
                done.result()
        finally:
            pool.shutdown(cancel_futures=True)
    check_plausible(hu)
    return CtVolume(hu, geometry)


def read_whole(paths: Sequence[Path], headers: Sequence[Header]) -> dict[Path, Dataset]:
    """Return the data sets of the multi-frame images among some slices, each read once, by path."""
    multiframe = dict.fromkeys(path for path, header in zip(paths, headers, strict=True) if header.frame_number)
    return {path: read(path) for path in multiframe}


def slice_hu(dataset: Dataset, header: Header, shape: tuple[int, int], decoder: FrameDecoder = decode_frame,
             out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """Decode one slice: (y, x) float32, HU, padding as air; into `out` where it is given.

    shape: rows and columns that it must have.

    Raises: as `load_volume`, but for values that cannot be HU.
    """
    if header.rescale_type.upper() not in _ACCEPTED_RESCALE_TYPES:
        raise _invalid("RescaleType", header.rescale_type[:16], "HU")
    if element(dataset, "SOPInstanceUID") != header.stored_uid:
        raise Defect(Reason.INTERNAL_ERROR, "a file in the spool holds another instance than its record says")
    stored = decode(dataset, (header.frame_number or 1) - 1, decoder)
    if stored.shape != shape:
        raise UnusableStudy(Reason.VARIABLE_GEOMETRY, f"a slice has the shape {stored.shape}, expected {shape}")
    hu = to_hu(stored, header.rescale_slope, header.rescale_intercept, out)
    outside = padded(stored, dataset)
    if outside is not None:
        hu[outside] = AIR_HU
    return hu


def check_plausible(hu: NDArray[np.float32]) -> None:
    """Refuse values that cannot be HU of a chest: no air or lung at all, or much denser than bone. hu: (z, y, x).

    Raises: UnusableStudy with INVALID_RESCALE.
    """
    sample = hu[:, ::4, ::4]
    if float(sample.min()) > -300.0:
        raise UnusableStudy(Reason.INVALID_RESCALE, f"lowest value {sample.min():.0f}; a chest in HU holds air (-1000)")
    if float(np.mean(sample > HIGHEST_TISSUE_HU)) > 0.05:
        raise UnusableStudy(Reason.INVALID_RESCALE, f"more than 5 % of the values exceed {HIGHEST_TISSUE_HU:.0f}")


def _invalid(keyword: str, value: object, accepted: str) -> UnusableStudy:
    found = "absent" if value is None else value
    return UnusableStudy(Reason.INVALID_RESCALE, f"{keyword} is {found}; accepted: {accepted}")
