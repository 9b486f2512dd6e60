"""Assessments of the synthetic studies with known masks, as a bundle would return them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from service.domain import codes
from service.domain.finding import Assessment, BundleIdentity, Finding, Measurement, Presence, Segment, together
from service.domain.study import Header, Kind, Selection, VolumeGeometry
from service.report.document import Style

NOW = datetime(2026, 1, 2, 12, 30, 0, tzinfo=timezone(timedelta(hours=1)))
STYLE = Style(institution_name="Test Hospital", software_version="0.1.0")
EVERYTHING = dataclasses.replace(STYLE, presentation_state=True, key_objects=True)
CT_BUNDLE = BundleIdentity("ct-lung-infection", "1.0.0", "ab" * 32, "Lung infection on CT", "2.25.1234")
CXR_BUNDLE = BundleIdentity("cxr-pattern", "2.1.0", "cd" * 32, "Pneumonia on radiographs", "2.25.5678")
PATTERN_BUNDLE = BundleIdentity("ct-pattern", "0.3.0", "12" * 32, "Pattern of a chest CT", "2.25.91")
FINDINGS_BUNDLE = BundleIdentity("cxr-findings", "0.2.0", "ef" * 32, "Findings on radiographs", "2.25.92")
GATE_BUNDLE = BundleIdentity("cxr-quality", "0.1.1", "34" * 32, "Quality of radiographs", "2.25.93")
LUNGS_BUNDLE = BundleIdentity("cxr-lungs", "0.1.2", "56" * 32, "Lung fields", "2.25.94")
OUTLINES = (
    ((40.5, 120.5), (90.5, 118.25), (84.5, 171.5), (40.5, 120.5)), ((8.5, 8.5), (8.5, 20.5), (20.5, 8.5), (8.5, 8.5)))
SEGMENTS = (
    Segment(1, "right lung", codes.ANATOMICAL_STRUCTURE, codes.LUNG, (90, 160, 220), codes.RIGHT),
    Segment(2, "left lung", codes.ANATOMICAL_STRUCTURE, codes.LUNG, (90, 220, 160), codes.LEFT),
    Segment(3, "infection", codes.MORPHOLOGICALLY_ABNORMAL, codes.OPACITY, (220, 60, 60)),
)


def header(ds: Dataset) -> Header:
    """Return the part of a header that building needs."""
    return Header(str(ds.SOPInstanceUID), str(ds.SOPClassUID), str(ds.StudyInstanceUID), str(ds.SeriesInstanceUID))


def geometry(sources: Sequence[Dataset]) -> VolumeGeometry:
    """Return the geometry of an axial stack that ascends in z."""
    positions = tuple(float(s.ImagePositionPatient[2]) for s in sources)
    first = sources[0]
    row, column = (float(v) for v in first.PixelSpacing)
    return VolumeGeometry(
        positions, (positions[1] - positions[0], row, column), tuple(float(v) for v in first.ImageOrientationPatient),
        (0.0, 0.0, 1.0), first.Rows, first.Columns, str(first.get("FrameOfReferenceUID", "")))  # type: ignore[arg-type]


def masks(slices: int, size: int, infection: bool = True) -> NDArray[np.uint8]:
    """Return (z, y, x) uint8: two lungs not in the first and last slice, and an infection inside the right one."""
    _, y, x = np.ogrid[0:slices, 0:size, 0:size]
    right = (x - 0.3 * size) ** 2 + (y - 0.5 * size) ** 2 < (0.2 * size) ** 2
    left = (x - 0.7 * size) ** 2 + (y - 0.5 * size) ** 2 < (0.18 * size) ** 2
    small = (x - 0.3 * size) ** 2 + (y - 0.5 * size) ** 2 < (0.07 * size) ** 2
    made = np.zeros((slices, size, size), np.uint8)
    made[1:-1] |= (right * 1 | left * 2).astype(np.uint8)
    if infection:
        made[slices // 4:slices // 2] |= (small * 4).astype(np.uint8)
    return made


def ct(sources: Sequence[Dataset], infection: bool = True, **changes: Any) -> tuple[Selection, Assessment]:
    """Return what a CT bundle would say: volumes from the masks, pneumonia present only with an infection."""
    place = geometry(sources)
    drawn = changes.pop("masks", masks(len(sources), place.rows, infection))
    measured = []
    for segment in SEGMENTS:
        voxels = int(np.count_nonzero(drawn & (1 << (segment.number - 1))))
        measured.append(Measurement(
            "volume", codes.VOLUME, voxels * place.voxel_volume_ml, codes.CUBIC_CENTIMETER, segment.label, codes.LUNG,
            segment.laterality, codes.SUM_OF_VOXELS))
        measured.append(Measurement("mean", codes.MEAN_ATTENUATION, -701.25, codes.HOUNSFIELD_UNIT, segment.label))
    for side in (codes.RIGHT, codes.LEFT, codes.BILATERAL):
        measured.append(Measurement(
            "percent involved", codes.PERCENT_INVOLVED, 12.5 if infection else 0.0, codes.PERCENT, "", codes.LUNG, side))
    measured.append(Measurement("score", codes.SEVERITY_SCORE, 7 if infection else 0, codes.NO_UNITS))
    findings = (
        Finding("pneumonia", codes.PNEUMONIA, Presence.PRESENT if infection else Presence.ABSENT,
                0.91 if infection else 0.02, 0.5, codes.LUNG, codes.RIGHT if infection else None,
                urgency="urgent"),
        Finding("covid-19", codes.COVID_19_PNEUMONIA, Presence.ABSENT, 0.1, 0.5, codes.LUNG),
    )
    said: dict[str, Any] = {
        "bundle": CT_BUNDLE, "findings": findings, "measurements": tuple(measured), "segments": SEGMENTS, "masks": drawn,
        "limitations": ("trained on adults only",),
    } | changes
    return Selection(Kind.CT, tuple(map(header, sources)), "thinnest axial series", place), Assessment(**said)


def cxr(sources: Sequence[Dataset], present: bool = True, **changes: Any) -> tuple[Selection, Assessment]:
    """Return what a radiograph bundle would say: one score an image and code, and a saliency for each image."""
    findings = tuple(
        finding for source in sources for finding in (
            Finding("pneumonia", codes.PNEUMONIA, Presence.PRESENT if present else Presence.ABSENT,
                    0.8 if present else 0.2, 0.5, codes.LUNG, None, str(source.SOPInstanceUID), "urgent"),
            Finding("covid-19", codes.COVID_19_PNEUMONIA, Presence.ABSENT, 0.1, 0.5, codes.LUNG, None,
                    str(source.SOPInstanceUID)),
        ))
    saliency = {}
    for source in sources:
        y, x = np.mgrid[0:source.Rows, 0:source.Columns]
        blob = np.exp(-(((x - source.Columns * 0.3) ** 2 + (y - source.Rows * 0.6) ** 2) / (0.01 * source.Rows ** 2)))
        saliency[str(source.SOPInstanceUID)] = blob.astype(np.float32)
    said: dict[str, Any] = {
        "bundle": CXR_BUNDLE, "findings": findings, "limitations": ("a screening aid",), "saliency": saliency} | changes
    return Selection(Kind.CXR, tuple(map(header, sources)), "all frontal radiographs"), Assessment(**said)


def ct_by_two(
    sources: Sequence[Dataset], infection: bool = True, **changes: Any,
) -> tuple[Selection, Assessment]:
    """Return what two CT bundles would say: the classifier leads, the segmentation draws."""
    selection, drawn = ct(sources, infection, **changes)
    there = Presence.PRESENT if infection else Presence.ABSENT
    findings = (
        Finding("covid19", codes.COVID_19_PNEUMONIA, there, 0.7 if infection else 0.1, 0.5, codes.LUNG, None,
                str(sources[len(sources) // 2].SOPInstanceUID), "stat"),
        Finding("other_abnormal", codes.PNEUMONIA, Presence.ABSENT, 0.2, 0.5, codes.LUNG),
        Finding("normal", codes.NO_FINDING, Presence.PRESENT, 0.2, 0.5, codes.LUNG),
    )
    classified = Assessment(PATTERN_BUNDLE, findings, limitations=("a classifier",), quality=codes.DIAGNOSTIC_QUALITY)
    return selection, together([classified, drawn])


def cxr_by_two(sources: Sequence[Dataset], present: bool = True, **changes: Any) -> tuple[Selection, Assessment]:
    """Return what two radiograph bundles, a gate and a bundle of lung fields would say; one finding has a zone."""
    selection, lead = cxr(sources, present, **changes)
    uid = str(sources[0].SOPInstanceUID)
    there = Presence.PRESENT if present else Presence.ABSENT
    side, zone = (codes.RIGHT, codes.LOWER_ZONE) if present else (None, None)
    findings = (
        Finding("no_finding", codes.NO_FINDING, Presence.PRESENT, 0.3, 0.5, codes.LUNG, None, uid),
        Finding("pneumonia", codes.PNEUMONIA, there, 0.75 if present else 0.25, 0.5, codes.LUNG, side, uid, "urgent",
                zone, outlines=OUTLINES if present else ()),
        Finding("effusion", codes.PLEURAL_EFFUSION, there, 0.6 if present else 0.1, 0.5, codes.PLEURA, side, uid, "",
                zone),
        Finding("cardiomegaly", codes.CARDIOMEGALY, Presence.ABSENT, 0.1, 0.5, codes.HEART, None, uid),
        Finding("pleural_thickening", codes.PLEURAL_THICKENING, Presence.ABSENT, 0.1, 0.5, codes.PLEURA, None, uid),
        Finding("hernia", codes.HERNIA, Presence.ABSENT, 0.01, 0.5, codes.DIAPHRAGM, None, uid),
    )
    return selection, together([lead, Assessment(FINDINGS_BUNDLE, findings)], [GATE_BUNDLE, LUNGS_BUNDLE])


def pictures(sources: Sequence[Dataset]) -> dict[str, NDArray[np.float32]]:
    """Return the grey pixels of each radiograph, 0..1, or those of each slice in a lung window."""
    if sources[0].Modality == "CT":
        return {str(s.SOPInstanceUID): np.clip((s.pixel_array.astype(np.float32) + 326) / 1500, 0, 1) for s in sources}
    return {str(s.SOPInstanceUID): (s.pixel_array / 4095).astype(np.float32) for s in sources}
