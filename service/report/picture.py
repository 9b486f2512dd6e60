"""What every picture of ours has in common: Secondary Capture, RGB, with the warning burned in (PS3.3 A.8)."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from service.domain.codes import PERCENT
from service.domain.finding import Assessment
from service.domain.study import SECONDARY_CAPTURE_STORAGE
from service.report.document import Context, finish
from service.report.identity import DISCLAIMER

BANNER = "RESEARCH USE ONLY - NOT FOR DIAGNOSIS - AI"
Picture = NDArray[np.uint8]
Colour = tuple[int, int, int]

_WHITE: Colour = (255, 255, 255)
_TOLD = ("lung involved", "severity score", "infection volume")


def secondary_capture(
    context: Context, pixels: Picture, sources: Sequence[Dataset], number: int, derivation: str, what: str,
) -> Dataset:
    """Build a Secondary Capture of a picture.

    pixels: (y, x, 3) uint8 RGB; sources: the images it was made of; number: instance number, from 1; derivation: how it
    was made, in words; what: words for the series description.
    """
    made = _image(pixels)
    series = context.series("sc")
    made.SOPInstanceUID = context.uid("instance", "sc", *(str(s.SOPInstanceUID) for s in sources))
    made.SeriesInstanceUID, made.SeriesNumber = series["series_instance_uid"], series["series_number"]
    made.InstanceNumber = number
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    made.DerivationDescription = f"{derivation} {DISCLAIMER}"
    made.SourceImageSequence = [_reference(s) for s in sources]
    made.ReferencedSeriesSequence = _series_references(sources)
    finish(made, context, what)
    made.DateOfSecondaryCapture, made.TimeOfSecondaryCapture = made.ContentDate, made.ContentTime
    return made


def bar_height(width: int) -> int:
    """Return the height of a band of text for a picture of this width, pixels."""
    return max(12, width // 24)


def band(width: int, text: str, fill: float = 0.96, height: int = 0, colour: Colour = _WHITE) -> Picture:
    """Return a black band with a text as large as it fits; height: 0 for that of `bar_height`."""
    made = np.zeros((height or bar_height(width), width, 3), np.uint8)
    write(made, text, fill, colour)
    return made


def write(area: Picture, text: str, fill: float, colour: Colour = _WHITE) -> None:
    """Write a text into an area as large as it fits."""
    font = cv2.FONT_HERSHEY_SIMPLEX
    (wide, high), _ = cv2.getTextSize(text, font, 1.0, 1)
    scale = min(area.shape[1] * fill / max(1, wide), area.shape[0] * 0.6 / high)
    at = (int(area.shape[1] * (1 - fill) / 2), int((area.shape[0] + high * scale) / 2))
    cv2.putText(area, text, at, font, scale, colour, max(1, round(scale * 1.5)), cv2.LINE_AA)


def told(assessment: Assessment) -> str:
    """Return the result in one line of ASCII, for those who see the picture and not the report."""
    said = {f.code: f for f in reversed(assessment.abnormal)}  # of several bundles the one that is surest
    found = [f"{f.place} {f.name}".strip().replace("_", " ") + f" {f.probability:.0%}" for f in reversed(said.values())]
    numbers = [f"{m.name} {m.value:.3g}{' %' if m.unit == PERCENT else ' ml' if m.unit.value == 'cm3' else ''}"
               for m in assessment.measurements if m.name in _TOLD]
    first = ", ".join(found) or "no finding over its threshold (this does not mean normal)"
    return "; ".join([first, *numbers]).encode("ascii", "replace").decode("ascii")


def _image(pixels: Picture) -> Dataset:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.preamble = bytes(128)
    made.file_meta.FileMetaInformationVersion = b"\x00\x01"
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = SECONDARY_CAPTURE_STORAGE
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.Modality, made.ConversionType, made.ImageLaterality = "OT", "WSD", "U"
    made.ImageType, made.BurnedInAnnotation = ["DERIVED", "SECONDARY"], "YES"
    made.ImageComments, made.PatientOrientation = DISCLAIMER, ""
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


def _series_references(sources: Sequence[Dataset]) -> list[Dataset]:
    items = []
    for uid in dict.fromkeys(str(s.SeriesInstanceUID) for s in sources):
        item = Dataset()
        item.SeriesInstanceUID = uid
        item.ReferencedInstanceSequence = [_reference(s) for s in sources if s.SeriesInstanceUID == uid]
        items.append(item)
    return items
