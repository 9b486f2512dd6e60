"""The commands of the documents are run, in their order, on a site of the test's own: its settings, a PACS, studies."""

from __future__ import annotations

import io
import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.app import App
from service.cli import main
from service.settings import load
from tests.builders import radiograph, uid, write
from tests.flow.test_switch import whole_bundle
from tests.peers import HOST, ScriptedPacs, free_port, wait_until
from tests.tiny_bundles import brightness_cxr, threshold_ct

DOCS = Path(__file__).parents[2] / "deploy" / "docs"
ORDER = ("install", "security", "runbook", "models")
STUDY = uid(2, 1)
NOT_RUN = {
    "models import": "run on real files by the tests of models/README.md", "models compare": "needs labelled images",
    "models reference": "needs labelled images", "models evaluate cxr-next": "needs labelled images",
    "settings": "run by the tests of the settings", "restore": "needs an empty place: run below",
}


def commands() -> list[str]:
    """Return every firstlook command of the documents, each once, in order."""
    found: dict[str, None] = {}
    for name in ORDER:
        text = (DOCS / f"{name}.md").read_text(encoding="utf-8")
        for block in re.findall(r"^```sh\n(.*?)^```", text, re.M | re.S):
            for line in block.splitlines():
                match = re.match(r"(?:\S*/)?firstlook (.*?)(?:\s+>\s.*|\s+#.*)?$", line)
                if match:
                    found[match[1]] = None
    return list(found)


class Site:
    """A hospital of the test: what the documents call by its example names has names here."""

    def __init__(self, folder: Path, pacs: ScriptedPacs) -> None:
        self.folder, self.dicom, self.web = folder, free_port(), free_port()
        models = folder / "models"
        brightness_cxr(models, "cxr-pattern")
        for name in ("cxr-next", "cxr-findings"):
            whole_bundle(folder, models / name)
        threshold_ct(models, "ct-lung-infection", side_px=128, window_hu=[-1100, 1000])
        self.settings = folder / "firstlook.toml"
        self.settings.write_text(f"""
[store]
data_dir = {json.dumps(str(folder / "data"))}
[receive]
port = {self.dicom}
min_free_bytes = 0
[[receive.peers]]
ae_title = "PACS"
[assemble]
quiet_cxr_s = 0.2
[infer]
models_dir = {json.dumps(str(models))}
device = "cpu"
cxr_bundles = ["cxr-pattern"]
cxr_gate = ""
cxr_lungs = ""
[web]
port = {self.web}
login = "off"
[[deliver.targets]]
name = "pacs"
ae_title = "{pacs.ae_title}"
host = "{HOST}"
port = {pacs.port}
""")
        write([radiograph()], folder / "images")
        self.names = {
            "/etc/firstlook/firstlook.toml": str(self.settings), "/etc/firstlook/tls": str(folder / "tls"),
            "/backup/firstlook.tar": str(folder / "firstlook.tar"), "support.zip": str(folder / "support.zip"),
            "service/demo/studies/cxr": str(folder / "images"),
            "FIRSTLOOK@127.0.0.1:11112": f"FIRSTLOOK@{HOST}:{self.dicom}",
            "STUDY_INSTANCE_UID": STUDY, "NAME": "chief", "site-set": str(folder / "site-set"),
            "rules.toml": str(folder / "rules.toml"), "JOB": "1"}

    def run(self, command: str) -> int:
        """Run a command as the documents show it, with the names of this site."""
        return main([self.names.get(word, word) for word in shlex.split(command)])

    def delivered(self) -> bool:
        """Tell whether the study's result is in the PACS."""
        said = httpx.get(f"http://{HOST}:{self.web}/api/studies/{STUDY}").json()
        return bool(said["delivery"] == "delivered")

    def judge(self) -> None:
        """Let a reader disagree, so that there is something to learn from."""
        answer = httpx.post(f"http://{HOST}:{self.web}/api/studies/{STUDY}/verdicts", json={
            "bundle": "cxr-pattern", "finding": "pneumonia", "verdict": "agree"})
        assert answer.status_code == 200, answer.text


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with ScriptedPacs(tmp_path / "pacs") as pacs:
        made = Site(tmp_path, pacs)
        monkeypatch.setenv("FIRSTLOOK_SETTINGS", str(made.settings))
        monkeypatch.setattr(sys, "stdin", io.StringIO())
        yield made


def test_every_command_of_the_documents_does_what_it_says(site: Site, monkeypatch: pytest.MonkeyPatch,
                                                          capsys: pytest.CaptureFixture[str]) -> None:
    shown = commands()
    assert {c.split()[0] for c in shown} >= {"check", "send", "explain", "users", "backup", "restore", "doctor", "certs",
                                             "audit", "parked", "triage", "feedback"}
    assert site.run("check --settings /etc/firstlook/firstlook.toml") == 0, capsys.readouterr().out
    (site.folder / "rules.toml").write_text('[[rule]]\nname = "every one"\nurgency = "stat"\nmodality = "."\n')
    app = App(load(site.settings))
    app.start()
    try:
        for command in shown:
            if command.startswith("check") or any(command.startswith(one) for one in NOT_RUN):
                continue
            if command.startswith("explain"):
                wait_until(lambda: site.run("explain STUDY_INSTANCE_UID") == 0, 60)
                wait_until(site.delivered)
                site.judge()
            shutil.rmtree(site.folder / "tls", ignore_errors=True)
            monkeypatch.setattr(sys, "stdin", io.StringIO("seven radiographs at dawn\n"))
            code = site.run(command)
            said = capsys.readouterr()
            assert code == 0, f"{command}\n{said.out}{said.err}"
    finally:
        app.stop()
    elsewhere = site.folder / "restored"
    monkeypatch.setenv("FIRSTLOOK_STORE__DATA_DIR", str(elsewhere))
    assert site.run(next(c for c in shown if c.startswith("restore"))) == 0
    assert site.run("explain STUDY_INSTANCE_UID") == 0 and "assessed" in capsys.readouterr().out


def test_what_is_not_run_is_shown_at_all() -> None:
    shown = commands()
    for one in NOT_RUN.keys() - {"settings"}:
        assert any(command.startswith(one) for command in shown), f"{one} is no longer in the documents"
