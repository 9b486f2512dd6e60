"""The masks of a CT as one multi-segment BINARY Segmentation on the source grid (PS3.3 A.51)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import highdicom as hd
import numpy as np
from highdicom.color import CIELabColor
from highdicom.seg import Segmentation, SegmentDescription, SegmentsOverlapValues
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from service.domain import codes
from service.domain.finding import Assessment, Segment
from service.domain.study import VolumeGeometry
from service.errors import Defect, Reason, UnusableStudy
from service.report.coded import concept
from service.report.document import Context, Made, anonymous, finish
from service.report.identity import DISCLAIMER, MANUFACTURER, Equipment
from service.report.iods import remember
from service.report.repeated import as_it_is, complete, few, frames_of, is_ascending

GRID = ("Rows", "Columns", "ImagePositionPatient", "FrameOfReferenceUID", "PositionReferenceIndicator", "PixelSpacing")
LOSSY = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")

remember()


@dataclass(frozen=True, eq=False)
class Drawn:
    """The segments that hold at least one voxel, numbered from 1 without gaps, as in the SEG.

    masks: (z, y, x) uint8, segment n is the bit 1 << (n - 1); areas: (segment, z) voxels of each in each slice.
    """

    segments: tuple[Segment, ...]
    areas: NDArray[np.int64]
    masks: NDArray[np.uint8]

    def number(self, label: str) -> int | None:
        """Return the segment's number in the SEG, or None when it is empty and so not in it."""
        return next((s.number for s in self.segments if s.label == label), None)


def drawn(assessment: Assessment) -> Drawn | None:
    """Leave out segments without a voxel, for a viewer lists every segment as if it were there; None when all are."""
    masks = assessment.masks
    if masks is None or not assessment.segments:
        return None
    counts = np.array([
        [np.count_nonzero(plane & np.uint8(1 << (s.number - 1))) for plane in masks] for s in assessment.segments
    ], dtype=np.int64)
    kept = [n for n, areas in enumerate(counts) if areas.any()]
    if not kept:
        return None
    segments = tuple(assessment.segments[n] for n in kept)
    if [s.number for s in segments] != list(range(1, len(segments) + 1)):
        masks = _renumbered(masks, [s.number for s in segments])
    return Drawn(tuple(replace(s, number=n) for n, s in enumerate(segments, 1)), counts[kept], masks)


def _renumbered(masks: NDArray[np.uint8], numbers: Sequence[int]) -> NDArray[np.uint8]:
    moved = np.zeros_like(masks)
    for new, old in enumerate(numbers):
        moved |= ((masks >> np.uint8(old - 1)) & np.uint8(1)) << np.uint8(new)
    return moved


def segmentation(context: Context, sources: Sequence[Dataset], geometry: VolumeGeometry, found: Drawn) -> Made:
    """Build the SEG; one frame for each slice in which a segment has a voxel, at the position of that source slice.

    sources: in the order of the masks' z axis. Raises: UnusableStudy for sources without plane geometry; Defect when
    the masks do not lie on the sources' grid, or these are not alike.
    """
    stand_ins = grid(sources, geometry)
    if found.masks.shape != (len(sources), int(sources[0].Rows), int(sources[0].Columns)):
        raise Defect(Reason.INTERNAL_ERROR, f"masks {found.masks.shape} do not fit {len(sources)} source images")
    if len({(str(s.SeriesInstanceUID), s.Rows, s.Columns, str(s.FrameOfReferenceUID)) for s in stand_ins}) > 1:
        raise Defect(Reason.INTERNAL_ERROR, "the source images are not of one series, size and frame of reference")
    several = len(found.segments) > 1
    made = _of_many(context, stand_ins, found) if several else _made(context, stand_ins, found, found.masks)
    _finish(made, context, found)
    if several:
        as_it_is(made)
    return Made("seg", made, f"{len(found.segments)} segments in {made.NumberOfFrames} frames")


def _finish(made: Dataset, context: Context, found: Drawn) -> None:
    """Write into a SEG what highdicom leaves to us."""
    organization = context.uid("dimension organization")
    made.DimensionOrganizationSequence[0].DimensionOrganizationUID = organization
    for item in made.DimensionIndexSequence:
        item.DimensionOrganizationUID = organization
    made.ContentQualification = "RESEARCH"
    finish(made, context, "segmentation", [s.label for s in found.segments])


def _of_many(context: Context, sources: Sequence[Dataset], found: Drawn) -> Dataset:
    """Let highdicom make the SEG of a few slices, and put the others into it."""
    chosen, first = few(found.areas), sources[int(np.flatnonzero(found.areas.any(axis=0))[0])]
    some = _made(context, [sources[z] for z in chosen], found, np.ascontiguousarray(found.masks[chosen]))
    made = complete(some, sources, found.masks, frames_of(found.areas, is_ascending(some, first)))
    made.SegmentsOverlap = _overlap(found.masks, len(found.segments)).value
    return made


