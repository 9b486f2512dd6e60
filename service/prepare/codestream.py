"""Compressed frames: what their header promises, checked before a decoder allocates anything, and the decoders.

imagecodecs is used because its decoders release the GIL: two threads decode two slices at once.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from service.errors import Reason, UnusableStudy

Frame = NDArray[Any]

MAX_PIXELS = 64 * 2**20
"""Most pixels of one frame; the largest detectors have about 20 million."""

MAX_FRAME_BYTES = MAX_PIXELS * 3 * 2
"""Most bytes of one decoded frame: three samples of 16 bits."""


@dataclass(frozen=True)
class FrameShape:
    """What one frame must decode to. bytes_per_sample: 1 or 2; ycbcr: luminance and colour differences."""

    rows: int
    columns: int
    samples: int
    bytes_per_sample: int
    ycbcr: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, columns) or (rows, columns, samples)."""
        return (self.rows, self.columns) if self.samples == 1 else (self.rows, self.columns, self.samples)

    @property
    def length(self) -> int:
        """Bytes of the decoded frame."""
        return self.rows * self.columns * self.samples * self.bytes_per_sample


FrameDecoder = Callable[[bytes, str, FrameShape], Frame]
"""Decodes a codestream in a transfer syntax to a frame of a shape: `decode_frame`, or `decoders.Decoders`."""


@dataclass(frozen=True)
class _Announced:
    """Size and precision that a codestream's header gives."""

    rows: int
    columns: int
    components: int
    precision: int


_FOREIGN_ERRORS = (
    RuntimeError,  # imagecodecs: ImcdError, Jpeg8Error, JpeglsError, Jpeg2kError
    ValueError,
    TypeError,
    IndexError,
    OverflowError,
    struct.error,
)
"""What the decoders raise on a bad codestream; each becomes UnusableStudy."""

_SOF_JPEG = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SOF_JPEG_LS = frozenset({0xF7})
_SOC_SIZ = b"\xff\x4f\xff\x51"
_JP2_SIGNATURE = b"\x00\x00\x00\x0cjP  "
_END = b"\xff\xd9"


def decode_frame(codestream: bytes, transfer_syntax_uid: str, expected: FrameShape) -> Frame:
    """Decode one compressed frame.

    Returns (y, x) or (y, x, 3), 8 or 16 bit, as stored: no colour conversion but the one inside JPEG 2000.
    Raises: UnusableStudy(UNREADABLE_PIXELS) for a codestream that is truncated, corrupt or not of the expected size.
    """
    decoder = DECODERS[transfer_syntax_uid]
    try:
        frame = decoder(codestream, expected)
    except MemoryError as error:
        raise _unreadable("the decoder wants more memory than it may have") from error
    except _FOREIGN_ERRORS as error:
        raise _unreadable(f"the decoder refused the codestream ({type(error).__name__})") from error
    if frame.shape != expected.shape or frame.dtype.itemsize > expected.bytes_per_sample:
        raise _unreadable(f"decoded to {frame.shape} {frame.dtype}, announced {expected.shape}")
    return frame


def load_decoders() -> None:
    """Load the libraries of all decoders now, for one who cannot open a file later."""
    for name in ("jpeg8_decode", "jpegls_decode", "jpeg2k_decode", "packbits_decode"):
        getattr(imagecodecs, name)


def _jpeg(codestream: bytes, expected: FrameShape) -> Frame:
    """JPEG baseline, extended (12 bit) and lossless (PS3.5 A.4.1, A.4.2)."""
    _check(_jpeg_header(codestream, _SOF_JPEG), expected)
    _check_end(codestream)  # the library fills what is missing with grey and says nothing
    space = None if expected.samples == 1 else "YCBCR" if expected.ycbcr else "RGB"
    decoded: Frame = imagecodecs.jpeg8_decode(codestream, colorspace=space, outcolorspace=space)
    return decoded


def _jpeg_ls(codestream: bytes, expected: FrameShape) -> Frame:
    """JPEG-LS, lossless and near-lossless (PS3.5 A.4.3)."""
    _check(_jpeg_header(codestream, _SOF_JPEG_LS), expected)
    decoded: Frame = imagecodecs.jpegls_decode(codestream)
    return decoded


def _jpeg_2000(codestream: bytes, expected: FrameShape) -> Frame:
    """JPEG 2000 (PS3.5 A.4.4); a multiple component transform is undone by the decoder."""
    _check(_jpeg_2000_header(codestream), expected)
    decoded: Frame = imagecodecs.jpeg2k_decode(codestream, numthreads=1)
    return decoded


