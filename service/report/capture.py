"""The saliency of a radiograph as a picture: Secondary Capture, RGB, marked as not for diagnosis (PS3.3 A.8)."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from service.domain.finding import Assessment
from service.domain.study import SECONDARY_CAPTURE_STORAGE
from service.errors import Defect, Reason
from service.report.document import Context, Made, finish
from service.report.identity import DISCLAIMER

LONGEST_SIDE = 1024
BANNER = "RESEARCH USE ONLY - NOT FOR DIAGNOSIS - AI"
FAINTEST = 0.15  # saliency below this is not coloured
STRONGEST_BLEND = 0.55  # so that the radiograph stays visible under the colour


def capture(context: Context, source: Dataset, assessment: Assessment, grey: NDArray[np.float32], number: int) -> Made:
    """Build one Secondary Capture of a radiograph with its saliency blended in.

    grey: (y, x) float32 in 0..1, bright = dense, on the same grid as the saliency; number: instance number, from 1.
    Raises: Defect when picture and saliency differ in size.
    """
    saliency = assessment.saliency[str(source.SOPInstanceUID)]
    if saliency.shape != grey.shape:
        raise Defect(Reason.INTERNAL_ERROR, f"the saliency is {saliency.shape}, the radiograph {grey.shape}")
    pixels = blended(grey, saliency)
    made = _secondary_capture(pixels)
    series = context.series("sc")
    made.SOPInstanceUID = context.uid("instance", "sc", str(source.SOPInstanceUID))
    made.SeriesInstanceUID, made.SeriesNumber = series["series_instance_uid"], series["series_number"]
    made.InstanceNumber = number
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    made.PatientOrientation = source.get("PatientOrientation") or ""
    made.SourceImageSequence = [_reference(source)]
    made.ReferencedSeriesSequence = [_series_reference(source)]
    finish(made, context, "saliency")
    made.DateOfSecondaryCapture, made.TimeOfSecondaryCapture = made.ContentDate, made.ContentTime
    return Made("sc", made, f"saliency picture, {pixels.shape[1]} x {pixels.shape[0]}")


def blended(grey: NDArray[np.float32], saliency: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return (y, x, 3) uint8 RGB: the radiograph, the saliency over it in colour, a legend and the warning.

    The longest side becomes at most 1024 pixels; the side ratio is kept.
    """
    scale = min(1.0, LONGEST_SIDE / max(grey.shape))
    size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
    base = cv2.resize(np.ascontiguousarray(grey, dtype=np.float32), size, interpolation=cv2.INTER_AREA)
    heat = cv2.resize(np.ascontiguousarray(saliency, dtype=np.float32), size, interpolation=cv2.INTER_LINEAR)
    base, heat = (np.clip(np.nan_to_num(a), 0.0, 1.0) for a in (base, heat))
    colour = _colours(heat)
    weight = (np.where(heat >= FAINTEST, heat, 0.0) * STRONGEST_BLEND)[..., None]
    picture = np.repeat((base * 255.0)[..., None], 3, axis=2) * (1 - weight) + colour * weight
    return _annotated(np.round(picture).astype(np.uint8))


def _colours(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    mapped = cv2.applyColorMap(np.round(values * 255).astype(np.uint8), cv2.COLORMAP_TURBO)
    return np.asarray(cv2.cvtColor(mapped, cv2.COLOR_BGR2RGB), dtype=np.uint8)


def _annotated(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Add a band with the warning above and one with the legend below, so that no part of the image is covered."""
    width = picture.shape[1]
    bar = max(12, width // 24)
    top, bottom = np.zeros((bar, width, 3), np.uint8), np.zeros((bar, width, 3), np.uint8)
    _write(top, BANNER, 0.96)
    ramp = np.tile(np.linspace(0, 1, max(2, width // 3), dtype=np.float32), (max(1, bar // 2), 1))
    bottom[bar // 4:bar // 4 + ramp.shape[0], 2:2 + ramp.shape[1]] = _colours(ramp)
    text = np.zeros((bar, width - ramp.shape[1] - 6, 3), np.uint8)
    _write(text, "influence on the result: low (left) to high", 0.96)
    bottom[:, ramp.shape[1] + 6:] = text
    return np.ascontiguousarray(np.vstack([top, picture, bottom]))


def _write(band: NDArray[np.uint8], text: str, fill: float) -> None:
    """Write a text into a band as large as it fits."""
    font = cv2.FONT_HERSHEY_SIMPLEX
    (wide, high), _ = cv2.getTextSize(text, font, 1.0, 1)
    scale = min(band.shape[1] * fill / wide, band.shape[0] * 0.6 / high)
    at = (int(band.shape[1] * (1 - fill) / 2), int((band.shape[0] + high * scale) / 2))
    cv2.putText(band, text, at, font, scale, (255, 255, 255), max(1, round(scale * 1.5)), cv2.LINE_AA)


def _secondary_capture(pixels: NDArray[np.uint8]) -> Dataset:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.preamble = bytes(128)
    made.file_meta.FileMetaInformationVersion = b"\x00\x01"
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = SECONDARY_CAPTURE_STORAGE
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.Modality, made.ConversionType, made.ImageLaterality = "OT", "WSD", "U"
    made.ImageType, made.BurnedInAnnotation = ["DERIVED", "SECONDARY"], "YES"
    made.DerivationDescription = f"Radiograph with the saliency of a model. {DISCLAIMER}"
    made.ImageComments = DISCLAIMER
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PlanarConfiguration = 3, "RGB", 0
    made.Rows, made.Columns = pixels.shape[:2]
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 8, 8, 7, 0
    data = pixels.tobytes()
    made.PixelData = data + bytes(len(data) % 2)
    made["PixelData"].VR = "OB"
    return made


def _reference(source: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
    return item


def _series_reference(source: Dataset) -> Dataset:
    item = Dataset()
    item.SeriesInstanceUID, item.ReferencedInstanceSequence = source.SeriesInstanceUID, [_reference(source)]
    return item
