"""Real studies, the shipped bundles and a real PACS: what the demo shows, and what Orthanc gets back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid

from service.app import App
from service.assemble.choose import choose
from service.demo.run import STUDIES
from service.pipeline.look import look
from service.store.studies import images_of
from tests.contracts import gate
from tests.hospital import Hospital, settings_for
from tests.peers import HOST, ScriptedPacs, free_port, orthanc

SEG, SR, SC = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.5.1.4.1.1.7"


def run_demo(output: Path, *options: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "COLUMNS": "200"}
    return subprocess.run([sys.executable, "-m", "service.cli", "demo", "--once", "--output", str(output), *options],
                          capture_output=True, text=True, timeout=170, env=environ)


def test_demo_ends_well_with_every_result_in_the_pacs(tmp_path: Path) -> None:
    ended = run_demo(tmp_path / "out")
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-2000:]
    assert "all done  7 studies" in ended.stdout and "Research use only" in ended.stdout
    kinds = sorted(dcmread(p, stop_before_pixels=True).SOPClassUID for p in (tmp_path / "out" / "pacs").glob("*.dcm"))
    assert kinds == sorted([SEG, *[SR] * 7, *[SC] * 7])


def test_demo_never_empties_a_folder_that_it_did_not_make(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    ended = run_demo(tmp_path)
    assert ended.returncode == 1 and "other files" in ended.stderr
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_demo_that_runs_out_of_time_fails_and_names_what_is_missing(tmp_path: Path) -> None:
    ended = run_demo(tmp_path / "out", "--timeout", "0")
    assert ended.returncode == 1
    uid = dcmread(next((STUDIES / "ct").glob("*.dcm")), stop_before_pixels=True).StudyInstanceUID
    assert "missing" in ended.stdout and uid in ended.stdout.replace("\n", "")


@pytest.mark.peer
def test_orthanc_sends_a_real_ct_and_gets_back_objects_without_fault(tmp_path: Path) -> None:
    dicom_port = free_port()
    slices = sorted((STUDIES / "ct").glob("*.dcm"))
    with orthanc(tmp_path / "orthanc", {"FIRSTLOOK": (HOST, dicom_port)}) as pacs:
        for path in slices:
            pacs.post("/instances", path.read_bytes())
        app = App(settings_for(tmp_path / "house", pacs, receive={"port": dicom_port}))
        app.start()
        try:
            house = Hospital(app, ScriptedPacs(tmp_path / "unused"), tmp_path)
            study = str(dcmread(slices[0], stop_before_pixels=True).StudyInstanceUID)
            pacs.post("/modalities/FIRSTLOOK/store", [pacs.get("/studies")[0]])
            house.delivered(study)
        finally:
            app.stop()
        made = {}
        for instance in pacs.get("/instances?expand="):
            sop_class = pacs.get(f"/instances/{instance['ID']}/tags?simplify")["SOPClassUID"]
            kind = {SEG: "seg", SR: "sr", SC: "sc"}.get(sop_class)
            if kind:
                made[kind] = tmp_path / f"{kind}.dcm"
                made[kind].write_bytes(pacs.raw(f"/instances/{instance['ID']}/file"))
        assert len(pacs.get("/studies")) == 1, "the results belong to the patient's study"
    assert set(made) == {"seg", "sc", "sr"}
    seg, report, images = dcmread(made["seg"]), dcmread(made["sr"]), [dcmread(p, stop_before_pixels=True) for p in slices]
    faults_of_the_source = gate.dcentvfy(slices)  # published without the localizer that its slices refer to
    together = [e for e in gate.dcentvfy([*slices, *made.values()]) if e not in faults_of_the_source]
    found = [*gate.dciodvfy(made["seg"]), *gate.dciodvfy(made["sr"]), *together,
             *gate.dsrdump(made["sr"]), *gate.read_by_dcmqi(made["sr"]), *gate.read_by_highdicom(made["sr"]),
             *gate.same_study(seg, images[0]), *gate.same_study(report, images[0]), *gate.on_source_grid(seg, images),
             *gate.volumes(made["seg"], report, images), *gate.mandatory_rows(report)]
    assert found == []


KINDS = {uid: kind for kind, uid in gate.CLASSES.items()}


@pytest.mark.peer
def test_every_kind_of_object_made_of_real_images_passes_the_gate(tmp_path: Path) -> None:
    """A CT with infection, a radiograph with pneumonia and one without finding, as the shipped bundles read them."""
    studies = [sorted((STUDIES / "ct").glob("*.dcm")),
               *([next((STUDIES / "cxr").glob(f"{name}*.dcm"))] for name in ("person1946", "normal2-im-1427"))]
    with ScriptedPacs(tmp_path / "pacs") as pacs:
        app = App(settings_for(tmp_path / "house", pacs, report={"presentation_state": True, "key_objects": True}))
        app.start()
        try:
            house = Hospital(app, pacs, tmp_path)
            for files in studies:
                house.send_files(files)
            found = {}
            for files in studies:
                study = str(dcmread(files[0], stop_before_pixels=True).StudyInstanceUID)
                house.delivered(study)
                found[study] = _faults(house, study, files)
        finally:
            app.stop()
    assert not any(found.values()), found
    assert {KINDS[str(r.sop_class_uid)] for r in pacs.received()} == set(gate.CLASSES), "each kind was made"


def _faults(house: Hospital, study: str, files: list[Path]) -> list[str]:
    """Hold what the PACS got against the gate, and against what the bundles say of the very images once more."""
    line = house.app.line
    assert line is not None
    with line.database.reading() as session:
        images = images_of(session, house.study(study).id or 0)
    said = look(line, choose([i.header for i in images], line.geometry, line.comparison.of(images)), images).assessment
    made: dict[str, list[Path]] = {}
    for received in house.pacs.received():
        if received.study_instance_uid == study:
            made.setdefault(KINDS[str(received.sop_class_uid)], []).append(Path(received.path))
    of_the_source = {f"dcentvfy: {line}" for line in gate.dcentvfy(files)}  # slices that refer to an unpublished localizer
    return [problem for problem in gate.problems(made, files, said) if problem not in of_the_source]


def test_slices_under_new_uids_are_another_study_with_other_results(tmp_path: Path) -> None:
    with ScriptedPacs(tmp_path / "pacs") as pacs:
        app = App(settings_for(tmp_path / "house", pacs))
        app.start()
        try:
            house = Hospital(app, pacs, tmp_path)
            radiograph = next((STUDIES / "cxr").glob("normal*.dcm"))
            house.send_files([radiograph])
            copy = dcmread(radiograph)
            copy.StudyInstanceUID, copy.SeriesInstanceUID = generate_uid(), generate_uid()
            copy.SOPInstanceUID = copy.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            house.send(copy)
            first = house.delivered(str(dcmread(radiograph).StudyInstanceUID))
            second = house.delivered(copy.StudyInstanceUID)
        finally:
            app.stop()
    assert first.summary["findings"] == second.summary["findings"]
    assert len({r.sop_instance_uid for r in pacs.received()}) == 4
