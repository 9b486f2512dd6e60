"""One result of each kind, made of images that exist on paper only: what the conformance statement shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset

from service.domain import codes
from service.domain.finding import Assessment, BundleIdentity, Finding, Measurement, Presence, Segment
from service.domain.study import CT_IMAGE_STORAGE, DX_FOR_PRESENTATION, Header, Kind, Selection, VolumeGeometry
from service.errors import Reason
from service.report.build import Made, Style, build, build_refusal

SLICES, SIZE = 4, 16
SPACING_MM = (5.0, 2.0, 2.0)
_ROOT = "2.25.1"
_NOW = datetime(2026, 1, 2, 12, 30, tzinfo=UTC)
_STYLE = Style(software_version="x.y.z", presentation_state=True, key_objects=True)
_CT = BundleIdentity("example-ct", "1.0.0", "0" * 64, "An example of a bundle for CT", f"{_ROOT}.7")
_CXR = BundleIdentity("example-cxr", "1.0.0", "1" * 64, "An example of a bundle for radiographs", f"{_ROOT}.8")
_SEGMENTS = (
    Segment(1, "right lung", codes.ANATOMICAL_STRUCTURE, codes.LUNG, (70, 130, 220), codes.RIGHT),
    Segment(2, "infection", codes.MORPHOLOGICALLY_ABNORMAL, codes.OPACITY, (230, 80, 40)),
)


def of_ct() -> list[Made]:
    """Return the objects of a CT with an infection: SEG, SC, presentation states, key objects, SR."""
    sources = [_source(CT_IMAGE_STORAGE, "CT", z) for z in range(SLICES)]
    for z, source in enumerate(sources):
        source.FrameOfReferenceUID, source.PositionReferenceIndicator = f"{_ROOT}.9", ""
        source.ImageOrientationPatient, source.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, z * SPACING_MM[0]]
        source.PixelSpacing, source.SliceThickness = list(SPACING_MM[1:]), SPACING_MM[0]
        source.RescaleSlope, source.RescaleIntercept, source.RescaleType = 1, -1024, "HU"
    masks = np.zeros((SLICES, SIZE, SIZE), np.uint8)
    masks[:, 2:14, 2:8] = 1
    masks[1:3, 5:9, 3:6] |= 2
    voxel_ml = float(np.prod(SPACING_MM)) / 1000
    whole, part = (float(np.count_nonzero(masks & bit)) * voxel_ml for bit in (1, 2))
    right = {"site": codes.LUNG, "laterality": codes.RIGHT}
    said = Assessment(
        _CT, (Finding("infection", codes.OPACITY, Presence.PRESENT, 0.91, 0.5, codes.LUNG, codes.RIGHT, urgency="urgent"),
              Finding("covid19", codes.COVID_19_PNEUMONIA, Presence.ABSENT, 0.12, 0.5, codes.LUNG)),
        (Measurement("right lung volume", codes.VOLUME, whole, codes.CUBIC_CENTIMETER, "right lung",
                     method=codes.SUM_OF_VOXELS, **right),
         Measurement("infection volume", codes.VOLUME, part, codes.CUBIC_CENTIMETER, "infection",
                     method=codes.SUM_OF_VOXELS, **right),
         Measurement("infection mean attenuation", codes.MEAN_ATTENUATION, -410.5, codes.HOUNSFIELD_UNIT, "infection"),
         Measurement("lung involved", codes.PERCENT_INVOLVED, 100 * part / whole, codes.PERCENT, "", **right),
         Measurement("severity score", codes.SEVERITY_SCORE, 7, codes.NO_UNITS, site=codes.LUNG)),
        ("an example of a limitation",), _SEGMENTS, masks, quality=codes.DIAGNOSTIC_QUALITY)
    geometry = VolumeGeometry(
        tuple(z * SPACING_MM[0] for z in range(SLICES)), SPACING_MM, (1, 0, 0, 0, 1, 0), (0, 0, 1), SIZE, SIZE, f"{_ROOT}.9")
    selection = Selection(Kind.CT, _headers(sources), "the only usable CT series", geometry)
    return build(selection, sources, said, _STYLE, "2" * 64, 1, [], _NOW, _pictures(sources))


def of_radiograph() -> list[Made]:
    """Return the objects of a radiograph with a finding that is outlined: SC, presentation state, key objects, SR."""
    source = _source(DX_FOR_PRESENTATION, "DX", 0)
    source.ViewPosition, source.PatientOrientation = "PA", ["L", "F"]
    source.WindowCenter, source.WindowWidth = 2048, 4096
    uid = str(source.SOPInstanceUID)
    outline = ((2.5, 3.5), (2.5, 9.5), (7.5, 9.5), (7.5, 3.5), (2.5, 3.5))
    said = Assessment(
        _CXR, (Finding("pneumonia", codes.PNEUMONIA, Presence.PRESENT, 0.83, 0.5, codes.LUNG, codes.RIGHT, uid, "urgent",
                       codes.LOWER_ZONE, outlines=(outline,)),
               Finding("effusion", codes.PLEURAL_EFFUSION, Presence.ABSENT, 0.07, 0.5, codes.PLEURA, None, uid)),
        saliency={uid: np.zeros((SIZE, SIZE), np.float32)}, quality=codes.DIAGNOSTIC_QUALITY)
    selection = Selection(Kind.CXR, _headers([source]), "1 of 1 radiographs are frontal")
    return build(selection, [source], said, _STYLE, "3" * 64, 1, [], _NOW, _pictures([source]))


def of_refusal() -> list[Made]:
    """Return the object of a study that was not assessed: an SR."""
    source = _source(CT_IMAGE_STORAGE, "CT", 0)
    return build_refusal(
        source, [source], Reason.SLICES_TOO_THICK, "slices are 7.00 mm apart; accepted: up to 5", _STYLE, "4" * 64, [], _NOW)


def _source(sop_class: str, modality: str, number: int) -> Dataset:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.SOPClassUID, made.SOPInstanceUID = sop_class, f"{_ROOT}.3.{number + 1}"
    made.StudyInstanceUID, made.SeriesInstanceUID, made.Modality = f"{_ROOT}.1", f"{_ROOT}.2", modality
    made.PatientName, made.PatientID, made.PatientBirthDate, made.PatientSex = "Example^Patient", "EXAMPLE", "", ""
    made.StudyDate, made.StudyTime, made.AccessionNumber, made.StudyID = "20260102", "101500", "A1", "1"
    made.ReferringPhysicianName, made.InstanceNumber = "", number + 1
    made.Rows = made.Columns = SIZE
    made.PhotometricInterpretation = "MONOCHROME2"
    return made


def _headers(sources: Sequence[Dataset]) -> tuple[Header, ...]:
    return tuple(Header(str(s.SOPInstanceUID), str(s.SOPClassUID), str(s.StudyInstanceUID), str(s.SeriesInstanceUID))
                 for s in sources)


def _pictures(sources: Sequence[Dataset]) -> Mapping[str, NDArray[np.float32]]:
    return {str(s.SOPInstanceUID): np.full((SIZE, SIZE), 0.5, np.float32) for s in sources}
