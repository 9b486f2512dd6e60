"""Proof that the gate catches: a fault for each of its checks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from service.domain import codes
from tests import builders
from tests.contracts import gate
from tests.contracts.assessed import cxr_by_two
from tests.contracts.outputs import Output, ct_output, cxr_output, enhanced_output, few_attributes, refusal_output


def _item(report: Dataset, value: str) -> Dataset:
    return next(i for i in report.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue == value)


def _in_groups(report: Dataset, value: str) -> Dataset:
    return next(i for g in gate.groups(report) for i in g.ContentSequence
                if i.ConceptNameCodeSequence[0].CodeValue == value)


def _without(report: Dataset, value: str) -> None:
    report.ContentSequence.remove(_item(report, value))


def _untracked(report: Dataset) -> None:
    items = gate.groups(report)[1].ContentSequence
    items.remove(next(i for i in items if i.ConceptNameCodeSequence[0].CodeValue == "112040"))


def _call_absent_present(report: Dataset) -> None:
    name = _in_groups(report, codes.FINDING_ABSENT.value).ConceptNameCodeSequence[0]
    name.CodeValue, name.CodingSchemeDesignator, name.CodeMeaning = "121071", "DCM", "Finding"


def _shift(seg: Dataset) -> None:
    seg.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence[0].ImagePositionPatient[2] += 0.01


def _flip(seg: Dataset) -> None:
    pixels = bytearray(seg.PixelData)
    pixels[100] ^= 0xFF
    seg.PixelData = bytes(pixels)


def _grow(report: Dataset) -> None:
    _in_groups(report, codes.VOLUME.value).MeasuredValueSequence[0].NumericValue = "999.0"


def _rename(report: Dataset) -> None:
    _in_groups(report, "121071").ConceptCodeSequence[0].CodeMeaning = "Pneumothorax"


def _region(report: Dataset) -> Dataset:
    return _in_groups(report, "111030")


def _leave_image(report: Dataset) -> None:
    _region(report).GraphicData[2] = 9999.0


def _open(report: Dataset) -> None:
    _region(report).GraphicData = list(_region(report).GraphicData)[:-2]


def _unexplained(report: Dataset) -> None:
    for group in gate.groups(report):
        group.ContentSequence = [i for i in group.ContentSequence if i.ConceptNameCodeSequence[0].CodeValue != "130401"]


Change = Callable[[Dataset], None]


def _set(keyword: str, value: object) -> Change:
    return lambda ds: setattr(ds, keyword, value)


def _calm(report: Dataset) -> None:
    code = _in_groups(report, codes.PROCESSING_SUMMARY.value).ConceptCodeSequence[0]
    code.CodeValue, code.CodeMeaning = codes.SUCCEEDED_WITHOUT_FINDINGS.value, codes.SUCCEEDED_WITHOUT_FINDINGS.meaning


def _swap_speaker(report: Dataset) -> None:
    names = [i for g in gate.groups(report) for i in g.ContentSequence
             if i.ConceptNameCodeSequence[0].CodeValue == "111001" and i.TextValue == "cxr-findings"]
    names[0].TextValue = "cxr-pattern"


def _other_source(made: Dataset) -> None:
    made.SourceImageSequence[0].ReferencedSOPInstanceUID = "1.2.3"


def _erase_banner(picture: Dataset) -> None:
    pixels = picture.pixel_array.copy()
    pixels[:36] = 0
    picture.PixelData = pixels.tobytes()


def _first_line(state: Dataset) -> Dataset:
    return state.GraphicAnnotationSequence[0].GraphicObjectSequence[0]


def _without_warning(state: Dataset) -> None:
    texts = state.GraphicAnnotationSequence[0].TextObjectSequence
    texts.remove(next(t for t in texts if "NOT FOR DIAGNOSIS" in t.UnformattedTextValue))


def _without_layer(state: Dataset) -> None:
    del state.GraphicLayerSequence[0].GraphicLayerOrder
    del state.GraphicAnnotationSequence[0].GraphicLayer


def _without_unit(report: Dataset) -> None:
    del _in_groups(report, codes.VOLUME.value).MeasuredValueSequence[0].MeasurementUnitsCodeSequence


def _unrelated(report: Dataset) -> None:
    gate.groups(report)[1].ConceptNameCodeSequence[0].CodeValue = "125008"


def _evidence(made: Dataset) -> Dataset:
    return made.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]


def _frame(seg: Dataset, number: int = 0) -> Dataset:
    return seg.PerFrameFunctionalGroupsSequence[number]


def _source_of_frame(seg: Dataset) -> Dataset:
    return _frame(seg).DerivationImageSequence[0].SourceImageSequence[0]


def _ct(folder: Path) -> Output:
    return ct_output(folder)


def _cxr(folder: Path) -> Output:
    return cxr_output(folder, builders.radiograph(), said_by=cxr_by_two)


def _refused(folder: Path) -> Output:
    return refusal_output(folder, [few_attributes()])


FAULTS: dict[str, tuple[Callable[[Path], Output], str, str, Change, str]] = {  # of what, kind, check, change, in words
    "relabelled class": (_ct, "seg", "class_is", _set("SOPClassUID", "1.2.840.10008.5.1.4.1.1.66"), "SOP class"),
    "series number of a scanner": (_ct, "sr", "class_is", _set("SeriesNumber", 3), "series number 3"),
    "no device uid": (_ct, "sr", "class_is", lambda d: delattr(d.ContributingEquipmentSequence[0], "DeviceUID"),
                      "no Device UID"),
    "missing algorithm": (_ct, "seg", "dciodvfy", lambda d: delattr(d.SegmentSequence[0], "SegmentAlgorithmName"),
                          "SegmentAlgorithmName"),
    "one frame more than there is": (_ct, "seg", "dciodvfy",
                                     lambda d: setattr(d, "NumberOfFrames", d.NumberOfFrames + 1), ""),
    "segment that does not exist": (
        _ct, "seg", "dciodvfy",
        lambda d: setattr(_frame(d).SegmentIdentificationSequence[0], "ReferencedSegmentNumber", 9), ""),
    "missing orientation of a picture": (_cxr, "sc", "dciodvfy", lambda d: delattr(d, "PatientOrientation"), ""),
    "missing unit": (_ct, "sr", "dsrdump", _without_unit, ""),
    "other name": (_ct, "sr", "dcentvfy", _set("PatientName", "Other^Person"), "PatientName"),
    "other patient": (_ct, "sr", "same_study", _set("PatientID", "P9999"), "PatientID differs"),
    "empty patient id": (_ct, "sr", "same_study", _set("PatientID", ""), "PatientID differs"),
    "other accession number": (_ct, "seg", "same_study", _set("AccessionNumber", "X"), "AccessionNumber differs"),
    "frame of an image that does not exist": (
        _ct, "seg", "dangling", lambda d: setattr(_source_of_frame(d), "ReferencedSOPInstanceUID", "1.2.3"),
        "1.2.3 is referred to and does not exist"),
    "frame number that does not exist": (
        enhanced_output, "seg", "dangling", lambda d: setattr(_source_of_frame(d), "ReferencedFrameNumber", 13), "frame 13"),
    "image named by another class": (
        _ct, "ko", "dangling", lambda d: setattr(d.ContentSequence[-1].ReferencedSOPSequence[0], "ReferencedSOPClassUID",
                                                 "1.2.840.10008.5.1.4.1.1.4"), "is referred to as MR Image Storage"),
    "wrong meaning": (_ct, "sr", "meanings", _rename, "is written as 'Pneumothorax'"),
    "no procedure reported": (_ct, "sr", "mandatory_rows", lambda d: _without(d, "121058"), "TID 1500 row 121058"),
    "no tracking uid": (_ct, "sr", "mandatory_rows", _untracked, "row 112040"),
    "final instead of preliminary": (_ct, "sr", "mandatory_rows", _set("PreliminaryFlag", "FINAL"), "flags are"),
    "dangling evidence": (_ct, "sr", "references", lambda d: setattr(_evidence(d), "ReferencedSOPInstanceUID", "1.2.3"),
                          "does not exist"),
    "dangling evidence of key objects": (
        _ct, "ko", "references", lambda d: setattr(_evidence(d), "ReferencedSOPInstanceUID", "1.2.3"), "does not exist"),
    "no measurements": (_ct, "sr", "read_by_highdicom", lambda d: _without(d, "126010"), ""),
    "group that dcmqi does not find": (_ct, "sr", "read_by_dcmqi", _unrelated, "with other numbers"),
    "absent finding that dcmqi reads as found": (_ct, "sr", "read_by_dcmqi", _call_absent_present, "as found"),
    "refusal that looks normal": (_refused, "sr", "never_normal", _calm, "no algorithm succeeded"),
    "absent finding under Finding": (_ct, "sr", "no_finding_for_absent", _call_absent_present, "written under 'Finding'"),
    "finding in another model's mouth": (_cxr, "sr", "speakers", _swap_speaker, "findings are said by"),
    "region outside of its image": (_cxr, "sr", "regions", _leave_image, "a region leaves its image"),
    "region that is not closed": (_cxr, "sr", "regions", _open, "not a closed polyline"),
    "region of another finding": (
        _cxr, "sr", "regions",
        lambda d: setattr(_region(d), "GraphicData", [1.0, 1.0, 5.0, 1.0, 5.0, 5.0, 1.0, 1.0]), "are not the 2 outlines"),
    "picture without a reference": (_cxr, "sr", "explained", _unexplained, "a picture is not referred to"),
    "wrong frame of reference": (_ct, "seg", "on_source_grid", _set("FrameOfReferenceUID", "1.2.3"), "Frame of Reference"),
    "plane 0.01 mm off": (_ct, "seg", "on_source_grid", _shift, "frame 3 is not at the position"),
    "frame of another frame": (
        enhanced_output, "seg", "on_source_grid", lambda d: setattr(_source_of_frame(d), "ReferencedFrameNumber", 1),
        "is not at the position"),
    "eight voxels flipped": (_ct, "seg", "voxels", _flip, "in the mask"),
    "wrong volume": (_ct, "sr", "volumes", _grow, "differs from the SEG"),
    "warning painted over": (_ct, "sc", "captured", _erase_banner, "the warning is not burned in"),
    "burned-in text not declared": (_cxr, "sc", "captured", _set("BurnedInAnnotation", "NO"), "not declared"),
    "picture of another image": (_cxr, "sc", "captured", _other_source, "made of an image that does not exist"),
    "open outline": (
        _cxr, "pr", "outlined", lambda d: setattr(_first_line(d), "GraphicData", _first_line(d).GraphicData[:-2]),
        "is open"),
    "state without warning": (_cxr, "pr", "outlined", _without_warning, "the warning is missing"),
    "state that inverts": (_cxr, "pr", "outlined", _set("PresentationLUTShape", "INVERSE"), "Presentation LUT Shape"),
    "state without its layer": (_cxr, "pr", "dcmpschk", _without_layer, "dcmpschk"),
}


@pytest.mark.peer
@pytest.mark.parametrize("fault", FAULTS)
def test_the_gate_catches(fault, tmp_path):
    make, kind, check, change, words = FAULTS[fault]
    output = make(tmp_path)
    output.spoil(kind, change)
    caught = [problem for problem in output.problems() if problem.startswith(f"{check}: ")]
    assert any(words in problem for problem in caught), f"{check} does not see it"


def test_every_check_of_the_gate_is_proven_by_a_fault():
    assert {check for _, _, check, _, _ in FAULTS.values()} == set(gate.CHECKS)
