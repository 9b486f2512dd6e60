"""Rules of urgency tried on past studies: on the page, by command, and in a process apart."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import delete
from sqlmodel import select

from service.cli import main
from service.domain.urgency import Urgency
from service.pipeline.dry_run import dry_run
from service.receive.header import read_header
from service.store.tables import Instance, Study
from service.triage.rules import RULES, Facts
from service.triage.rules_file import InvalidRules, load_rules
from service.triage.trial import MOST_TEXT, try_rules
from tests import builders
from tests.unit.test_triage_rules import NIGHT
from tests.unit.test_web_admin import Office, text

ALL_CT = '[[rule]]\nname = "every CT"\nurgency = "stat"\nmodality = "^CT$"\n'


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    office = Office(tmp_path)
    office.people()
    with office.database.transaction() as session:
        session.exec(delete(Instance))
        for number, study in enumerate(session.exec(select(Study)).all()):
            made = (builders.ct_series(patient=number + 500, slices=1) if study.modality == "CT" else
                    [builders.radiograph(patient=number + 500)])[0]
            header = read_header(made)
            session.add(Instance(study_id=study.id or 0, sop_instance_uid=header.sop_instance_uid, size_bytes=1, path="x",
                                 series_instance_uid=header.series_instance_uid, sha256="0" * 64, received_at=1.0,
                                 header=header.to_json()))
    yield office
    office.close()


def of(office: Office, modality: str) -> int:
    with office.database.reading() as session:
        return len(session.exec(select(Study).where(Study.modality == modality)).all())


def test_the_page_says_what_other_rules_would_have_made_of_past_studies_and_changes_nothing(office: Office) -> None:
    client, token = office.logged_in("chief")
    page = client.get("/admin/rules").text
    assert "description says emergency or intensive care" in page and "Nothing was changed" not in page
    with office.database.reading() as session:
        before = [s.model_dump() for s in session.exec(select(Study)).all()]
    tried = client.post("/admin/rules", data={"csrf": token, "text": ALL_CT, "days": "365"})
    number = of(office, "CT")
    assert number > 0 and tried.status_code == 200
    assert f"every CT {number}" in text(tried.text) and f"stat 0 {number}" in text(tried.text)
    assert f"{number} would have had another urgency" in text(tried.text)
    assert "Moreau" not in tried.text, "no name of a patient"
    with office.database.reading() as session:
        assert [s.model_dump() for s in session.exec(select(Study)).all()] == before


@pytest.mark.parametrize(("given", "said"), [
    ("[[rule]]\nname = 'x'\nurgency = 'now'\ntext = 'a'\n", "accepted: stat, urgent, routine, low"),
    ("nonsense", "not valid TOML"), ("[[rule]]\nname = '<b>'\nurgency = 'low'\ntext = '('\n", "is no regular expression"),
])
def test_what_is_wrong_with_a_file_is_said_beside_it(office: Office, given: str, said: str) -> None:
    client, token = office.logged_in("chief")
    answer = client.post("/admin/rules", data={"csrf": token, "text": given})
    assert answer.status_code == 400 and said in text(answer.text) and "<b>" not in answer.text
    assert given.splitlines()[0] in answer.text, "it is not lost"


def test_the_rules_in_use_come_as_a_file(office: Office, tmp_path: Path) -> None:
    client, _ = office.logged_in("chief")
    (file := tmp_path / "rules.toml").write_text(client.get("/admin/rules.toml").text)
    assert load_rules(file) == RULES


def test_a_dry_run_compares_with_the_rules_in_use_of_the_days_that_are_asked_for(office: Office) -> None:
    number = of(office, "CT")
    found = dry_run(office.database, ALL_CT, RULES, (), 0.0)
    assert found.trial.after[Urgency.STAT] == number and all(move.after is Urgency.STAT for _, move in found.moved[:number])
    assert dry_run(office.database, ALL_CT, RULES, (), 1e12).trial.studies == 0
    same = dry_run(office.database, ALL_CT, load_rules(_file(office.folder, ALL_CT)), (), 0.0)
    assert same.moved == [] and same.trial.before == same.trial.after
    assert dry_run(office.database, NIGHT, RULES, ("CT_SCANNER_1",), 0.0).trial.studies > 0


def test_a_pattern_that_never_ends_stops_nobody() -> None:
    endless = "[[rule]]\nname = 'endless'\nurgency = 'stat'\ntext = '^(a+)+$'\n"
    with pytest.raises(InvalidRules, match="takes too long"):
        try_rules(endless, RULES, (), [Facts(text="a" * 60 + "!")], timeout_s=3)
    with pytest.raises(InvalidRules, match=str(MOST_TEXT)):
        try_rules("#" * (MOST_TEXT + 1), RULES, (), [])


def test_the_command_says_the_same(office: Office, capsys: pytest.CaptureFixture[str],
                                   monkeypatch: pytest.MonkeyPatch) -> None:
    settings = office.folder / "firstlook.toml"
    settings.write_text(f'[store]\ndatabase_url = {json.dumps(office.database.url)}\n')
    asked = ["triage", "dry-run", str(_file(office.folder, ALL_CT)), "--settings", str(settings), "--days", "100000"]
    assert main(asked) == 0
    said = capsys.readouterr().out
    number = of(office, "CT")
    assert f"{number} would have had another urgency" in said and f"{number} matched: every CT" in said
    assert main([*asked[:2], str(_file(office.folder, "x = 1")), *asked[3:]]) == 2


def _file(folder: Path, content: str) -> Path:
    (file := folder / "tried.toml").write_text(content)
    return file
