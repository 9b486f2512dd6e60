"""What readers judged and corrected becomes a folder that measuring reads, without a patient's identity in it."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from models.evaluation.problems import Problems
from models.evaluation.radiographs import read_radiographs, read_rows
from models.evaluation.slices import find_slices, read_slice
from service.cli import main
from service.domain.finding import Presence
from service.domain.manifest import read_manifest
from service.domain.verdict import Judged, Verdict, Why
from service.retrain import label_of
from tests.builders import radiograph, uid, write
from tests.flow.test_corrections import SLICES, STUDY, infection, redrawn
from tests.hospital import TINY, Hospital, hospital, tiny_models
from tests.peers import HOST, wait_until

MARK = "Zzyzx"


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Hospital]:
    with hospital(tmp_path / "house", infer=TINY | {"models_dir": tiny_models(tmp_path / "models")}) as running:
        yield running


def judge(house: Hospital, study: str, finding: str, verdict: str, why: str = "", bundle: str = "tiny-cxr") -> None:
    answer = httpx.post(f"http://{HOST}:{house.app.web_port}/api/studies/{study}/verdicts", json={
        "bundle": bundle, "finding": finding, "verdict": verdict, "why": why})
    assert answer.status_code == 200, answer.text


def exported(house: Hospital, folder: Path) -> tuple[int, Path]:
    """Run the command and return its exit code and what it wrote."""
    settings = folder / "firstlook.toml"
    settings.write_text(f"[store]\ndata_dir = {json.dumps(str(house.app.data_dir))}\n[infer]\n"
                        f"models_dir = {json.dumps(str(house.app.settings.infer.models_dir))}\n"
                        'ct_bundles = ["tiny-ct"]\ncxr_bundles = ["tiny-cxr"]\ncxr_gate = ""\ncxr_lungs = ""\n')
    out = folder / f"set-{len(list(folder.iterdir()))}"
    return main(["models", "retrain-set", "--settings", str(settings), "--out", str(out)]), out


def test_verdicts_and_corrections_are_what_measuring_reads(house: Hospital, tmp_path: Path,
                                                           capsys: pytest.CaptureFixture[str]) -> None:
    who = {"PatientName": f"{MARK}^Anna", "PatientID": MARK}
    bright, dark = (np.tile(np.linspace(low, high, 256), (256, 1)) for low, high in ((0.7, 1.0), (0.0, 0.4)))
    house.send(radiograph(patient=2, image=bright, PatientSex="F", **who))
    house.send(radiograph(patient=3, image=dark, **who))
    house.send(radiograph(patient=4), radiograph(patient=4, instance=2))
    house.send(radiograph(patient=5, BurnedInAnnotation="YES"))
    house.send(*SLICES)
    for patient in (2, 3, 4, 5):
        house.delivered(uid(patient, 1))
    house.delivered(STUDY)
    judge(house, uid(2, 1), "pneumonia", "disagree", "not_there")
    judge(house, uid(3, 1), "pneumonia", "disagree", "missed")
    judge(house, uid(4, 1), "pneumonia", "agree")
    judge(house, uid(5, 1), "pneumonia", "agree")
    theirs = infection(house)
    theirs[: len(theirs) // 2] = False
    house.send_files(write([redrawn(theirs)], tmp_path / "back"))  # type: ignore[list-item]
    wait_until(lambda: any(line.startswith("feedback: a segmentation") for line in house.trace(STUDY)))
    code, out = exported(house, tmp_path)
    said = capsys.readouterr().out
    assert code == 0 and "2 radiographs" in said and "of 1 CT" in said
    assert "1 studies: not one frontal image" in said and "1 studies: burnt-in annotation" in said

    with (out / "cxr" / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [[r[name] for name in ("Pneumonia", "no_finding", "sex", "view")] for r in rows] == [
        ["0", "", "F", "PA"], ["1", "0", "", "PA"]]
    assert rows[0]["patient"] == rows[1]["patient"], "one patient stays one"
    assert rows[0]["age"] == rows[1]["age"] != ""
    models = house.app.settings.infer.models_dir
    problems = Problems()
    read = read_radiographs(out, read_rows(out, problems), read_manifest(models / "tiny-cxr"), problems)
    assert [r.labels[1] for r in read] == [False, True] and problems.rows == []

    manifest = read_manifest(models / "tiny-ct")
    slices = find_slices(out, problems)
    assert len({s.group for s in slices}) == 1 and slices[0].group.startswith("site-")
    marked = {int(s.path.name[:3]): read_slice(s, manifest)[1] for s in slices}
    for number in range(len(SLICES)):
        wanted = theirs[number]
        if number in marked:
            found = marked[number]
            assert found is not None and np.array_equal(found == 2, wanted) and (found == 1).any(), "our lungs, their lesion"
        else:
            assert not wanted.any()

    raw = b"".join(path.name.encode() + path.read_bytes() for path in out.rglob("*") if path.is_file())
    assert MARK.encode() not in raw and uid(2, 1).encode() not in raw and STUDY.encode() not in raw
    again = exported(house, tmp_path)[1]
    assert (again / "cxr" / "labels.csv").read_text() == (out / "cxr" / "labels.csv").read_text(), "names stay the same"


def test_without_a_verdict_there_is_no_set(house: Hospital, tmp_path: Path) -> None:
    house.send(radiograph())
    house.delivered(uid(2, 1))
    code, out = exported(house, tmp_path)
    assert code == 1 and not (out / "cxr").exists()


@pytest.mark.parametrize(("presence", "verdict", "why", "label"), [
    ("present", "agree", "", True), ("absent", "agree", "", False), ("present", "disagree", "not_there", False),
    ("present", "disagree", "artefact", False), ("present", "disagree", "wrong_place", True),
    ("present", "disagree", "known_before", True), ("present", "disagree", "other", None),
    ("present", "disagree", "", False), ("absent", "disagree", "missed", True), ("absent", "disagree", "", None),
])
def test_a_verdict_becomes_a_label_only_where_it_says_what_is_there(
        presence: str, verdict: str, why: str, label: bool | None) -> None:
    judged = Judged("1", 1, "b", "1", "d", "f", Presence(presence), 0.5, 0.5, Verdict(verdict), Why(why), "r", 1.0, "s", "x")
    assert label_of(judged) is label