def _made(context: Context, sources: Sequence[Dataset], found: Drawn, masks: NDArray[np.uint8]) -> Dataset:
    """Let highdicom make the SEG of these slices."""
    return _BitSegmentation(
        source_images=sources, pixel_array=masks, segmentation_type="BINARY",
        segment_descriptions=[describe(s, context) for s in found.segments],
        transfer_syntax_uid=ExplicitVRLittleEndian, omit_empty_frames=True,
        content_label="LUNG_AI", content_description=DISCLAIMER, content_creator_name=f"{MANUFACTURER}^",
        manufacturer=MANUFACTURER, manufacturer_model_name=context.equipment.model_name,
        software_versions=context.equipment.software_version, device_serial_number=context.equipment.serial_number,
        **context.series("seg"),
    )


def grid(sources: Sequence[Dataset], geometry: VolumeGeometry) -> list[Dataset]:
    """Return stand-ins for CT slices with their plane geometry; the orientation is that of the first, exactly,
    and the distance between slices that of the positions, for both attributes are often slightly or wholly wrong; where
    the distances vary there is none.

    Raises: UnusableStudy for multi-frame images and for images without position or frame of reference.
    """
    made = []
    for source in sources:
        if "NumberOfFrames" in source or not source.get("ImagePositionPatient"):
            raise UnusableStudy(Reason.INVALID_GEOMETRY, "an image has no Image Position (Patient) of its own")
        if not source.get("FrameOfReferenceUID") or not source.get("ImageOrientationPatient"):
            raise UnusableStudy(Reason.INVALID_GEOMETRY, "an image has no frame of reference or orientation")
        stand_in = anonymous(source)
        for keyword in (*GRID, *LOSSY):
            if source.get(keyword) not in (None, ""):
                stand_in.add(source[keyword])
        stand_in.add(sources[0]["ImageOrientationPatient"])
        stand_in.SliceThickness = f"{_thickness_mm(source, geometry):.6g}"
        if not geometry.varies:
            stand_in.SpacingBetweenSlices = f"{geometry.spacing_mm[0]:.8g}"
        made.append(stand_in)
    return made


def describe(segment: Segment, context: Context) -> SegmentDescription:
    """Return the item of Segment Sequence (PS3.3 C.8.20.4): codes, side, algorithm, tracking, colour."""
    abnormal = segment.category == codes.MORPHOLOGICALLY_ABNORMAL
    made = SegmentDescription(
        segment_number=segment.number, segment_label=segment.label,
        segmented_property_category=concept(segment.category), segmented_property_type=concept(segment.property_type),
        algorithm_type="AUTOMATIC", algorithm_identification=_algorithm(context.equipment),
        tracking_uid=context.uid("tracking", segment.label), tracking_id=segment.label,
        anatomic_regions=[concept(codes.LUNG)] if abnormal else None,
        display_color=CIELabColor.from_rgb(*segment.colour),
    )
    if segment.laterality:
        side = concept(segment.laterality)
        made.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [side]
    return made


def _algorithm(equipment: Equipment) -> hd.AlgorithmIdentificationSequence:
    return hd.AlgorithmIdentificationSequence(
        name=equipment.model_name, version=equipment.software_version, source=MANUFACTURER,
        family=concept(codes.ARTIFICIAL_INTELLIGENCE),
    )


def _thickness_mm(source: Dataset, geometry: VolumeGeometry) -> float:
    try:
        thickness = float(source.get("SliceThickness") or 0)
    except ValueError:
        thickness = 0.0
    return thickness if thickness > 0 else geometry.spacing_mm[0]


class _BitSegmentation(Segmentation):  # type: ignore[misc]
    """A Segmentation made from (z, y, x) uint8, one bit for each segment, so that segments may overlap.

    highdicom takes overlapping segments as a 4-D array only, which costs eight bytes a voxel while it adds them up;
    these two private steps read the bits instead. The release of highdicom is pinned for their sake.
    """

    @classmethod
    def _check_and_cast_pixel_array(
        cls, pixel_array: NDArray[np.uint8], segment_numbers: NDArray[np.int64], segmentation_type: object, dtype: type
    ) -> tuple[NDArray[np.uint8], SegmentsOverlapValues]:
        return pixel_array, _overlap(pixel_array, len(segment_numbers))

    @staticmethod
    def _get_segment_pixel_array(
        pixel_array: NDArray[np.uint8], segment_number: int, **_unused: object
    ) -> NDArray[np.uint8]:
        return (pixel_array >> np.uint8(segment_number - 1)) & np.uint8(1)


def _overlap(masks: NDArray[np.uint8], segments: int) -> SegmentsOverlapValues:
    """Tell whether any voxel lies in two of the segments."""
    described = np.uint8((1 << segments) - 1)
    overlap = any(bool(np.any(here & (here - np.uint8(1)))) for here in _occupied(masks, described))
    return SegmentsOverlapValues.YES if overlap else SegmentsOverlapValues.NO


def _occupied(masks: NDArray[np.uint8], described: np.uint8) -> Iterator[NDArray[np.uint8]]:
    """Yield slice by slice the voxels in which any described segment lies."""
    for plane in masks:
        bits = plane & described
        yield bits[bits != 0]
