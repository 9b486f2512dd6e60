"""The whole service writes its audit trail: who sent, who looked, who was turned away, what went where."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import httpx
import pytest
from lxml import etree

from service.access import accounts
from service.access.passwords import Passwords
from service.deliver.cstore import CStoreTarget
from service.domain.person import Role
from service.errors import FirstlookError
from tests.builders import radiograph, uid
from tests.contracts.test_audit import SCHEMA
from tests.hospital import TINY, Hospital, hospital, tiny_models
from tests.peers import HOST, wait_until
from tests.unit.test_access import PASSWORD
from tests.unit.test_web_login import log_in

STUDY = uid(2, 1)


def messages(house: Hospital) -> list[Any]:
    """Return every message of the trail, each checked against the schema."""
    found = []
    for file in sorted((house.app.data_dir / "audit").iterdir()):
        assert file.stat().st_mode & 0o777 == 0o600
        for line in file.read_bytes().splitlines():
            found.append(etree.fromstring(line))
            assert SCHEMA.validate(found[-1]), f"{SCHEMA.error_log}\n{line.decode()}"
    return found


def of(said: list[Any], event: str) -> list[Any]:
    """Return the messages of an Event ID."""
    return [m for m in said if m.xpath("string(EventIdentification/EventID/@csd-code)") == event]


def users(message: Any) -> list[str]:
    return [str(one.get("UserID")) for one in message.findall("ActiveParticipant")]


def objects(message: Any) -> list[str]:
    return [str(one.get("ParticipantObjectID")) for one in message.findall("ParticipantObjectIdentification")]


def test_a_day_of_the_service_can_be_told_from_its_trail(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    infer = TINY | {"models_dir": tiny_models(tmp_path / "models")}
    callers = {"any_calling_ae": False, "peers": [{"ae_title": "CT1"}]}
    with caplog.at_level(logging.DEBUG, "firstlook"), hospital(tmp_path / "house", infer=infer, receive=callers) as house:
        house.send(radiograph())
        study = house.delivered(STUDY)
        assert house.app.listener is not None
        with pytest.raises(FirstlookError):
            CStoreTarget("stranger", "FIRSTLOOK", HOST, house.app.listener.port, "STRANGER").echo()
        with house.app.database.transaction() as session:
            accounts.add(session, "okafor", Role.READER, Passwords().hash("okafor", PASSWORD), 1.0)
        with httpx.Client(base_url=f"http://{HOST}:{house.app.web_port}", trust_env=False, timeout=20) as client:
            assert client.get(f"/studies/{STUDY}").status_code == 401
            assert log_in(client, "okafor", "a wrong password").status_code == 401
            assert log_in(client, "okafor").status_code == 303
            for path in (f"/studies/{STUDY}", f"/studies/{STUDY}", f"/api/studies/{STUDY}", "/studies/1.2.3", "/"):
                client.get(path)
            page = client.get("/").text.partition('name="csrf" content="')[2][:64]
            for path in (f"/api/studies/{STUDY}/resend", f"/api/studies/{STUDY}/resend", "/admin/users"):
                assert client.post(path, headers={"X-CSRF-Token": page}).status_code == 403, "a reader only reads"
            assert client.post("/views", data={"csrf": "of another session"}).status_code == 403
            client.post("/logout", data={"csrf": page})
        wait_until(lambda: len(of(messages(house), "110123") + of(messages(house), "110113")) >= 1)
    said = messages(house)
    kinds = [m.xpath("string(EventIdentification/EventTypeCode/@csd-code)") for m in said]
    assert kinds[0] == "110120" and kinds[-1] == "110121", "it begins with the start and ends with the stop"
    came, went = of(said, "110104")
    assert users(came)[0] == "CT1" and came.find("ActiveParticipant").get("NetworkAccessPointID") == HOST
    assert objects(came) == objects(went) == [STUDY, study.patient_id] and users(went) == ["FIRSTLOOK", "pacs"]
    assert went.xpath("string(//SOPClass/@NumberOfInstances)") == "1"
    alert, *refusals = of(said, "110113")
    assert "STRANGER" in users(alert) and alert.findtext("EventIdentification/EventOutcomeDescription") == "calling_ae_title"
    assert [m.findtext("EventIdentification/EventOutcomeDescription") for m in refusals] == [
        f"refused: POST /api/studies/{STUDY}/resend", "refused: POST /admin/users", "refused: POST /views"], "once each"
    for refusal in refusals:
        assert users(refusal)[0] == "okafor" and refusal.find("ActiveParticipant").get("NetworkAccessPointID") == HOST
        assert refusal.xpath("string(EventIdentification/EventTypeCode/@csd-code)") == "110127"
        assert refusal.xpath("string(EventIdentification/@EventOutcomeIndicator)") == "4"
    logins = of(said, "110114")
    outcomes = [m.xpath("string(EventIdentification/@EventOutcomeIndicator)") for m in logins]
    assert [users(m)[0] for m in logins] == ["okafor"] * 3 and outcomes == ["4", "0", "0"]
    looked = of(said, "110103")
    told = [m.findtext("EventIdentification/EventOutcomeDescription") for m in looked]
    assert told == ["study shown", "study read by a program"]
    assert all(users(m)[0] == "okafor" and objects(m) == [STUDY, study.patient_id] for m in looked)
    logged = "".join(str(vars(record)) for record in caplog.records)
    assert study.patient_id and study.patient_id not in logged and study.patient_name not in logged
