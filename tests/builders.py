"""Synthetic studies built from small integers, with known contents, so that a result can be checked against them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    EnhancedCTImageStorage,
    ExplicitVRLittleEndian,
)

ROOT = "1.2.826.0.1.3680043.10.1234"


def uid(*numbers: int) -> str:
    """Return a UID made of small numbers: uid(1, 2) is always the same."""
    return ".".join([ROOT, *(str(n) for n in numbers)])


@dataclass(frozen=True)
class Sphere:
    """A ball of one HU value; centre_mm is (z, y, x) from the corner of the first voxel's centre."""

    centre_mm: tuple[float, float, float]
    radius_mm: float
    hu: float


def chest(slices: int, spacing_mm: tuple[float, float, float], size: int) -> list[Sphere]:
    """Return two lungs and a dense ball in the right one, scaled to the field of view."""
    z, y, x = slices * spacing_mm[0], size * spacing_mm[1], size * spacing_mm[2]
    lung = min(0.42 * z, 0.22 * y)
    return [
        Sphere((z / 2, y / 2, 0.30 * x), lung, -850),
        Sphere((z / 2, y / 2, 0.70 * x), lung, -850),
        Sphere((z / 2, y / 2, 0.30 * x), lung / 3, -100),
    ]


def phantom_hu(
    slices: int, spacing_mm: tuple[float, float, float], size: int, spheres: Iterable[Sphere]
) -> NDArray[np.int16]:
    """Return (z, y, x) int16 HU: air, a soft-tissue ellipse, and the spheres over it in order."""
    z, y, x = np.meshgrid(*(np.arange(n) * s for n, s in zip((slices, size, size), spacing_mm, strict=True)), indexing="ij")
    half_y, half_x = size * spacing_mm[1] / 2, size * spacing_mm[2] / 2
    body = ((y - half_y) / (0.80 * half_y)) ** 2 + ((x - half_x) / (0.95 * half_x)) ** 2 <= 1
    hu = np.where(body, 40, -1000).astype(np.int16)
    for ball in spheres:
        cz, cy, cx = ball.centre_mm
        hu[(z - cz) ** 2 + (y - cy) ** 2 + (x - cx) ** 2 <= ball.radius_mm**2] = ball.hu
    return hu


def ct_series(
    patient: int = 1, study: int = 1, series: int = 1, slices: int = 40, size: int = 128,
    spacing_mm: tuple[float, float, float] = (5.0, 2.5, 2.5), spheres: Iterable[Sphere] | None = None, **changes: Any,
) -> list[FileDataset]:
    """Return CT slices in ascending z; `changes` are DICOM keywords set on every slice (None deletes)."""
    balls = chest(slices, spacing_mm, size) if spheres is None else list(spheres)
    volume = phantom_hu(slices, spacing_mm, size, balls)
    made = []
    for k in range(slices):
        ds = _base(CTImageStorage, patient, study, series, k + 1)
        ds.Modality, ds.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.StudyDescription, ds.SeriesDescription, ds.BodyPartExamined = "CT chest", "Axial 5 mm", "CHEST"
        ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = uid(patient, study, 900), ""
        ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        ds.ImagePositionPatient = [0, 0, k * spacing_mm[0]]
        ds.PixelSpacing, ds.SliceThickness = [spacing_mm[1], spacing_mm[2]], spacing_mm[0]
        ds.PatientPosition, ds.KVP, ds.AcquisitionNumber, ds.ConvolutionKernel = "HFS", 120, 1, "STANDARD"
        ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = 1, -1024, "HU"
        _pixels(ds, (volume[k].astype(np.int32) + 1024).astype(np.uint16), bits=16)
        made.append(_changed(ds, changes))
    return made


def enhanced_ct(slices: Sequence[FileDataset], per_frame: Iterable[str] = (), **changes: Any) -> FileDataset:
    """Return the slices as the frames of one Enhanced CT Image (PS3.3 A.38.1), in their order.

    What is the same in all of them stands in the shared functional groups, unless `per_frame` names its group; position
    and content are always of the frame.
    """
    made = _changed(_base(EnhancedCTImageStorage, 1, 1, 1, 1), {})
    made.update({e.tag: deepcopy(e) for e in slices[0] if e.keyword not in (*_OF_FRAMES, "PixelData")})
    made.SOPClassUID, made.SOPInstanceUID = EnhancedCTImageStorage, f"{slices[0].SeriesInstanceUID}.77"
    made.ImageType, made.NumberOfFrames = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"], len(slices)
    made.PixelPresentation, made.VolumetricProperties, made.VolumeBasedCalculationTechnique = "MONOCHROME", "VOLUME", "NONE"
    made.AcquisitionDateTime, made.AcquisitionDuration, made.ContentQualification = "20260102101500", 1.0, "PRODUCT"
    made.BurnedInAnnotation, made.LossyImageCompression, made.PresentationLUTShape = "NO", "00", "IDENTITY"
    shared, own = set(_FRAME_GROUPS) - set(per_frame) - {"PlanePositionSequence"}, {"PlanePositionSequence", *per_frame}
    made.SharedFunctionalGroupsSequence = [_frame_groups(slices[0], shared)]
    made.PerFrameFunctionalGroupsSequence = []
    for number, one in enumerate(slices, 1):
        groups, content = _frame_groups(one, own), Dataset()
        content.StackID, content.InStackPositionNumber, content.FrameAcquisitionNumber = "1", number, 1
        groups.FrameContentSequence = [content]
        made.PerFrameFunctionalGroupsSequence.append(groups)
    made.PixelData = b"".join(one.PixelData for one in slices)
    return _changed(made, changes)


