"""The command line: what it says, and its exit codes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from service import cli
from service.checks import check_archives, check_managers, check_reports, check_target
from service.demo.send import studies_in
from service.outlets import archives, managers
from service.settings import Settings
from tests.builders import ct_series, radiograph, uid, write
from tests.certificates import Hospital
from tests.hospital import TINY, hospital, tiny_models
from tests.peers import HOST, ScriptedPacs, free_port
from tests.worklist_manager import WorklistManager


def settings_file(folder: Path, port: int, models: Path) -> Path:
    file = folder / "firstlook.toml"
    file.write_text(f"""
[store]
data_dir = "{folder}/data"
[receive]
port = 0
any_calling_ae = true
min_free_bytes = 0
[infer]
models_dir = "{models}"
ct_bundles = ["tiny-ct"]
cxr_bundles = ["tiny-cxr"]
cxr_gate = ""
cxr_lungs = ""
[web]
port = 0
[[deliver.targets]]
name = "pacs"
ae_title = "PACS"
host = "{HOST}"
port = {port}
timeout_s = 2
""")
    return file


def test_check_has_a_line_for_each_part_and_fails_when_the_pacs_is_away(
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:
    models = tiny_models(tmp_path / "models")
    with ScriptedPacs(tmp_path / "pacs") as pacs:
        file = settings_file(tmp_path, pacs.port, models)
        assert cli.main(["check", "--settings", str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == [
        "settings", "database", "receive", "web", "disk", "rules", "bundles", "target"]
    assert all(line.startswith("ok") for line in lines) and "tiny-ct on CPU" in lines[6]
    assert cli.main(["check", "--settings", str(file)]) == 1
    assert "FAIL  target pacs" in capsys.readouterr().out


def test_check_tells_that_a_report_of_commitment_would_be_rejected(tmp_path: Path) -> None:
    targets = {"targets": [{"name": "pacs", "ae_title": "PACS", "host": HOST, "port": 104, "proof": "commit"}]}
    (told,) = check_reports(Settings.model_validate({"deliver": targets}))
    assert (told.name, told.ok) == ("target pacs", False) and "PACS is not under receive.peers" in told.detail
    for receive in ({"any_calling_ae": True}, {"peers": [{"ae_title": "PACS "}]}):
        assert check_reports(Settings.model_validate({"deliver": targets, "receive": receive})) == []


def test_check_names_a_bundle_whose_weights_were_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = tiny_models(tmp_path / "models")
    with (models / "tiny-ct" / "model.onnx").open("ab") as file:
        file.write(b"x")
    assert cli.main(["check", "--settings", str(settings_file(tmp_path, free_port(), models))]) == 1
    said = capsys.readouterr().out
    assert "FAIL  bundles" in said and "tiny-ct" in said and "sha256" in said


@pytest.mark.parametrize(("url", "words"), [
    ("nonsense", "sqlite:///FILE"), ("oracle://a:secret@b/c", "driver"),
    ("postgresql+psycopg://u:secret@127.0.0.1:1/x", "OperationalError"),
])
def test_a_database_that_cannot_be_opened_is_told_in_one_line(
    tmp_path: Path, url: str, words: str, capsys: pytest.CaptureFixture[str],
) -> None:
    file = settings_file(tmp_path, free_port(), tiny_models(tmp_path / "models"))
    file.write_text(file.read_text().replace("[store]", f'[store]\ndatabase_url = "{url}"'))
    assert cli.main(["check", "--settings", str(file)]) == 1
    (line,) = [x for x in capsys.readouterr().out.splitlines() if x.split()[1] == "database"]
    assert line.startswith("FAIL") and words in line and "secret" not in line
    assert cli.main(["explain", "1.2", "--settings", str(file)]) == 1
    said = capsys.readouterr().err
    assert "store.database_url" in said and "secret" not in said


def test_check_names_a_port_that_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = settings_file(tmp_path, free_port(), tiny_models(tmp_path / "models"))
    with ScriptedPacs(tmp_path / "pacs") as pacs:
        file.write_text(file.read_text().replace("[receive]\nport = 0", f"[receive]\nport = {pacs.port}"))
        assert cli.main(["check", "--settings", str(file)]) == 1
        port = pacs.port
    assert f"receive.port {port}: Address already in use" in capsys.readouterr().out


@pytest.mark.parametrize(("command", "code", "begins"), [("serve", 2, "firstlook: "), ("check", 1, "FAIL  tls receive")])
def test_a_certificate_that_cannot_be_used_is_told_in_one_line(tmp_path: Path, command: str, code: int, begins: str) -> None:
    file = settings_file(tmp_path, free_port(), tiny_models(tmp_path / "models"))
    own = Hospital(tmp_path / "certificates").issue("us")
    own.key_path.write_bytes(Hospital(tmp_path / "other").issue("them").key_path.read_bytes())
    file.write_text(file.read_text().replace("[[deliver", f"""[receive.tls]
