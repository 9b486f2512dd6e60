"""Who saw which patient and when: read back from the files of the trail, on the page and by command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from lxml import etree

from service.audit.events import Known
from service.audit.file import AuditFile
from service.audit.message import Source
from service.audit.read import Wanted, read_trail
from service.audit.trail import Trail
from service.cli import main
from tests.contracts.test_audit import SCHEMA
from tests.unit.test_web_admin import Office, text

DAY = 86_400.0
NOON = datetime(2026, 3, 4, 12, tzinfo=UTC).timestamp()
PEOPLE = {"1.2.3": Known("1.2.3", "A1", "P&1 <x>", "Doe^Jane"), "1.2.4": Known("1.2.4", "A2", "P2", "Roe^Richard")}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    now = [NOON - 2 * DAY]
    trail = Trail([AuditFile(tmp_path / "audit", 0)], Source("firstlook"), "FIRSTLOOK", lambda: now[0], PEOPLE.get)
    trail.seen("okafor", "10.0.0.1", "1.2.3", "study shown")
    now[0] = NOON
    trail.seen("okafor", "10.0.0.1", "1.2.4", "study shown")
    now[0] += 60
    trail.seen("lindqvist", "10.0.0.2", "1.2.3", "result object fetched")
    trail.login_failed("okafor", "10.0.0.9", "name or password is wrong")
    trail.received("CT1", "10.0.0.3", "1.2.3", 40)
    trail.log_used("okafor", "10.0.0.1")
    trail.close()
    return tmp_path / "audit"


def wanted(first: float = NOON - 5 * DAY, **about: str) -> Wanted:
    return Wanted(datetime.fromtimestamp(first, UTC).date(), date(2026, 3, 4), **about)


def test_every_message_keeps_to_the_schema(folder: Path) -> None:
    lines = [line for file in folder.iterdir() for line in file.read_bytes().splitlines()]
    assert len(lines) == 6
    for line in lines:
        assert SCHEMA.validate(etree.fromstring(line)), SCHEMA.error_log


def test_who_saw_a_patient_is_found_newest_first(folder: Path) -> None:
    found, more = read_trail(folder, wanted(patient_id="P&1 <x>"))
    assert [(t.users[0], t.event, t.at) for t in found] == [
        ("lindqvist", "DICOM Instances Accessed", NOON + 60), ("CT1", "DICOM Instances Transferred", NOON + 60),
        ("okafor", "DICOM Instances Accessed", NOON - 2 * DAY)]
    assert not more and {t.patient_name for t in found} == {"Doe^Jane"} and found[0].accession_number == "A1"
    assert found[0].description == "result object fetched" and found[0].address == "10.0.0.2"


@pytest.mark.parametrize(("about", "number"), [
    ({"user": "OKAFOR"}, 4), ({"user": "okafor", "event": "110103"}, 2), ({"study_instance_uid": "1.2.4"}, 1),
    ({"event": "110114"}, 1), ({"event": "110101"}, 1), ({"patient_id": "P"}, 0), ({}, 6),
])
def test_messages_are_narrowed_down(folder: Path, about: dict[str, str], number: int) -> None:
    assert len(read_trail(folder, wanted(**about))[0]) == number


def test_days_and_numbers_are_kept_to_and_damage_is_passed_over(folder: Path) -> None:
    assert len(read_trail(folder, wanted(NOON))[0]) == 5
    found, more = read_trail(folder, wanted(), most=2)
    assert len(found) == 2 and more
    with (folder / "audit-2026-03-04.xml").open("ab") as file:
        file.write(b"<AuditMessage><EventIdentification/></AuditMessage>\n\xff\xfe\n<cut off")
    assert len(read_trail(folder, wanted())[0]) == 6


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    office = Office(tmp_path)
    office.people()
    yield office
    office.close()


def test_the_page_tells_who_saw_a_study_and_that_somebody_asked(office: Office) -> None:
    study = office.studies[3]
    reader, _ = office.logged_in("reader")
    assert reader.get(f"/studies/{study.study_instance_uid}").status_code == 200
    client, token = office.logged_in("chief")
    page = client.get("/admin/audit").text
    assert "reader → FIRSTLOOK" in text(page) and study.patient_id in page and "study shown" in page
    asked = client.post("/admin/audit", data={"csrf": token, "patient": study.patient_id, "days": "7"})
    rows = text(asked.text.partition('id="trail"')[2].partition("</table>")[0])
    assert "reader" in rows and "chief" not in rows and str(asked.request.url).endswith("/admin/audit")
    none = client.post("/admin/audit", data={"csrf": token, "patient": "<script>"})
    assert "Nothing matches." in none.text and "<script>" not in none.text
    again = client.post("/admin/audit", data={"csrf": token, "event": "110101"}).text
    assert "chief" in text(again.partition('id="trail"')[2])


def test_the_command_prints_it_and_is_told_of_itself(folder: Path, tmp_path: Path,
                                                     capsys: pytest.CaptureFixture[str]) -> None:
    settings = tmp_path / "firstlook.toml"
    settings.write_text(f"[store]\ndata_dir = {json.dumps(str(tmp_path))}\n")
    days = str((datetime.now(UTC).date() - date(2026, 3, 1)).days)
    assert main(["audit", "--settings", str(settings), "--patient", "P2", "--days", days]) == 0
    said = capsys.readouterr().out
    assert "okafor" in said and "1.2.4" in said and "lindqvist" not in said and "1 messages" in said
    assert main(["audit", "--settings", str(settings), "--event", "110101", "--days", "1"]) == 0
    assert "2 messages" in capsys.readouterr().out
    assert main(["audit", "--settings", str(tmp_path / "none.toml")]) == 2
