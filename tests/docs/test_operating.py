"""The documents for IT: each command exists with its options, each setting, file and metric named is there."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from service import DISCLAIMER
from service.cli import _parser
from service.settings import PREFIX, Settings, load

ROOT = Path(__file__).parents[2]
DOCS = sorted((ROOT / "deploy" / "docs").glob("*.md"))
INSTALL = (ROOT / "deploy" / "docs" / "install.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    """Return every line of a shell block that runs firstlook, with what stands before it taken off."""
    found = []
    for document in DOCS:
        for block in re.findall(r"^```sh\n(.*?)^```", document.read_text(encoding="utf-8"), re.M | re.S):
            for line in block.splitlines():
                match = re.match(r"(?:\S*/)?firstlook (.*?)(?:\s+>\s.*|\s+#.*)?$", line)
                if match:
                    found.append(match[1])
    return found


@pytest.mark.parametrize("command", sorted(set(commands())))
def test_each_command_is_accepted_with_its_options(command: str) -> None:
    asked = _parser().parse_args(shlex.split(command))
    assert callable(asked.run)


def test_the_documents_show_the_commands_that_matter() -> None:
    shown = {command.split()[0] for command in commands()}
    assert shown >= {"settings", "check", "send", "explain", "backup", "restore", "doctor"}


def test_the_settings_shown_load(tmp_path: Path) -> None:
    file, loaded = tmp_path / "firstlook.toml", []
    for shown in re.findall(r"^```toml\n(.*?)^```", INSTALL, re.M | re.S):
        file.write_text(shown)
        loaded.append(load(file, {}))
    without, with_tls = loaded
    assert without.deliver.targets[0].port == 104 and without.receive.peers[0].ae_title == "PACS"
    (target,) = with_tls.deliver.targets
    assert not with_tls.receive.plain and with_tls.receive.tls.port == 2762
    assert target.tls.enabled and target.host == with_tls.receive.peers[0].certificate_name


@pytest.mark.parametrize("document", DOCS, ids=lambda d: d.name)
def test_settings_and_files_that_are_named_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    sections = {name: info.annotation for name, info in Settings.model_fields.items()}
    for section, field in re.findall(r"`(" + "|".join(sections) + r")\.([a-z_]+)`", text):
        assert field in sections[section].model_fields, f"{section}.{field}"  # type: ignore[union-attr]
    for section, field in re.findall(PREFIX + r"([A-Z]+)__([A-Z_]+)", text):
        assert field.lower() in sections[section.lower()].model_fields  # type: ignore[union-attr]
    for named in re.findall(r"\b((?:deploy|requirements|service)/[\w./@-]+\w)", text):
        assert (ROOT / named).exists(), named


@pytest.mark.parametrize("document", DOCS, ids=lambda d: d.name)
def test_each_document_says_what_it_is_for(document: Path) -> None:
    assert DISCLAIMER in document.read_text(encoding="utf-8") or "esearch use only" in document.read_text(encoding="utf-8")


def test_every_proof_of_the_threat_model_exists() -> None:
    text = (ROOT / "deploy" / "docs" / "threat-model.md").read_text(encoding="utf-8")
    proofs = set(re.findall(r"`(tests/[\w/]+(?:\.py|/))`", text))
    assert len(proofs) > 15
    for proof in proofs:
        assert (ROOT / proof).exists(), proof


def test_the_login_of_the_hospital_shown_loads(tmp_path: Path) -> None:
    text = (ROOT / "deploy" / "docs" / "security.md").read_text(encoding="utf-8")
    (shown,) = (block for block in re.findall(r"^```toml\n(.*?)^```", text, re.M | re.S) if "[web.oidc]" in block)
    (file := tmp_path / "firstlook.toml").write_text(shown)
    assert load(file, {}).web.oidc.enabled


def test_the_locks_named_are_there_and_hashed() -> None:
    for lock in re.findall(r"requirements/\w+\.lock", INSTALL):
        assert "--hash=sha256:" in (ROOT / lock).read_text()
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["firstlook"]