def _rle(codestream: bytes, expected: FrameShape) -> Frame:
    """RLE (PS3.5 Annex G): one PackBits segment for each byte of each sample, most significant byte first."""
    count, *offsets = struct.unpack_from("<16I", codestream)
    planes = expected.samples * expected.bytes_per_sample
    if count != planes or offsets[0] != 64 or sorted(offsets[:count]) != offsets[:count]:
        raise _unreadable(f"RLE header has {count} segments, expected {planes} in ascending order")
    pixels = expected.rows * expected.columns
    packed = np.empty((pixels, expected.samples, expected.bytes_per_sample), np.uint8)
    ends = [*offsets[1:count], len(codestream)]
    for number, (start, end) in enumerate(zip(offsets, ends, strict=False)):
        sample, byte = divmod(number, expected.bytes_per_sample)
        plane = imagecodecs.packbits_decode(codestream[start:end], out=pixels + 2)  # 2: padding to an even length
        if not pixels <= len(plane) <= pixels + 2:
            raise _unreadable(f"RLE segment {number} holds {len(plane)} bytes, expected {pixels}")
        packed[:, sample, expected.bytes_per_sample - 1 - byte] = np.frombuffer(plane, np.uint8, pixels)
    return packed.reshape(-1).view(f"<u{expected.bytes_per_sample}").reshape(expected.shape)


DECODERS: dict[str, Callable[[bytes, FrameShape], Frame]] = {
    "1.2.840.10008.1.2.4.50": _jpeg,
    "1.2.840.10008.1.2.4.51": _jpeg,
    "1.2.840.10008.1.2.4.57": _jpeg,
    "1.2.840.10008.1.2.4.70": _jpeg,
    "1.2.840.10008.1.2.4.80": _jpeg_ls,
    "1.2.840.10008.1.2.4.81": _jpeg_ls,
    "1.2.840.10008.1.2.4.90": _jpeg_2000,
    "1.2.840.10008.1.2.4.91": _jpeg_2000,
    "1.2.840.10008.1.2.5": _rle,
}
"""The decoder of each compressed transfer syntax that is read."""


def _jpeg_header(codestream: bytes, frame_markers: frozenset[int]) -> _Announced:
    """Read the frame header (SOF) of a JPEG or JPEG-LS stream (ITU-T T.81 B.2.2, T.87 C.2.2)."""
    for marker, segment in _jpeg_segments(codestream):
        if marker in frame_markers:
            precision, rows, columns, components = struct.unpack_from(">BHHB", segment)
            return _Announced(rows, columns, components, precision)
    raise _unreadable("the codestream has no frame header")


def _jpeg_segments(codestream: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (marker, segment without its length) up to the first scan."""
    if codestream[:2] != b"\xff\xd8":
        raise _unreadable("the codestream does not begin as JPEG")
    at = 2
    while at + 4 <= len(codestream):
        lead, marker, length = struct.unpack_from(">BBH", codestream, at)
        if lead != 0xFF or marker == 0xDA:
            return
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        yield marker, codestream[at + 4:at + 2 + length]
        at += 2 + length


def _jpeg_2000_header(codestream: bytes) -> _Announced:
    """Read the SIZ segment of a JPEG 2000 stream, bare or in a JP2 box (ITU-T T.800 A.5.1)."""
    begin = codestream.find(_SOC_SIZ, 0, 4096) if codestream.startswith(_JP2_SIGNATURE) else 0
    if begin < 0 or codestream[begin:begin + 4] != _SOC_SIZ:
        raise _unreadable("the codestream does not begin as JPEG 2000")
    _, _, right, bottom, left, top, *_, components = struct.unpack_from(">HH8IH", codestream, begin + 4)
    depths = struct.unpack_from(f">{min(components, 4) * 3}B", codestream, begin + 42)
    if any(depths[1::3] + depths[2::3]) and set(depths[1::3] + depths[2::3]) != {1}:
        raise _unreadable("the components of the codestream are sub-sampled")
    return _Announced(bottom - top, right - left, components, (depths[0] & 0x7F) + 1)


def _check(announced: _Announced, expected: FrameShape) -> None:
    """Compare the header with the data set, before the decoder reserves memory for what the header says."""
    same_size = (announced.rows, announced.columns) == (expected.rows, expected.columns)
    if not same_size or announced.components != expected.samples:
        raise _unreadable(
            f"the codestream is {announced.rows} x {announced.columns} x {announced.components}, "
            f"the data set {expected.rows} x {expected.columns} x {expected.samples}")
    if announced.precision > 8 * expected.bytes_per_sample:
        raise _unreadable(f"the codestream has {announced.precision} bits, BitsAllocated "
                          f"is {8 * expected.bytes_per_sample}")


def _check_end(codestream: bytes) -> None:
    if not codestream[-64:].rstrip(b"\x00").endswith(_END):
        raise _unreadable("the codestream is truncated: it has no end marker")


def _unreadable(detail: str) -> UnusableStudy:
    return UnusableStudy(Reason.UNREADABLE_PIXELS, detail)
