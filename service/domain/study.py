"""What is known of the images of a study before their pixels are looked at."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from enum import StrEnum
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Pixel = TypeVar("Pixel", bound=np.generic)

CR_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.1"
DX_FOR_PRESENTATION = "1.2.840.10008.5.1.4.1.1.1.1"
DX_FOR_PROCESSING = "1.2.840.10008.5.1.4.1.1.1.1.1"
CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2.1"
SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.4"
COMPREHENSIVE_3D_SR_STORAGE = "1.2.840.10008.5.1.4.1.1.88.34"
SECONDARY_CAPTURE_STORAGE = "1.2.840.10008.5.1.4.1.1.7"
PRESENTATION_STATE_STORAGE = "1.2.840.10008.5.1.4.1.1.11.1"
KEY_OBJECT_SELECTION_STORAGE = "1.2.840.10008.5.1.4.1.1.88.59"

RADIOGRAPH_CLASSES = (CR_IMAGE_STORAGE, DX_FOR_PRESENTATION, DX_FOR_PROCESSING, SECONDARY_CAPTURE_STORAGE)
"""What may hold a radiograph; the last two are refused with a reason."""


class Kind(StrEnum):
    """What kind of study a model reads."""

    CT = "ct"
    CXR = "cxr"


@dataclass(frozen=True)
class Header:
    """The attributes of one image that choosing, ordering and checking need; names are DICOM keywords.

    Absent values are "" , None or (). Read by `service.receive.header`, kept as JSON beside the instance. frame_number: from
    1, of one frame of a multi-frame image, which then stands for an image of its own, with a SOP Instance UID of
    `service.domain.identity.frame_uid`; multiframe_uid: the SOP Instance UID of the whole.
    """

    sop_instance_uid: str
    sop_class_uid: str
    study_instance_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str = ""
    modality: str = ""
    patient_id: str = ""
    issuer_of_patient_id: str = ""
    patient_name: str = ""
    patient_birth_date: str = ""
    patient_sex: str = ""
    patient_age: str = ""
    accession_number: str = ""
    study_date: str = ""
    study_time: str = ""
    study_description: str = ""
    series_description: str = ""
    protocol_name: str = ""
    requested_procedure_description: str = ""
    current_patient_location: str = ""
    institution_name: str = ""
    institutional_department_name: str = ""
    requesting_service: str = ""
    series_number: int | None = None
    instance_number: int | None = None
    acquisition_number: int | None = None
    temporal_position_identifier: int | None = None
    image_type: tuple[str, ...] = ()
    body_part_examined: str = ""
    view_position: str = ""
    view_code_meaning: str = ""
    patient_orientation: tuple[str, ...] = ()
    patient_position: str = ""
    patient_species_description: str = ""
    patient_species_code_meaning: str = ""
    contrast_bolus_agent: str = ""
    field_of_view_rotation: float | None = None
    field_of_view_horizontal_flip: str = ""
    presentation_intent_type: str = ""
    burned_in_annotation: str = ""
    requested_procedure_priority: str = ""
    manufacturer: str = ""
    manufacturer_model_name: str = ""
    device_serial_number: str = ""
    convolution_kernel: str = ""
    photometric_interpretation: str = ""
    samples_per_pixel: int | None = None
    rows: int | None = None
    columns: int | None = None
    number_of_frames: int | None = None
    bits_allocated: int | None = None
    bits_stored: int | None = None
    high_bit: int | None = None
    pixel_representation: int | None = None
    rescale_slope: float | None = None
    rescale_intercept: float | None = None
    rescale_type: str = ""
    pixel_spacing: tuple[float, ...] = ()
    imager_pixel_spacing: tuple[float, ...] = ()
    slice_thickness: float | None = None
    image_position_patient: tuple[float, ...] = ()
    image_orientation_patient: tuple[float, ...] = ()
    frame_of_reference_uid: str = ""
    gantry_detector_tilt: float | None = None
    lossy_image_compression: str = ""
    frame_number: int | None = None
    multiframe_uid: str = ""

    @property
    def stored_uid(self) -> str:
        """SOP Instance UID of the object as received: of a frame, that of the whole."""
        return self.multiframe_uid or self.sop_instance_uid

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Header:
        """Return the header with these fields, the others absent: for each image, where the constructor takes too long."""
        made = object.__new__(cls)
        vars(made).update(_ABSENT)
        vars(made).update(values)
        return made

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary of JSON types; absent values are left out."""
        return {k: v for k, v in vars(self).items() if v not in ("", None, ())}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Header:
        """Read back what `to_json` made; unknown keys (of a newer release) are ignored."""
        known = {f.name for f in fields(cls)}
        given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in stored.items() if k in known}
        return cls(**given)


