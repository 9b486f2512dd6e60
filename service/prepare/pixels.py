"""Pixel data of one frame as stored values, checked before anything is decoded.

A description that contradicts itself, or asks for more memory than an image can need, is refused by name and value.
Every exception of a decoder is turned into ours here, so that nothing foreign leaves this module but OSError.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.errors import BytesLengthException, InvalidDicomError

from service.errors import Reason, UnusableStudy
from service.prepare.codestream import DECODERS, MAX_PIXELS, FrameDecoder, FrameShape, decode_frame

MAX_FRAMES = 4096
"""Most frames of one object."""

MOST_VOLUME_BYTES = 4 * 2**30
"""Most bytes of the decoded images of a study, as float32: a thousand slices of 1024 x 1024."""

NATIVE_SYNTAXES = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1")
"""Implicit and Explicit VR Little Endian."""

TRANSFER_SYNTAXES = (*NATIVE_SYNTAXES, *DECODERS)
"""Every transfer syntax whose pixels can be read."""

_KEYWORDS = (
    "SOPInstanceUID", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows",
    "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue",
    "PixelPaddingRangeLimit", "ExtendedOffsetTable", "ExtendedOffsetTableLengths", "PixelData",
)

_FLOAT_PIXEL_DATA = 0x7FE00008
"""The first element that may hold pixels."""

READ_ERRORS = (InvalidDicomError, BytesLengthException, EOFError, ValueError, TypeError, KeyError, IndexError,
                AttributeError, NotImplementedError, RecursionError, OverflowError, MemoryError, struct.error)
"""What pydicom raises while it parses a damaged file or element."""


@dataclass(frozen=True)
class PixelDescription:
    """The Image Pixel attributes of a data set after they were checked (PS3.3 C.7.6.3)."""

    frame: FrameShape
    frames: int
    bits_allocated: int
    bits_stored: int
    signed: bool
    planar: bool
    transfer_syntax_uid: str


def read(path: Path, *keywords: str) -> Dataset:
    """Read the pixel attributes of a file, and the further `keywords`; other elements are skipped.

    Raises: UnusableStudy(UNREADABLE_PIXELS) when it is not a readable DICOM file; OSError when it cannot be opened.
    """
    return _read(path, [*_KEYWORDS, *keywords])


def read_all(path: Path) -> Dataset:
    """Read every element of a file.  Raises: as `read`."""
    return _read(path, None)


def without_pixels(dataset: Dataset) -> Dataset:
    """Return a data set after its pixel data, and what comes behind it, were taken out of it."""
    for tag in tuple(dataset.keys()):
        if tag >= _FLOAT_PIXEL_DATA:
            del dataset[tag]
    return dataset


def _read(path: Path, tags: list[str] | None) -> Dataset:
    try:
        return dcmread(path, specific_tags=tags)
    except (*READ_ERRORS, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # pydicom raises it without a number for bad tags
            raise
        raise UnusableStudy(Reason.UNREADABLE_PIXELS,
                            f"the file is not readable DICOM ({type(error).__name__})") from error


def describe(dataset: Dataset) -> PixelDescription:
    """Read and check how the pixels are stored.

    Raises: UnusableStudy(INVALID_PIXEL_DESCRIPTION) naming the attribute, its value and what is accepted;
    UnusableStudy(UNREADABLE_PIXELS) for a transfer syntax that is not read.
    """
    syntax = str(getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", ""))
    if syntax not in TRANSFER_SYNTAXES:
        raise UnusableStudy(Reason.UNREADABLE_PIXELS, f"TransferSyntaxUID is {syntax or 'absent'}, which is not read")
    rows = _integer(dataset, "Rows", range(1, 65536))
    columns = _integer(dataset, "Columns", range(1, 65536))
    if rows * columns > MAX_PIXELS:
        raise _invalid("Rows x Columns", f"{rows} x {columns}", f"at most {MAX_PIXELS} pixels")
    samples = _integer(dataset, "SamplesPerPixel", (1, 3))
    allocated = _integer(dataset, "BitsAllocated", (8, 16))
    stored = _integer(dataset, "BitsStored", range(1, allocated + 1))
    _integer(dataset, "HighBit", (stored - 1,))
    signed = _integer(dataset, "PixelRepresentation", (0, 1)) == 1
    planar = samples == 3 and _integer(dataset, "PlanarConfiguration", (0, 1)) == 1
    frames = _integer(dataset, "NumberOfFrames", range(1, MAX_FRAMES + 1), absent=1)
    ycbcr = str(element(dataset, "PhotometricInterpretation") or "").startswith("YBR")
    shape = FrameShape(rows, columns, samples, allocated // 8, ycbcr)
    return PixelDescription(shape, frames, allocated, stored, signed, planar, syntax)


def decode(source: Dataset | Path, frame: int = 0, decoder: FrameDecoder = decode_frame) -> NDArray[Any]:
    """Decode one frame to its stored values.

    source: a data set with file meta information, or the path of a file; frame: from 0. decoder: of compressed frames;
    here and now unless it is a `Decoders`, which is what images of strangers need.
    Returns (y, x) or (y, x, 3): uint8 or uint16, int8 or int16 where PixelRepresentation is 1; unused high bits are
    masked, signs extended. Colour is given as stored (RGB or YCbCr); the transform inside JPEG 2000 is undone.
    Raises: UnusableStudy(INVALID_PIXEL_DESCRIPTION or UNREADABLE_PIXELS), and what the decoder raises; OSError when a
    path cannot be opened.
    """
    dataset = read(source) if isinstance(source, Path) else source
    description = describe(dataset)
    if not 0 <= frame < description.frames:
        raise ValueError(f"frame {frame} of {description.frames}")
    data = element(dataset, "PixelData")
    if not isinstance(data, bytes | bytearray) or not data:
        raise UnusableStudy(Reason.UNREADABLE_PIXELS, "PixelData is absent or empty")
    if description.transfer_syntax_uid in NATIVE_SYNTAXES:
        values = _native_frame(data, description, frame)
    else:
        codestream = _codestream(dataset, bytes(data), description, frame)
        values = decoder(codestream, description.transfer_syntax_uid, description.frame)
    return _masked(values, description)


def require_room(pixels: int, most_bytes: int) -> None:
    """Refuse images that would take too much memory together, before the first is decoded. pixels: of all of them.

    Raises: UnusableStudy(INVALID_PIXEL_DESCRIPTION).
    """
    if 4 * pixels > most_bytes:
        raise _invalid("Rows x Columns of all images", f"{pixels} pixels", f"at most {most_bytes // 4}")


def element(dataset: Dataset, keyword: str) -> Any:
    """Return an element's value, or None when it is absent.

    Raises: UnusableStudy(INVALID_PIXEL_DESCRIPTION) naming the element when it cannot be parsed.
    """
    try:
        return dataset.get(keyword)
    except READ_ERRORS as error:
        raise _invalid(keyword, "unreadable", "a value of its VR") from error


def _native_frame(data: bytes | bytearray, description: PixelDescription, frame: int) -> NDArray[Any]:
    shape = description.frame
    expected = shape.length * description.frames
    if len(data) not in (expected, expected + expected % 2):
        raise UnusableStudy(Reason.UNREADABLE_PIXELS, f"PixelData has {len(data)} bytes, expected {expected}")
    values = np.frombuffer(data, f"<u{shape.bytes_per_sample}", shape.length // shape.bytes_per_sample,
                           offset=frame * shape.length)
    if description.planar:
        return np.moveaxis(values.reshape(shape.samples, shape.rows, shape.columns), 0, -1)
    return values.reshape(shape.shape)


def _codestream(dataset: Dataset, data: bytes, description: PixelDescription, frame: int) -> bytes:
    """Put the fragments of one frame together (PS3.5 A.4)."""
    offsets, lengths = element(dataset, "ExtendedOffsetTable"), element(dataset, "ExtendedOffsetTableLengths")
    extended = (offsets, lengths) if offsets and lengths else None
    try:
        codestream: bytes = get_frame(data, frame, extended_offsets=extended, number_of_frames=description.frames)
    except READ_ERRORS as error:
        raise UnusableStudy(Reason.UNREADABLE_PIXELS,
                            f"the fragments of PixelData are damaged ({type(error).__name__})") from error
    return codestream


def _masked(values: NDArray[Any], description: PixelDescription) -> NDArray[Any]:
    """Bring decoded samples to BitsAllocated, drop the bits above BitsStored and extend the sign."""
    kind = "i" if values.dtype.kind == "i" else "u"
    size = description.frame.bytes_per_sample
    unused = description.bits_allocated - description.bits_stored
    values = values.astype(f"{kind}{size}", copy=False).view(f"u{size}")
    if description.signed:
        values = np.right_shift(np.left_shift(values, unused).view(f"i{size}"), unused)
    elif unused:
        values = np.bitwise_and(values, 2**description.bits_stored - 1)
    return values


def _integer(dataset: Dataset, keyword: str, accepted: range | tuple[int, ...], absent: int | None = None) -> int:
    value = element(dataset, keyword)
    if value in (None, "") and absent is not None:
        return absent
    if not isinstance(value, int) or value not in accepted:
        words = (f"{accepted.start} to {accepted.stop - 1}" if isinstance(accepted, range)
                 else " or ".join(str(a) for a in accepted))
        raise _invalid(keyword, "absent" if value is None else repr(value)[:40], words)
    return int(value)


def _invalid(keyword: str, value: str, accepted: str) -> UnusableStudy:
    return UnusableStudy(Reason.INVALID_PIXEL_DESCRIPTION, f"{keyword} is {value}; accepted: {accepted}")
