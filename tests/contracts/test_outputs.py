"""Every kind of object that we make, from every kind of source, through the gate."""

from __future__ import annotations

from io import BytesIO

import httpx
import pytest
from pydicom import dcmread
from pydicom.uid import ImplicitVRLittleEndian

from service.deliver.cstore import CStoreTarget
from service.domain import codes
from service.report.build import build
from tests import builders
from tests.contracts import gate
from tests.contracts.assessed import NOW, STYLE, ct, ct_by_two, cxr_by_two
from tests.contracts.outputs import CASES, ct_output, cxr_output, write
from tests.peers import HOST, missing, orthanc


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
    assert write(tmp_path, read, made, said).problems() == []


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