_ABSENT = {f.name: f.default for f in fields(Header) if f.default is not MISSING}


def age_years(header: Header) -> float | None:
    """Return the age from Patient's Age (nnnD|W|M|Y) or from birth and study dates; None when neither says."""
    match = re.fullmatch(r"(\d{3})([DWMY])", header.patient_age)
    if match:
        return int(match[1]) / {"D": 365.25, "W": 52.18, "M": 12.0, "Y": 1.0}[match[2]]
    born, seen = header.patient_birth_date, header.study_date
    if re.fullmatch(r"\d{8}", born) and re.fullmatch(r"\d{8}", seen):
        return (int(seen) - int(born)) / 10000
    return None


@dataclass(frozen=True)
class VolumeGeometry:
    """Where an ordered stack of CT slices lies in the patient (PS3.3 C.7.6.2).

    positions_mm: (z,) distance of each slice along the normal, ascending; spacing_mm: (between slices, row, column), between
    slices the median where it `varies`.
    normal: unit vector, cross product of the row and column directions; the stack ascends along it.
    """

    positions_mm: tuple[float, ...]
    spacing_mm: tuple[float, float, float]
    orientation: tuple[float, float, float, float, float, float]
    normal: tuple[float, float, float]
    rows: int
    columns: int
    frame_of_reference_uid: str
    varies: bool = False

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel in cm3 (= ml), at the usual distance between slices."""
        z, y, x = self.spacing_mm
        return z * y * x / 1000.0

    @property
    def thickness_mm(self) -> tuple[float, ...]:
        """(z,) the part of the body that each slice stands for, mm: the same for all, unless the distances vary.

        Then half of the distance to either neighbour, and at the ends that to the one there is.
        """
        if not self.varies or len(self.positions_mm) < 2:
            return (self.spacing_mm[0],) * len(self.positions_mm)
        steps = [b - a for a, b in pairwise(self.positions_mm)]
        return tuple((before + after) / 2 for before, after in zip((steps[0], *steps), (*steps, steps[-1]), strict=True))


@dataclass(frozen=True)
class SetAside:
    """A series, or images of one, that were not used, and why."""

    series_instance_uid: str
    reason: str
    detail: str


@dataclass(frozen=True)
class Selection:
    """Which images of a study a model shall read, and why these.

    kind CT: `headers` are the slices in order of position along `geometry.normal`, one per position.
    kind CXR: `headers` are all frontal radiographs, in order of series and instance number; geometry is None.
    """

    kind: Kind
    headers: tuple[Header, ...]
    reason: str
    geometry: VolumeGeometry | None = None
    set_aside: tuple[SetAside, ...] = ()
    limitations: tuple[str, ...] = ()

    @property
    def series_instance_uid(self) -> str:
        """The series of the first image (for CT, of all)."""
        return self.headers[0].series_instance_uid


@dataclass(frozen=True, eq=False)
class CtVolume:
    """A CT series as numbers: hu is (z, y, x) float32 HU in the order of `geometry`, on the source grid."""

    hu: NDArray[np.float32]
    geometry: VolumeGeometry


@dataclass(frozen=True, eq=False)
class RadiographImage:
    """A radiograph as it would be shown: grey is (y, x) float32 in 0..1, bright = dense, on the source pixel grid.

    inner: the part that models look at, (top, bottom, left, right) in pixels, ends exclusive: within shutter and
    collimator, without a white border; None for all of it.
    """

    sop_instance_uid: str
    grey: NDArray[np.float32]
    inner: tuple[int, int, int, int] | None = None

    @property
    def exposed(self) -> NDArray[np.float32]:
        """The inner part, (h, w) float32 in 0..1."""
        top, bottom, left, right = self.inner or (0, self.grey.shape[0], 0, self.grey.shape[1])
        return self.grey[top:bottom, left:right]

    def whole(self, part: NDArray[Pixel]) -> NDArray[Pixel]:
        """Put what belongs to the inner part, (..., h, w), back to its place on the source grid; 0 around it."""
        if self.inner is None:
            return part
        top, bottom, left, right = self.inner
        made = np.zeros((*part.shape[:-2], *self.grey.shape), part.dtype)
        made[..., top:bottom, left:right] = part
        return made
