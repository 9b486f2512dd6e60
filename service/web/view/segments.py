"""The segments of a SEG, slice by slice: what is drawn over a CT, and where along it something was found."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.errors import InvalidDicomError
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from service.domain.codes import MORPHOLOGICALLY_ABNORMAL
from service.domain.study import Header

_MOST_SEGMENTS = 8
_APART = 3  # slices
_TOLD = re.compile(
    rb"\x08\x00\x55\x11UI..([0-9.]+)"  # Referenced SOP Instance UID
    rb"|\x08\x00\x60\x11IS..([0-9]+)"  # Referenced Frame Number
    rb"|\x62\x00\x0b\x00US\x02\x00(..)", re.S)  # Referenced Segment Number, the last of these in an item
Drawn = tuple[tuple[str, int], int]
"""Of a frame of the SEG: the image (UID, number of its frame) and the segment."""

_UNREADABLE = (OSError, InvalidDicomError, AttributeError, KeyError, IndexError, TypeError, ValueError)


class NoSegments(LookupError):
    """A segmentation that cannot be drawn."""


@dataclass(frozen=True)
class Segment:
    """One segment. colour: "#rrggbb", as the SEG recommends; finding: whether it is something abnormal."""

    number: int
    label: str
    colour: str
    finding: bool


class Segments:
    """A binary segmentation (PS3.3 A.51), kept packed as in its file."""

    def __init__(self, path: Path) -> None:
        """Read a file. Raises: NoSegments for one that is no binary SEG of at most eight segments, or damaged."""
        try:
            ds = pydicom.dcmread(path)
            groups = ds.get_item("PerFrameFunctionalGroupsSequence")
            if ds.SegmentationType != "BINARY" or ds.file_meta.TransferSyntaxUID not in (
                    ExplicitVRLittleEndian, ImplicitVRLittleEndian):
                raise NoSegments("only binary segmentations in Little Endian are drawn")
            self.segments = tuple(_segment(s) for s in ds.SegmentSequence)
            if max(s.number for s in self.segments) > _MOST_SEGMENTS:
                raise NoSegments(f"more than {_MOST_SEGMENTS} segments")
            self._shape = int(ds.Rows), int(ds.Columns)
            self._bits = np.frombuffer(ds.PixelData, np.uint8)
            self._frames: dict[tuple[str, int], list[tuple[int, int]]] = {}
            frames = scanned(groups.value, int(ds.NumberOfFrames)) or _parsed(ds)
            for frame, (place, number) in enumerate(frames):
                self._frames.setdefault(place, []).append((number, frame))
            if self._bits.size * 8 < self._shape[0] * self._shape[1] * int(ds.NumberOfFrames):
                raise NoSegments("its pixel data are too short")
        except _UNREADABLE as error:
            raise NoSegments("the segmentation cannot be read") from error

    def mask(self, image: Header) -> NDArray[np.uint8] | None:
        """Return what is marked on an image: (y, x) uint8, segment n is the bit 1 << (n - 1); None where nothing is."""
        frames = self._frames.get(_place(image))
        if frames is None:
            return None
        mask = np.zeros(self._shape, np.uint8)
        for number, frame in frames:
            mask |= self._frame(frame) << np.uint8(number - 1)
        return mask

    def areas(self, images: Sequence[Header]) -> dict[int, list[int]]:
        """Return how many pixels of each image each segment holds, by its number."""
        areas = {s.number: [0] * len(images) for s in self.segments}
        for place, image in enumerate(images):
            for number, frame in self._frames.get(_place(image), ()):
                areas[number][place] += self._count(frame)
        return areas

    def _frame(self, frame: int) -> NDArray[np.uint8]:
        size = self._shape[0] * self._shape[1]
        first = frame * size
        part = self._bits[first // 8:-(-(first + size) // 8)]
        bits = np.unpackbits(part, bitorder="little")[first % 8:first % 8 + size]
        return bits.reshape(self._shape)

    def _count(self, frame: int) -> int:
        size = self._shape[0] * self._shape[1]
        if size % 8:
            return int(np.count_nonzero(self._frame(frame)))
        return int(np.bitwise_count(self._bits[frame * size // 8:(frame + 1) * size // 8]).sum())


def scanned(raw: object, frames: int) -> list[Drawn]:
    """Return what each frame lies on, by a look at the bytes of the functional groups, for reading all their items takes
    longer than a reader waits.

    raw: Per-Frame Functional Groups Sequence in Explicit VR Little Endian, as read. Returns nothing where that tells less
    than one image and one segment for each frame.
    """
    found: list[Drawn] = []
    uid, number = "", 1
    for match in _TOLD.finditer(raw) if isinstance(raw, bytes) else ():
        if match[1] is not None:
            uid = uid or match[1].decode("ascii")
        elif match[2] is not None:
            number = int(match[2]) if number == 1 else number
        else:
            found.append(((uid, number), int.from_bytes(match[3], "little")))
            uid, number = "", 1
    return found if len(found) == frames and all(uid for (uid, _), _ in found) else []


def _parsed(ds: pydicom.Dataset) -> list[Drawn]:
    """Return what each frame lies on, item by item."""
    found: list[Drawn] = []
    for group in ds.PerFrameFunctionalGroupsSequence:
        source = group.DerivationImageSequence[0].SourceImageSequence[0]
        place = str(source.ReferencedSOPInstanceUID), int(source.get("ReferencedFrameNumber") or 1)
        found.append((place, int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)))
    return found


def _place(image: Header) -> tuple[str, int]:
    """Return what a SEG calls an image: its UID and the number of the frame, 1 for an image of one."""
    return image.stored_uid, image.frame_number or 1


def key_slices(areas: list[int]) -> list[int]:
    """Return up to three slices to look at: the largest area in each third of those with any, no neighbours."""
    where = [place for place, area in enumerate(areas) if area]
    third = -(-len(where) // 3)
    largest = [max(where[k:k + third], key=areas.__getitem__) for k in range(0, len(where), third)] if where else []
    return [one for k, one in enumerate(largest) if k == 0 or one - largest[k - 1] >= _APART]


def _segment(item: Any) -> Segment:
    category = str(item.SegmentedPropertyCategoryCodeSequence[0].CodeValue)
    abnormal = category == MORPHOLOGICALLY_ABNORMAL.value
    return Segment(int(item.SegmentNumber), str(item.SegmentLabel), _colour(item), abnormal)


def _colour(item: Any) -> str:
    """Return RecommendedDisplayCIELabValue (PS3.3 C.10.7.1.1) as "#rrggbb"; yellow where there is none."""
    lab = item.get("RecommendedDisplayCIELabValue")
    if lab is None:
        return "#ffdc00"
    light, a, b = (float(v) / 65535 for v in lab)
    pixel = np.array([[[light * 100, a * 255 - 128, b * 255 - 128]]], np.float32)
    red, green, blue = (round(255 * min(1.0, max(0.0, float(v)))) for v in cv2.cvtColor(pixel, cv2.COLOR_Lab2RGB)[0, 0])
    return f"#{red:02x}{green:02x}{blue:02x}"