enabled = true
client_certificate = "none"
certificate = "{own.path}"
private_key = "{own.key_path}"
[[deliver"""))
    done = subprocess.run([sys.executable, "-m", "service.cli", command, "--settings", str(file)], capture_output=True,
                          text=True, timeout=60, check=False)
    assert done.returncode == code
    (said,) = [line for line in (done.stdout + done.stderr).splitlines() if "receive.tls.private_key" in line]
    assert said.startswith(begins) and "does not fit the certificate" in said
    assert "Traceback" not in done.stdout + done.stderr


def test_wrong_settings_stop_the_start_with_the_field(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "firstlook.toml"
    file.write_text("[receive]\nprt = 1\n")
    assert cli.main(["serve", "--settings", str(file)]) == 2
    assert "receive.prt: unknown key; did you mean 'port'?" in capsys.readouterr().err


def test_models_list_names_every_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    file = settings_file(tmp_path, free_port(), tiny_models(tmp_path / "models"))
    assert cli.main(["models", "list", "--settings", str(file)]) == 0
    said = capsys.readouterr().out
    assert "tiny-ct" in said and "tiny-cxr" in said and "Research use only" in said


def test_send_stores_a_folder_study_by_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "images"
    write(ct_series(slices=3), folder / "ct")
    write([radiograph()], folder / "cxr")
    (folder / "notes.txt").write_text("not DICOM")
    assert set(studies_in([folder])) == {uid(1, 1), uid(2, 1)}
    models = tiny_models(tmp_path / "models")
    with hospital(tmp_path / "house", infer=TINY | {"models_dir": models}) as house:
        assert house.app.listener is not None
        address = f"FIRSTLOOK@{HOST}:{house.app.listener.port}"
        assert cli.main(["send", str(folder), "--to", address]) == 0
        assert cli.main(["send", str(folder), "--to", address.replace("FIRSTLOOK", "NOBODY")]) == 1
        assert house.study(uid(1, 1)).calling_aet == "FIRSTLOOK_SCU"
    said = capsys.readouterr().out
    assert said.count("stored") == 2 and said.count("failed") == 2


def test_explain_tells_the_story_of_a_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = settings_file(tmp_path, free_port(), tiny_models(tmp_path / "models"))
    with hospital(tmp_path, infer=TINY | {"models_dir": tmp_path / "models"}) as house:
        house.send(radiograph(), radiograph(patient=3, ViewPosition="LL"))
        house.delivered(uid(2, 1))
        house.delivered(uid(3, 1))
    capsys.readouterr()
    assert cli.main(["explain", uid(2, 1), "--settings", str(file)]) == 0
    said = capsys.readouterr().out
    assert "Patient" not in said
    for words in ("state      assessed", "association released", "queued", "SR ", "stored in pacs", "tiny-cxr 1.0.0"):
        assert words in said
    assert cli.main(["explain", uid(3, 1), "--settings", str(file)]) == 0
    assert "lateral_view: Only lateral" in capsys.readouterr().out
    assert cli.main(["explain", uid(9, 9), "--settings", str(file)]) == 1


@pytest.mark.parametrize("address", ["FIRSTLOOK", "FIRSTLOOK@host", "A@b:99999", "@host:1"])
def test_send_says_how_an_address_is_written(address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["send", str(tmp_path), "--to", address]) == 2
    assert "AET@HOST:PORT" in capsys.readouterr().err


def test_check_tells_of_archives_and_managers_that_could_not_call_back() -> None:
    peer = {"ae_title": "ARCHIVE", "host": HOST, "port": 104}
    moving = {"priors": {"archives": [{"name": "archive", "retrieve": "move", **peer}]}}
    reporting = {"workitems": {"managers": [{"name": "orders", **peer}]}}
    (of_archive,) = check_archives(Settings.model_validate(moving))
    (of_manager,) = check_managers(Settings.model_validate(reporting))
    assert not of_archive.ok and "ARCHIVE is not under receive.peers" in of_archive.detail
    assert not of_manager.ok and "work could not be canceled" in of_manager.detail
    known = {"receive": {"peers": [{"ae_title": "ARCHIVE"}]}}
    assert check_archives(Settings.model_validate(moving | known)) == []
    assert check_managers(Settings.model_validate(reporting | known)) == []
    getting = {"priors": {"archives": [{"name": "archive", "retrieve": "get", **peer}]}}
    assert check_archives(Settings.model_validate(getting)) == []


def test_check_asks_archives_and_managers_for_an_echo() -> None:
    peer = {"ae_title": "MANAGER", "host": HOST, "timeout_s": 1.0}
    with WorklistManager() as manager:
        tree = {"workitems": {"managers": [{"name": "orders", "port": manager.port, **peer}]},
                "priors": {"archives": [{"name": "archive", "port": free_port(), **peer}]}}
        settings = Settings.model_validate(tree)
        assert check_target(managers(settings)["orders"], "manager").ok
        away = check_target(archives(settings)["archive"], "archive")
        assert (away.name, away.ok) == ("archive archive", False) and "could not be reached" in away.detail


def test_a_manager_names_an_archive_that_is_there() -> None:
    place = {"name": "orders", "ae_title": "M", "host": HOST, "port": 104, "archive": "elsewhere"}
    with pytest.raises(ValueError, match=r"'elsewhere' is not under priors\.archives; accepted: none is set"):
        Settings.model_validate({"workitems": {"managers": [place]}})


def test_service_runs_opencv_on_the_thread_that_asks_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, seen = (cv2.getNumThreads(), sys.getswitchinterval()), list[int]()

    class Noted:
        def __init__(self, *_: object) -> None:
            seen.append(cv2.getNumThreads())

        def start(self) -> None:
            raise OSError("noted")

        def stop(self) -> None: ...

    (tmp_path / "s.toml").write_text(f'[store]\ndata_dir = "{tmp_path}"\n')
    monkeypatch.setattr(cli, "App", Noted)
    monkeypatch.setattr(cli.signal, "signal", lambda *_: None)
    try:
        cv2.setNumThreads(4)
        assert cli.main(["serve", "--settings", str(tmp_path / "s.toml")]) == 1
    finally:
        cv2.setNumThreads(before[0])
        sys.setswitchinterval(before[1])
    assert seen == [1]
