"""The parts of a Segmentation that repeat with every slice and every frame, encoded at once.

highdicom makes a data set for each frame, pydicom encodes each element of it: for a CT of 300 slices a third of a second,
and a fifth of one to write it, all of it in Python. But a frame differs from the next in three values: so highdicom makes a
Segmentation of a few slices, and what is said of all the others is put into it here, encoded as PS3.5 7.1.2 and 7.5 want it
(explicit VR little endian). Such a sequence is read when somebody asks for it, and written as it is. What comes out is what
highdicom makes of all slices, byte for byte, but for the byte that fills up an odd length of pixel data, which is 0 here:
tests compare the two. Where there is one segment only, highdicom makes all of it: whether the frames are called a volume
goes by all of their positions.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.tag import BaseTag, Tag

_LONG = frozenset((b"OB", b"OW", b"SQ", b"UN", b"UT"))
_PER_FRAME, _PIXELS = Tag("PerFrameFunctionalGroupsSequence"), Tag("PixelData")
_SOURCES, _SERIES = Tag("SourceImageSequence"), Tag("ReferencedSeriesSequence")


@dataclass(frozen=True)
class Frames:
    """The frames of a Segmentation, in order. segments: the number of each; slices: its slice; indices: the place of that
    slice among those that have a frame, from 1."""

    segments: Sequence[int]
    slices: Sequence[int]
    indices: Sequence[int]


def few(areas: NDArray[np.int64]) -> list[int]:
    """Return slices that show all that a Segmentation says: the first, those that begin and end it, one of each segment.

    areas: (segment, z) voxels of each segment in each slice, none empty.
    """
    marked = np.flatnonzero(areas.any(axis=0))
    return sorted({0, int(marked[0]), int(marked[-1]), *(int(np.flatnonzero(a)[0]) for a in areas)})


def frames_of(areas: NDArray[np.int64], ascending: bool) -> Frames:
    """Return every frame: segment by segment, slices in the order of their indices. ascending: that is the stack's."""
    marked = np.flatnonzero(areas.any(axis=0))
    order = marked if ascending else marked[::-1]
    found = [(n, int(z), k) for n, area in enumerate(areas, 1) for k, z in enumerate(order, 1) if area[z]]
    segments, slices, indices = zip(*found, strict=True)
    return Frames(segments, slices, indices)


def is_ascending(made: Dataset, first: Dataset) -> bool:
    """Tell whether the indices of a Segmentation go with the order of its slices. first: the first that has a frame."""
    return all(int(item.FrameContentSequence[0].DimensionIndexValues[-1]) == 1
               for item in made.PerFrameFunctionalGroupsSequence
               if item.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID == first.SOPInstanceUID)


def complete(made: Dataset, sources: Sequence[Dataset], masks: NDArray[np.uint8], frames: Frames) -> Dataset:
    """Return a Segmentation of all slices, from one of a few.

    made: as highdicom makes it of `few` slices, used up; `as_it_is` must follow in the end. sources: data sets of all
    slices, of one series; masks: (z, y, x) uint8, segment n is the bit 1 << (n - 1).
    """
    whole = Dataset(made)
    whole.file_meta = made.file_meta
    whole.NumberOfFrames = len(frames.slices)
    instances = [_item(_instance(s)) for s in sources]
    _put(whole, _SOURCES, b"".join(instances))
    series = _text("SeriesInstanceUID", str(sources[0].SeriesInstanceUID))
    _put(whole, _SERIES, _item(_sequence("ReferencedInstanceSequence", instances) + series))
    _put(whole, _PER_FRAME, b"".join(_per_frame(made.PerFrameFunctionalGroupsSequence[0], sources, frames)))
    whole[_PIXELS] = DataElement(_PIXELS, "OB", _packed(masks, frames))
    return whole


def as_it_is(made: Dataset) -> None:
    """Have what is encoded written as it is; called when nothing in the data set is changed any more."""
    made.set_original_encoding(False, True, made._character_set)


def _per_frame(shown: Dataset, sources: Sequence[Dataset], frames: Frames) -> Iterable[bytes]:
    """Yield the item of each frame. shown: one that highdicom made, for what all have alike."""
    derivation = shown.DerivationImageSequence[0]
    image = derivation.SourceImageSequence[0]
    alike = _encoded(image, {"ReferencedSOPClassUID", "ReferencedSOPInstanceUID"})
    code = _sequence("DerivationCodeSequence", [_item(_encoded(derivation.DerivationCodeSequence[0]))])
    of_slice: dict[int, bytes] = {}
    position: dict[int, bytes] = {}
    for z in set(frames.slices):
        source = sources[z]
        images = _sequence("SourceImageSequence", [_item(_instance(source) + alike)])
        of_slice[z] = _sequence("DerivationImageSequence", [_item(images + code)])
        place = Dataset()
        place.ImagePositionPatient = source.ImagePositionPatient
        position[z] = _sequence("PlanePositionSequence", [_item(_encoded(place))])
    of_segment = {n: _sequence("SegmentIdentificationSequence", [
        _item(_element("ReferencedSegmentNumber", b"US", struct.pack("<H", n)))]) for n in set(frames.segments)}
    for n, z, index in zip(frames.segments, frames.slices, frames.indices, strict=True):
        values = _element("DimensionIndexValues", b"UL", struct.pack("<2L", n, index))
        content = _sequence("FrameContentSequence", [_item(values)])
        yield _item(of_slice[z] + content + position[z] + of_segment[n])


def _packed(masks: NDArray[np.uint8], frames: Frames) -> bytes:
    """Pack the frames, a bit for each pixel, the first in the lowest, frames without a gap (PS3.5 8.1.1)."""
    planes = ((masks[z] >> np.uint8(n - 1)) & np.uint8(1) for n, z in zip(frames.segments, frames.slices, strict=True))
    if masks.shape[1] * masks.shape[2] % 8 == 0:
        packed = b"".join(np.packbits(plane, bitorder="little").tobytes() for plane in planes)
    else:
        packed = np.packbits(np.concatenate([plane.ravel() for plane in planes]), bitorder="little").tobytes()
    return packed + bytes(len(packed) % 2)


def _put(whole: Dataset, tag: BaseTag, value: bytes) -> None:
    whole[tag] = RawDataElement(tag, "SQ", len(value), value, 0, False, True)


def _instance(source: Dataset) -> bytes:
    return (_text("ReferencedSOPClassUID", str(source.SOPClassUID))
            + _text("ReferencedSOPInstanceUID", str(source.SOPInstanceUID)))


def _encoded(dataset: Dataset, but: Iterable[str] = ()) -> bytes:
    """Encode a data set, without some of its elements."""
    kept = Dataset({e.tag: e for e in dataset if e.keyword not in but})
    file = DicomBytesIO()
    file.is_implicit_VR, file.is_little_endian = False, True
    write_dataset(file, kept)
    return bytes(file.getvalue())


def _text(keyword: str, uid: str) -> bytes:
    value = uid.encode("ascii")
    return _element(keyword, b"UI", value + bytes(len(value) % 2))


def _sequence(keyword: str, items: Iterable[bytes]) -> bytes:
    return _element(keyword, b"SQ", b"".join(items))


def _item(value: bytes) -> bytes:
    return struct.pack("<HHL", 0xFFFE, 0xE000, len(value)) + value


def _element(keyword: str, vr: bytes, value: bytes) -> bytes:
    tag = Tag(keyword)
    form = "<HH2sHL" if vr in _LONG else "<HH2sH"
    rest = (0, len(value)) if vr in _LONG else (len(value),)
    return struct.pack(form, tag.group, tag.element, vr, *rest) + value
