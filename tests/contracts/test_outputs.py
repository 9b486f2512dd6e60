"""Every kind of object that we make, from every kind of source, through the gate; and proof that the gate catches."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian

from service.assemble.choose import choose
from service.assemble.geometry import GeometryRules
from service.deliver.cstore import CStoreTarget
from service.domain import codes
from service.domain.finding import Assessment
from service.domain.study import Selection
from service.errors import Reason
from service.pipeline.frames import read_sources
from service.prepare.frames import frame_headers
from service.receive.header import read_file_header
from service.report.build import build, build_refusal
from tests import builders
from tests.contracts import gate
from tests.contracts.assessed import EVERYTHING, NOW, STYLE, ct, ct_by_two, cxr, cxr_by_two, masks, pictures
from tests.peers import HOST, missing, orthanc

Saying = Callable[..., tuple[Selection, Assessment]]


@dataclass
class Output:
    """Files of one study: the source images, and what was made of them by kind."""

    sources: list[Path]
    made: dict[str, list[Path]]
    said: Assessment | None

    def problems(self) -> list[str]:
        """Everything that the gate finds."""
        return gate.problems(self.made, self.sources, self.said)

    def spoil(self, kind: str, change: Callable[[Dataset], None]) -> None:
        """Change one object on disk."""
        path = self.made[kind][0]
        ds = dcmread(path)
        change(ds)
        ds.save_as(path, enforce_file_format=True)


def ct_output(folder: Path, infection: bool = True, keep: int = 7, said_by: Saying = ct, **changes: object) -> Output:
    sources = builders.ct_series(slices=12, size=48, spacing_mm=(10.0, 6.0, 6.5), **changes)
    drawn = masks(12, 48, infection) & np.uint8(keep)
    selection, said = said_by(sources, infection, masks=drawn)
    made = build(selection, _headers(sources), said, EVERYTHING, "digest", 1, [], NOW, pictures(sources))
    return _write(folder, sources, made, said)


def enhanced_output(folder: Path, saying: Saying = ct) -> Output:
    """Return what is made of an enhanced CT, whose frames are read and written by the very code of the pipeline."""
    image = builders.enhanced_ct(builders.ct_series(slices=12, size=48, spacing_mm=(10.0, 6.0, 6.5)))
    [path] = builders.write([image], folder / "sources")
    frames = frame_headers(path, read_file_header(path))
    sources = read_sources([path] * len(frames), frames)
    _, said = saying(sources, masks=masks(12, 48))
    selection = choose([read_file_header(path)], GeometryRules(5, 12.0), lambda a, b: True, lambda _: frames)
    shown = {h.sop_instance_uid: np.zeros((48, 48), np.float32) for h in frames}
    return _write(folder, [image], build(selection, sources, said, EVERYTHING, "digest", 1, [], NOW, shown), said)


def cxr_output(folder: Path, *sources: Dataset, present: bool = True, said_by: Saying = cxr) -> Output:
    selection, said = said_by(sources, present)
    made = build(selection, _headers(sources), said, EVERYTHING, "digest", 1, [], NOW, pictures(sources))
    return _write(folder, list(sources), made, said)


def refusal_output(folder: Path, sources: list[Dataset]) -> Output:
    made = build_refusal(
        sources[0], sources, Reason.SLICES_TOO_THICK, "slices are 7 mm apart", STYLE, "digest", [], NOW)
    return _write(folder, sources, made, None)


def _headers(sources: Iterable[Dataset]) -> list[Dataset]:
    """Return the sources as the pipeline reads them: without pixels."""
    headers = []
    for source in sources:
        made = Dataset()
        made.update({e.tag: e for e in source if e.keyword != "PixelData"})
        headers.append(made)
    return headers


def _write(folder: Path, sources: list[Dataset], made: list, said: Assessment | None) -> Output:  # type: ignore[type-arg]
    files: dict[str, list[Path]] = {}
    for number, one in enumerate(made):
        path = folder / f"{one.kind}{number}.dcm"
        folder.mkdir(parents=True, exist_ok=True)
        one.dataset.save_as(path, enforce_file_format=True)
        files.setdefault(one.kind, []).append(path)
    return Output(builders.write(sources, folder / "sources"), files, said)


def few_attributes() -> Dataset:
    """A CR as old readers write it: most type 2 attributes are not there, the sex and dates are not valid."""
    return builders.radiograph(
        sop_class="CR", PatientOrientation=None, ViewPosition=None, BodyPartExamined=None, StudyID=None,
        AccessionNumber=None, ReferringPhysicianName=None, PatientBirthDate=None, StudyTime="", PatientName="",
        StudyDescription=None, SoftwareVersions=None, Manufacturer=None, SpecificCharacterSet=None)


CASES: dict[str, Callable[[Path], Output]] = {
    "ct with infection": ct_output,
    "ct without infection": lambda f: ct_output(f, infection=False),
    "ct with one lung": lambda f: ct_output(f, keep=6),
    "ct in which nothing was drawn": lambda f: ct_output(f, keep=0),
    "ct without thickness, study time and id": lambda f: ct_output(
        f, SliceThickness=None, StudyTime="", StudyID="", PatientName="", PatientBirthDate=""),
    "ct with names in UTF-8": lambda f: ct_output(f, PatientName="Müller^Zoë=山田^太郎", PatientID="Ä-17"),
    "ct with lossy pixels": lambda f: ct_output(
        f, LossyImageCompression="01", LossyImageCompressionRatio="12.5", LossyImageCompressionMethod="ISO_10918_1"),
    "ct of one enhanced object": enhanced_output,
    "ct of one enhanced object by two bundles": lambda f: enhanced_output(f, ct_by_two),
    "dx": lambda f: cxr_output(f, builders.radiograph()),
    "dx without finding": lambda f: cxr_output(f, builders.radiograph(), present=False),
    "two dx": lambda f: cxr_output(f, builders.radiograph(), builders.radiograph(instance=2, ViewPosition="AP")),
    "monochrome1": lambda f: cxr_output(f, builders.radiograph(PhotometricInterpretation="MONOCHROME1",
                                                               PresentationLUTShape="INVERSE")),
    "cr with few attributes": lambda f: cxr_output(f, few_attributes()),
    "ct by two bundles": lambda f: ct_output(f, said_by=ct_by_two),
    "ct by two bundles without infection": lambda f: ct_output(f, infection=False, said_by=ct_by_two),
    "dx by two bundles": lambda f: cxr_output(f, builders.radiograph(), said_by=cxr_by_two),
    "two dx by two bundles without finding": lambda f: cxr_output(
        f, builders.radiograph(), builders.radiograph(instance=2), present=False, said_by=cxr_by_two),
    "refused ct": lambda f: refusal_output(f, builders.ct_series(slices=3, size=16)),
    "refused cr": lambda f: refusal_output(f, [few_attributes()]),
}


@pytest.mark.parametrize("case", CASES)
def test_every_output_passes_the_gate(case, tmp_path):
    assert CASES[case](tmp_path).problems() == []


@pytest.mark.peer
def test_dcmtk_is_there_for_the_gate():
    for tool in ("dsrdump", "dcmpschk"):
        if not (gate.DCMTK / tool).exists():
            missing(f"{tool} of DCMTK")


@pytest.mark.parametrize(("case", "kinds"), [
    ("ct with infection", {"seg": 1, "sc": 1, "pr": 3, "ko": 1, "sr": 1}),
    ("ct without infection", {"seg": 1, "sc": 1, "sr": 1}), ("ct in which nothing was drawn", {"sr": 1}),
    ("two dx", {"sc": 2, "ko": 1, "sr": 1}), ("dx by two bundles", {"sc": 1, "pr": 1, "ko": 1, "sr": 1}),
    ("dx without finding", {"sc": 1, "sr": 1}), ("refused ct", {"sr": 1})])
def test_each_kind_of_study_gets_its_kinds_of_objects(case, kinds, tmp_path):
    assert {kind: len(paths) for kind, paths in CASES[case](tmp_path).made.items()} == kinds


def test_implicit_vr_sources_are_read_alike(tmp_path):
    sources = builders.ct_series(slices=6, size=32)
    for ds in sources:
        ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    paths = []
    for number, ds in enumerate(sources):
        paths.append(tmp_path / f"implicit{number}.dcm")
        ds.save_as(paths[-1], implicit_vr=True, little_endian=True, enforce_file_format=True)
    read = [dcmread(p) for p in paths]
    selection, said = ct(read)
    made = build(selection, [dcmread(p, stop_before_pixels=True) for p in paths], said, STYLE, "d", 1, [], NOW)
    assert _write(tmp_path, read, made, said).problems() == []


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


def test_a_segmentation_is_that_of_the_model_that_drew_and_names_it_alone(tmp_path):
    seg = dcmread(ct_output(tmp_path, said_by=ct_by_two).made["seg"][0])
    assert seg.ManufacturerModelName == "ct-lung-infection"
    assert [i.DeviceUID for i in seg.ContributingEquipmentSequence] == ["2.25.1234"]
    assert {s.SegmentationAlgorithmIdentificationSequence[0].AlgorithmName for s in seg.SegmentSequence} == {
        "ct-lung-infection"}


def test_a_placed_finding_has_its_zone_and_side_as_finding_site(tmp_path):
    report = dcmread(cxr_output(tmp_path, builders.radiograph(), said_by=cxr_by_two).made["sr"][0])
    sites = [i for g in gate.groups(report) for i in g.ContentSequence
             if i.ConceptNameCodeSequence[0].CodeValue == codes.FINDING_SITE.value]
    placed = {(s.ConceptCodeSequence[0].CodeMeaning, s.ContentSequence[0].ConceptCodeSequence[0].CodeMeaning)
              for s in sites if "ContentSequence" in s}
    assert placed == {("Lower zone of lung", "Right"), ("Pleura", "Right")}
    assert "The evidence is strongest in the right lower zone." in gate.texts(report)


@pytest.mark.parametrize(("case", "kinds"), [
    ("dx by two bundles", ["region"] * 2 + ["other"] * 7), ("ct by two bundles", ["segment"] * 3 + ["other"] * 5)])
def test_a_report_tells_of_regions_first_then_of_segments_then_of_the_rest(case, kinds, tmp_path):
    report = dcmread(CASES[case](tmp_path).made["sr"][0])
    names = [{str(i.ConceptNameCodeSequence[0].CodeValue) for i in g.ContentSequence} for g in gate.groups(report)]
    assert ["region" if "111030" in n else "segment" if "121191" in n else "other" for n in names] == kinds


@pytest.mark.peer
def test_orthanc_keeps_every_object_in_the_patients_study_unchanged(tmp_path):
    outputs = [ct_output(tmp_path / "ct"), cxr_output(tmp_path / "cxr", builders.radiograph())]
    with orthanc(tmp_path / "orthanc") as server:
        target = CStoreTarget("orthanc", server.ae_title, HOST, server.port, "FIRSTLOOK")
        for output in outputs:
            files = [p for paths in output.made.values() for p in paths]
            target.send(output.sources)
            target.send(files)
            target.send(files)
            for sent in map(dcmread, files):
                (found,) = server.post("/tools/lookup", str(sent.SOPInstanceUID).encode())
                kept = httpx.get(f"{server.url}/instances/{found['ID']}/file").content
                assert dcmread(BytesIO(kept)) == sent
        assert {k: server.get("/statistics")[f"Count{k}"] for k in ("Patients", "Studies", "Series", "Instances")} == {
            "Patients": 2, "Studies": 2, "Series": 1 + 5 + 1 + 3, "Instances": 12 + 7 + 1 + 3}
