"""Read a segmentation that was sent back, and compare it with ours on the grid of the images (PS3.3 A.51)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels import iter_pixels
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from service.domain.finding import Presence
from service.feedback.report import code_of, require_patient
from service.feedback.said import Redrawn, Said, Unfit

_MOST_FRAMES = 65_535
_BY_HAND = ("MANUAL", "SEMIAUTOMATIC")
_POSITION_DIGITS = 2
Position = tuple[float, ...]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Grid:
    """The images of a study: rows and columns in pixels, and where each lies, mm, by SOP Instance UID."""

    rows: int
    columns: int
    positions: Mapping[str, Position]

    def image_at(self, position: Position) -> str:
        """Return the image at a position, "" where there is none."""
        wanted = _rounded(position)
        return next((uid for uid, here in self.positions.items() if _rounded(here) == wanted), "")


@dataclass(frozen=True)
class Drawing:
    """One segment. code, side: values of property type and laterality; by_hand: a person had a part in it.

    planes: (rows, columns) masks, packed to bits, by SOP Instance UID of the image; only those that hold a voxel.
    """

    label: str
    code: str
    side: str
    by_hand: bool
    planes: dict[str, NDArray[np.uint8]] = field(default_factory=dict)

    def __len__(self) -> int:
        """Count the voxels."""
        return sum(int(np.bitwise_count(plane).sum()) for plane in self.planes.values())

    def shared(self, other: Drawing) -> int:
        """Count the voxels that both hold."""
        return sum(int(np.bitwise_count(plane & other.planes[uid]).sum())
                   for uid, plane in self.planes.items() if uid in other.planes)

    def mask(self, uid: str, grid: Grid) -> Mask:
        """Return the (rows, columns) mask on one image."""
        if uid not in self.planes:
            return np.zeros((grid.rows, grid.columns), np.bool_)
        bits = np.unpackbits(self.planes[uid], count=grid.rows * grid.columns)
        return bits.reshape(grid.rows, grid.columns).astype(np.bool_)


def read_correction(path: Path, ours: Path | None, grid: Grid, patient_id: str) -> Said:
    """Compare a segmentation with ours. ours: our own file, None where we drew nothing.

    Raises: Unfit for another patient's, another grid, and one that no person drew; what pydicom raises for a file that it
    cannot read.
    """
    drawn, voxel_ml = read_drawings(path, grid, patient_id)
    if not any(one.by_hand for one in drawn):
        raise Unfit("it says that every segment was made automatically: the word of a device is no feedback")
    own = read_drawings(ours, grid, patient_id)[0] if ours else []
    segments: list[Redrawn] = []
    presence: dict[str, Presence] = {}
    others = 0
    for one in drawn:
        match = next((o for o in own if (o.code, o.side) == (one.code, one.side)), None) or next(
            (o for o in own if o.label.lower() == one.label.lower()), None)
        if match is None:
            others += 1
        else:
            segments.append(_redrawn(match, one, voxel_ml))
        code = match.code if match else one.code
        if code and presence.get(code) is not Presence.PRESENT:
            presence[code] = Presence.PRESENT if len(one) else Presence.ABSENT
    return Said(presence, segments, others)


def _redrawn(ours: Drawing, theirs: Drawing, voxel_ml: float) -> Redrawn:
    both = len(ours) + len(theirs)
    return Redrawn(ours.label, round(len(theirs) * voxel_ml, 2), round(len(ours) * voxel_ml, 2),
                   round(2 * ours.shared(theirs) / both, 4) if both else 1.0)


def read_drawings(path: Path, grid: Grid, patient_id: str) -> tuple[list[Drawing], float]:
    """Return the segments of a segmentation on the grid of the images, and the volume of a voxel, ml.

    Raises: Unfit when it is compressed, on another grid, of another patient, or too large.
    """
    seg = dcmread(path, stop_before_pixels=True)
    require_patient(seg, patient_id)
    if seg.file_meta.TransferSyntaxUID not in (ExplicitVRLittleEndian, ImplicitVRLittleEndian):
        raise Unfit("its pixels are compressed; send it uncompressed")
    if (seg.get("Rows"), seg.get("Columns")) != (grid.rows, grid.columns):
        raise Unfit(f"it has another number of rows or columns than the images, which have {grid.rows} x {grid.columns}")
    groups = seg.get("PerFrameFunctionalGroupsSequence") or ()
    if not groups or len(groups) != int(seg.get("NumberOfFrames") or 0) or len(groups) > _MOST_FRAMES:
        raise Unfit("the number of its frames does not fit what it says of them")
    drawings = {int(s.SegmentNumber): _described(s) for s in seg.get("SegmentSequence") or ()}
    for uid, number, mask in _planes(seg, path, grid, sorted(drawings)):
        drawing = drawings.get(number)
        if drawing is None:
            raise Unfit("a frame is of a segment that it does not describe")
        packed = np.packbits(mask)
        drawing.planes[uid] = packed | drawing.planes[uid] if uid in drawing.planes else packed
    return list(drawings.values()), _voxel_ml(seg)


def _planes(seg: Dataset, path: Path, grid: Grid, numbers: list[int]) -> Iterator[tuple[str, int, Mask]]:
    """Yield image, segment number and mask of each frame that holds something; a frame of no image here ends it."""
    kind, most = str(seg.get("SegmentationType", "BINARY")), float(seg.get("MaximumFractionalValue") or 1)
    shared = (seg.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    for group, pixels in zip(seg.PerFrameFunctionalGroupsSequence, iter_pixels(path), strict=True):
        of = [int(i.ReferencedSegmentNumber) for i in _macro(group, shared, "SegmentIdentificationSequence")]
        planes = [(number, pixels == number) for number in numbers if number] if kind == "LABELMAP" else [
            (number, pixels * 2 >= most if kind == "FRACTIONAL" else pixels != 0) for number in of]
        for number, mask in planes:
            if not mask.any():
                continue
            uid = _image_of(group, shared, grid)
            if not uid:
                raise Unfit("a frame lies where no image of the study lies")
            yield uid, number, mask


def _image_of(group: Dataset, shared: Dataset, grid: Grid) -> str:
    for derived in _macro(group, shared, "DerivationImageSequence"):
        for source in derived.get("SourceImageSequence") or ():
            if (uid := str(source.get("ReferencedSOPInstanceUID", ""))) in grid.positions:
                return uid
    for place in _macro(group, shared, "PlanePositionSequence"):
        return grid.image_at(tuple(float(v) for v in place.ImagePositionPatient))
    return ""


def _macro(group: Dataset, shared: Dataset, keyword: str) -> Any:
    return group.get(keyword) or shared.get(keyword) or ()


def _described(segment: Dataset) -> Drawing:
    types = segment.get("SegmentedPropertyTypeCodeSequence") or ()
    side = code_of(types[0], "SegmentedPropertyTypeModifierCodeSequence") if types else ""
    return Drawing(str(segment.get("SegmentLabel", "")), code_of(segment, "SegmentedPropertyTypeCodeSequence"), side,
                   str(segment.get("SegmentAlgorithmType", "")) in _BY_HAND)


def _voxel_ml(seg: Dataset) -> float:
    """Return the volume of a voxel, ml. Raises: Unfit when the object does not say it."""
    shared = (seg.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    for measures in _macro(seg.PerFrameFunctionalGroupsSequence[0], shared, "PixelMeasuresSequence"):
        between = measures.get("SpacingBetweenSlices") or measures.get("SliceThickness")
        rows_mm, columns_mm = (float(v) for v in measures.PixelSpacing)
        if between and float(between) * rows_mm * columns_mm > 0:
            return float(between) * rows_mm * columns_mm / 1000
    raise Unfit("it does not say how large its voxels are")


def _rounded(position: Position) -> Position:
    return tuple(round(v, _POSITION_DIGITS) for v in position)