_FRAME_GROUPS = {
    "PlanePositionSequence": ("ImagePositionPatient",), "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness"),
    "PixelValueTransformationSequence": ("RescaleIntercept", "RescaleSlope", "RescaleType"),
    "CTReconstructionSequence": ("ConvolutionKernel",),
}
_OF_FRAMES = tuple(keyword for keywords in _FRAME_GROUPS.values() for keyword in keywords)


def _frame_groups(one: Dataset, names: Iterable[str]) -> Dataset:
    """Return an item with these functional groups of a slice."""
    made = Dataset()
    for name in names:
        group = Dataset()
        for keyword in _FRAME_GROUPS[name]:
            if keyword in one:
                group.add(deepcopy(one[keyword]))
        setattr(made, name, [group])
    return made


def radiograph(
    patient: int = 2, study: int = 1, series: int = 1, instance: int = 1, size: int = 256, sop_class: str = "DX",
    image: NDArray[Any] | None = None, **changes: Any,
) -> FileDataset:
    """Return one frontal radiograph, 12 bits stored; image: (y, x) in 0..1, bright = dense."""
    ds = _base(DigitalXRayImageStorageForPresentation if sop_class == "DX" else ComputedRadiographyImageStorage,
               patient, study, series, instance)
    ds.Modality = sop_class
    ds.StudyDescription, ds.SeriesDescription, ds.BodyPartExamined, ds.ViewPosition = "Chest PA", "PA", "CHEST", "PA"
    if sop_class == "DX":
        ds.ImageType, ds.PresentationIntentType = ["ORIGINAL", "PRIMARY", ""], "FOR PRESENTATION"
        ds.ImageLaterality, ds.PixelIntensityRelationship, ds.PixelIntensityRelationshipSign = "U", "LOG", -1
        ds.PresentationLUTShape, ds.LossyImageCompression, ds.BurnedInAnnotation = "IDENTITY", "00", "NO"
        ds.ImagerPixelSpacing = [0.15, 0.15]
        ds.AnatomicRegionSequence, ds.AcquisitionContextSequence, ds.DetectorType, ds.PositionerType = [], [], "", ""
        ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = 0, 1, "US"
    ds.PatientOrientation = ["L", "F"]
    ds.WindowCenter, ds.WindowWidth = 2048, 4096
    grey = ribs(size) if image is None else image
    _pixels(ds, np.round(np.clip(grey, 0, 1) * 4095).astype(np.uint16), bits=12)
    return _changed(ds, changes)


def ribs(size: int) -> NDArray[np.float64]:
    """Return a (y, x) picture that is roughly a chest: bright body, two dark lungs, a bright heart."""
    y, x = np.mgrid[0:size, 0:size] / size
    grey = 0.75 - 0.2 * np.abs(x - 0.5)
    for cx in (0.3, 0.7):
        grey = np.where(((x - cx) / 0.15) ** 2 + ((y - 0.45) / 0.32) ** 2 < 1, 0.2 + 0.05 * np.sin(40 * y), grey)
    return np.where(((x - 0.55) / 0.13) ** 2 + ((y - 0.62) / 0.15) ** 2 < 1, 0.8, grey)


def write(datasets: Iterable[FileDataset], folder: Path) -> list[Path]:
    """Write each data set as a DICOM file and return the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, ds in enumerate(datasets):
        paths.append(folder / f"{number:04d}.dcm")
        ds.save_as(paths[-1], enforce_file_format=True)
    return paths


def as_bytes(ds: FileDataset) -> bytes:
    """Return the data set as a DICOM file in memory."""
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _base(sop_class: str, patient: int, study: int, series: int, instance: int) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = sop_class, ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = uid(patient, study, series, instance)
    ds = FileDataset("", Dataset(), file_meta=meta, preamble=bytes(128))
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.SOPClassUID, ds.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    ds.StudyInstanceUID, ds.SeriesInstanceUID = uid(patient, study), uid(patient, study, series)
    ds.PatientID, ds.PatientName, ds.IssuerOfPatientID = f"P{patient:04d}", f"Test^Patient {patient}", ""
    ds.PatientBirthDate, ds.PatientSex = "19600101", "O"
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = "20260102"
    ds.StudyTime = ds.SeriesTime = ds.AcquisitionTime = ds.ContentTime = "101500"
    ds.AccessionNumber, ds.StudyID, ds.ReferringPhysicianName = f"A{patient}{study}", str(study), ""
    ds.Manufacturer, ds.ManufacturerModelName, ds.DeviceSerialNumber = "Builders", "Phantom", "1"
    ds.SoftwareVersions = "1"
    ds.SeriesNumber, ds.InstanceNumber = series, instance
    return ds


def _pixels(ds: FileDataset, stored: NDArray[np.uint16], bits: int) -> None:
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = stored.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, bits, bits - 1, 0
    ds.PixelData = stored.astype("<u2").tobytes()


def _changed(ds: FileDataset, changes: dict[str, Any]) -> FileDataset:
    for keyword, value in changes.items():
        if value is None:
            if keyword in ds:
                delattr(ds, keyword)
        else:
            setattr(ds, keyword, value)
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    return ds
