"""The support archive helps, and holds nothing of a patient and no secret."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from service import cli
from service.store.tables import Event, Instance, Study
from tests.builders import radiograph, uid
from tests.hospital import TINY, hospital, tiny_models
from tests.peers import HOST, free_port

MARK = "ZZSECRET"
PATIENT = {
    "PatientName": f"{MARK}^{MARK}", "PatientID": f"{MARK}-1", "PatientBirthDate": "19431213", "AccessionNumber": f"{MARK}2",
    "StudyDescription": f"{MARK} chest", "PatientComments": MARK,
}


def read(file: Path) -> dict[str, str]:
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name).decode() for name in archive.namelist()}


def test_a_support_archive_of_a_service_with_patients_has_no_trace_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:
    models, port = tiny_models(tmp_path / "models"), free_port()
    log, file, archive = tmp_path / "service.log", tmp_path / "firstlook.toml", tmp_path / "support.zip"
    with hospital(tmp_path / "house", infer=TINY | {"models_dir": models}, web={"port": port, "access_token": f"t0k-{MARK}"},
                  receive={"port": 0, "any_calling_ae": True, "min_free_bytes": 0}) as house:
        house.send(radiograph(**PATIENT))
        house.delivered(uid(2, 1))
        with house.app.database.transaction() as session:
            session.get_one(Study, 1).state_detail = MARK
            session.add(Event(study_id=1, at=1.0, stage="x", text=MARK))
            assert MARK in session.get_one(Study, 1).patient_name and session.get_one(Instance, 1)
        log.write_text("\n".join([
            json.dumps({"time": "t", "level": "info", "logger": "firstlook.x", "event": "queued", "study": uid(2, 1)}),
            json.dumps({"time": "t", "level": "info", "logger": "firstlook.x", "event": "reported", "study": uid(2, 1),
                        "free": MARK}),
            f"Traceback of somebody else: {MARK}", json.dumps([MARK]), json.dumps({"event": MARK}),
        ]))
        file.write_text(f"""
[store]
data_dir = {json.dumps(str(house.app.data_dir))}
[infer]
models_dir = {json.dumps(str(models))}
ct_bundles = ["tiny-ct"]
cxr_bundles = ["tiny-cxr"]
cxr_gate = ""
cxr_lungs = ""
[receive]
port = {free_port()}
any_calling_ae = true
[web]
port = {port}
access_token = "t0k-{MARK}"
[[deliver.targets]]
name = "pacs"
ae_title = "PACS"
host = "{HOST}"
port = {house.pacs.port}
""")
        assert cli.main(["doctor", "--bundle", str(archive), "--log", str(log), "--settings", str(file)]) == 0
        assert cli.main(["doctor", "--bundle", str(archive), "--settings", str(file)]) == 1, "nothing is overwritten"
    told = read(archive)
    everything = "\n".join(told.values())
    assert MARK not in everything and "19431213" not in everything and uid(2, 1) not in everything
    assert 'firstlook_deliveries_total{outcome="stored",target="pacs"} 2.0' in told["metrics.txt"]
    assert json.loads(told["settings.json"])["web"]["access_token"] == "(set)"
    database = json.loads(told["database.json"])
    assert database["revision"] == database["newest_revision"] and database["rows"]["study"] == 1
    assert database["studies"] == {"assessed delivered": 1}
    assert {b["name"] for b in json.loads(told["bundles.json"])} >= {"tiny-ct", "tiny-cxr"}
    assert len(json.loads(told["bundles.json"])[0]["sha256"]) == 64
    assert any(c["name"] == "target pacs" and c["ok"] for c in json.loads(told["checks.json"]))
    assert "pydicom" in json.loads(told["versions.json"])["packages"]
    lines = [json.loads(line) for line in told["log.jsonl"].splitlines()]
    assert lines[-1] == {"lines_left_out": 3} and lines[0]["study"] == lines[1]["study"] != ""
    assert lines[0]["study"].startswith("uid-")


def test_an_archive_is_made_where_nothing_works(tmp_path: Path) -> None:
    file, archive = tmp_path / "firstlook.toml", tmp_path / "support.zip"
    file.write_text(f"""
[store]
data_dir = "{tmp_path / 'data'}"
database_url = "postgresql+psycopg://firstlook:{MARK}@127.0.0.1:{free_port()}/x"
[infer]
models_dir = "{tmp_path / 'none'}"
[web]
port = {free_port()}
""")
    assert cli.main(["doctor", "--bundle", str(archive), "--settings", str(file)]) == 0
    told = read(archive)
    assert MARK not in "".join(told.values())
    assert json.loads(told["database.json"])["error"] == "OperationalError"
    assert "does not answer" in told["metrics.txt"] and "firstlook:***@127.0.0.1" in told["settings.json"]
