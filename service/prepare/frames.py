"""The frames of an enhanced CT, each as an image of its own, by its functional groups (PS3.3 C.7.6.16, A.38.1)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from service.domain.identity import frame_uid
from service.domain.study import CT_IMAGE_STORAGE, Header
from service.errors import Reason, UnusableStudy
from service.prepare.pixels import MAX_FRAMES, READ_ERRORS

_GROUPS = {  # of each attribute: the functional group that holds it
    "ImagePositionPatient": "PlanePositionSequence", "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence", "SliceThickness": "PixelMeasuresSequence",
    "RescaleSlope": "PixelValueTransformationSequence", "RescaleIntercept": "PixelValueTransformationSequence",
    "RescaleType": "PixelValueTransformationSequence", "FrameType": "CTImageFrameTypeSequence",
    "ConvolutionKernel": "CTReconstructionSequence", "FrameAcquisitionNumber": "FrameContentSequence",
    "TemporalPositionIndex": "FrameContentSequence",
}
_OF_AN_IMAGE = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "RescaleSlope",
                "RescaleIntercept", "RescaleType")
_WHOLE = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "NumberOfFrames", "DimensionIndexSequence",
          "DimensionOrganizationSequence")


def frame_headers(path: Path, header: Header) -> tuple[Header, ...]:
    """Return a header for each frame of an enhanced CT, in the order of the frames.

    What the functional groups do not tell is absent; a number that is none counts as absent.
    Raises: UnusableStudy(INVALID_GEOMETRY) when the groups do not go with the frames; UnusableStudy(UNREADABLE_PIXELS) when
    the file cannot be read; OSError when it cannot be opened.
    """
    dataset = _read(path)
    try:
        groups = _per_frame(dataset)
        return tuple(_header(header, dataset, group, number) for number, group in enumerate(groups, 1))
    except READ_ERRORS as error:
        raise _damaged(error) from error


def frame_datasets(path: Path, frames: Sequence[Header]) -> list[Dataset]:
    """Return a data set without pixels for each of these frames of one file, as if it were a CT Image of its own.

    Its SOP Instance UID is that of the header; position, orientation, spacing and rescale are the elements of its groups.
    Raises: as `frame_headers` does.
    """
    dataset = _read(path)
    try:
        groups = _per_frame(dataset)
        left_out = {tag_for_keyword(keyword) for keyword in _WHOLE}
        whole = {tag: dataset.get_item(tag) for tag in dataset.keys() if tag not in left_out}  # noqa: SIM118 - undecoded
        return [_dataset(whole, dataset, groups[(header.frame_number or 1) - 1], header) for header in frames]
    except READ_ERRORS as error:
        raise _damaged(error) from error


def _read(path: Path) -> Dataset:
    try:
        return dcmread(path, stop_before_pixels=True)
    except READ_ERRORS as error:
        raise _damaged(error) from error


def _per_frame(dataset: Dataset) -> Sequence[Dataset]:
    groups: Sequence[Dataset] = dataset.get("PerFrameFunctionalGroupsSequence") or []
    frames = int(dataset.get("NumberOfFrames") or 0)
    if not groups or len(groups) != frames or frames > MAX_FRAMES:
        raise UnusableStudy(Reason.INVALID_GEOMETRY, f"{len(groups)} functional groups for {frames} frames; accepted: one "
                            f"for each of at most {MAX_FRAMES}")
    return groups


def _element(dataset: Dataset, group: Dataset, keyword: str) -> Any:
    """Return an element of the frame's own group, else of the shared one, else of the data set itself; None without."""
    shared = dataset.get("SharedFunctionalGroupsSequence") or [Dataset()]
    for place in (group, shared[0]):
        items = place.get(_GROUPS[keyword])
        if items and keyword in items[0]:
            return items[0][keyword]
    if keyword not in dataset:
        return None
    return dataset[keyword]


def _header(header: Header, dataset: Dataset, group: Dataset, number: int) -> Header:
    def value(keyword: str) -> Any:
        element = _element(dataset, group, keyword)
        return None if element is None or element.value in (None, "") else element.value

    def numbers(keyword: str) -> tuple[float, ...]:
        found = value(keyword)
        listed = [float(v) for v in ([found] if isinstance(found, str | int | float) else found or ())]
        return tuple(listed) if all(math.isfinite(v) for v in listed) else ()

    def one(keyword: str) -> float | None:
        return next(iter(numbers(keyword)), None)

    return replace(
        header, sop_instance_uid=frame_uid(header.sop_instance_uid, number), multiframe_uid=header.sop_instance_uid,
        frame_number=number, number_of_frames=None, instance_number=number,
        image_type=tuple(str(v) for v in value("FrameType") or header.image_type),
        image_position_patient=numbers("ImagePositionPatient"), image_orientation_patient=numbers("ImageOrientationPatient"),
        pixel_spacing=numbers("PixelSpacing"), slice_thickness=one("SliceThickness"),
        rescale_slope=one("RescaleSlope"), rescale_intercept=one("RescaleIntercept"),
        rescale_type=str(value("RescaleType") or ""),
        convolution_kernel=_joined(value("ConvolutionKernel")) or header.convolution_kernel,
        acquisition_number=_whole(one("FrameAcquisitionNumber"), header.acquisition_number),
        temporal_position_identifier=_whole(one("TemporalPositionIndex"), header.temporal_position_identifier))


def _dataset(whole: dict[Any, Any], dataset: Dataset, group: Dataset, header: Header) -> Dataset:
    made = Dataset()
    made.update(whole)
    for keyword in _OF_AN_IMAGE:
        element = _element(dataset, group, keyword)
        if element is not None:
            made.add(element)
    for keyword, value in (("SOPClassUID", CT_IMAGE_STORAGE), ("SOPInstanceUID", header.sop_instance_uid)):
        made[keyword] = DataElement(keyword, "UI", value)  # a new one: the old is that of every frame
    return made


def _joined(value: Any) -> str:
    return "\\".join(str(v) for v in ([value] if isinstance(value, str) else value or ()))


def _whole(value: float | None, absent: int | None) -> int | None:
    return absent if value is None else int(value)


def _damaged(error: Exception) -> UnusableStudy:
    return UnusableStudy(Reason.UNREADABLE_PIXELS, f"the functional groups cannot be read ({type(error).__name__})")
