"""Own checks of every object of ours: its class and marks, its patient and study, its references, its codes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sr._concepts_dict import concepts

from service.domain import codes, study
from service.report.document import REQUIRED

CLASSES = {
    "seg": study.SEGMENTATION_STORAGE, "sr": study.COMPREHENSIVE_3D_SR_STORAGE, "sc": study.SECONDARY_CAPTURE_STORAGE,
    "pr": study.PRESENTATION_STATE_STORAGE, "ko": study.KEY_OBJECT_SELECTION_STORAGE}

REVIEWED = {  # written by highdicom, and right, but not in pydicom's dictionaries or there under another name
    ("260753009", "SCT"): "Source", ("276214006", "SCT"): "Finding category",
    ("{pixels}", "UCUM"): "Pixels", ("{-1:1}", "UCUM"): "{-1:1}", ("mm", "UCUM"): "mm",
}


def class_is(made: Dataset, kind: str) -> list[str]:
    """Compare SOP class, series number and the marks of every object of ours."""
    found = [] if made.SOPClassUID == CLASSES[kind] else [f"{kind}: SOP class {made.SOPClassUID.name}"]
    if made.SeriesNumber < 900:
        found.append(f"{kind}: series number {made.SeriesNumber}")
    item = made.ContributingEquipmentSequence[0]
    if made.Manufacturer != "firstlook" or item.PurposeOfReferenceCodeSequence[0].CodeValue != "109102":
        found.append(f"{kind}: not marked as ours")
    if not str(item.get("DeviceUID", "")).startswith("2.25."):
        found.append(f"{kind}: no Device UID")
    return found


def same_study(made: Dataset, source: Dataset) -> list[str]:
    """Compare patient and study with the source's."""
    wrong = [k for k in (*REQUIRED, "StudyInstanceUID", "StudyDescription", "IssuerOfPatientID")
             if str(made.get(k) or "") != str(source.get(k) or "")]
    missing = [k for k in REQUIRED if k not in made]
    return [f"{k} differs from the source" for k in wrong] + [f"{k} is missing" for k in missing]


def references(report: Dataset, files: Iterable[Path]) -> list[str]:
    """Check that every object in the evidence is one of the study's files."""
    known = {str(dcmread(p, stop_before_pixels=True).SOPInstanceUID) for p in files}
    listed = {str(r.ReferencedSOPInstanceUID) for s in report.CurrentRequestedProcedureEvidenceSequence
              for series in s.ReferencedSeriesSequence for r in series.ReferencedSOPSequence}
    return [f"evidence {uid} does not exist" for uid in sorted(listed - known)]


def dangling(made: Dataset, files: Iterable[Path]) -> list[str]:
    """Check that every reference, however deep, is to an object of the study, by its class, and to a frame that it has."""
    known = {str(d.SOPInstanceUID): d for d in (dcmread(p, stop_before_pixels=True) for p in files)}
    found = set()
    for item in (item for element in made.iterall() if element.VR == "SQ" for item in element.value):
        if "ReferencedSOPInstanceUID" not in item:
            continue
        other = known.get(str(item.ReferencedSOPInstanceUID))
        if other is None:
            found.add(f"{item.ReferencedSOPInstanceUID} is referred to and does not exist")
        elif other.SOPClassUID != item.ReferencedSOPClassUID:
            found.add(f"{item.ReferencedSOPInstanceUID} is referred to as {item.ReferencedSOPClassUID.name}")
        elif not 1 <= int(item.get("ReferencedFrameNumber") or 1) <= int(other.get("NumberOfFrames") or 1):
            found.add(f"frame {item.ReferencedFrameNumber} is referred to and does not exist")
    return sorted(found)


def meanings(made: Dataset) -> list[str]:
    """Compare every code with our table, or with pydicom's dictionaries where highdicom wrote it."""
    ours = REVIEWED | {(c.value, c.scheme): c.meaning for c in codes.BY_NAME.values()}
    found = []
    for item in _coded(made):
        value, scheme = str(item.get("CodeValue") or item.get("LongCodeValue")), str(item.CodingSchemeDesignator)
        known = [ours[value, scheme]] if (value, scheme) in ours else [
            by_value[value][0] for by_value in concepts.get(scheme, {}).values() if value in by_value]
        if str(item.CodeMeaning).casefold() not in [meaning.casefold() for meaning in known]:
            found.append(f"code {value} ({scheme}) is written as {str(item.CodeMeaning)!r}")
    return found


def _coded(made: Dataset) -> list[Dataset]:
    sequences = (element.value for element in made.iterall() if element.VR == "SQ")
    return [item for items in sequences for item in items if "CodeMeaning" in item]
