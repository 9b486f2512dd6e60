"""The audit trail read back from its files: who saw which patient, and when."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

MOST = 1000
"""Messages that are returned, at most."""


@dataclass(frozen=True)
class Wanted:
    """What is looked for; "" is anything. first, last: days (UTC); event: an Event ID of PS3.16 CID 400."""

    first: date
    last: date
    user: str = ""
    patient_id: str = ""
    study_instance_uid: str = ""
    event: str = ""


@dataclass(frozen=True)
class Told:
    """One message. at: Unix time, seconds; event, type: their meanings; users: who took part, the one who asked first."""

    at: float
    event: str
    type: str
    succeeded: bool
    users: tuple[str, ...]
    address: str
    patient_id: str
    patient_name: str
    study_instance_uid: str
    accession_number: str
    description: str


def read_trail(folder: Path, wanted: Wanted, most: int = MOST) -> tuple[list[Told], bool]:
    """Return the newest messages that match, newest first, and whether there are more. A damaged line is passed over."""
    found: list[Told] = []
    day = wanted.last
    while day >= wanted.first:
        lines = _lines(folder / f"audit-{day:%Y-%m-%d}.xml")
        of_day = [told for line in lines if _may_match(line, wanted) and (told := _told(line, wanted)) is not None]
        found += sorted(of_day, key=lambda one: one.at, reverse=True)
        if len(found) > most:
            return found[:most], True
        day -= timedelta(days=1)
    return found, False


def _lines(file: Path) -> Iterator[bytes]:
    if file.is_file():
        with file.open("rb") as lines:
            yield from lines


def _may_match(line: bytes, wanted: Wanted) -> bool:
    """Tell cheaply whether a line can match; a full day has tens of thousands."""
    texts = (wanted.patient_id, wanted.study_instance_uid, wanted.event)
    return all(escape(text, {'"': "&quot;"}).encode() in line for text in texts if text)


def _told(line: bytes, wanted: Wanted) -> Told | None:
    """Read one message, None where it does not match or cannot be read."""
    try:
        message = ElementTree.fromstring(line)
        told = _read(message)
    except (ElementTree.ParseError, ValueError, AttributeError, TypeError):
        return None
    event = message.find("EventIdentification/EventID")
    if wanted.event and (event is None or event.get("csd-code") != wanted.event):
        return None
    if wanted.user and wanted.user.lower() not in (user.lower() for user in told.users):
        return None
    if wanted.patient_id and wanted.patient_id != told.patient_id:
        return None
    if wanted.study_instance_uid and wanted.study_instance_uid != told.study_instance_uid:
        return None
    return told


def _read(message: Any) -> Told:
    """Read a message as `message.as_xml` writes it. Raises: AttributeError, ValueError for another one."""
    event = message.find("EventIdentification")
    type_code = event.find("EventTypeCode")
    people = sorted(message.findall("ActiveParticipant"), key=lambda one: one.get("UserIsRequestor") != "true")
    objects = {one.find("ParticipantObjectIDTypeCode").get("csd-code"): one
               for one in message.findall("ParticipantObjectIdentification")}
    patient, study = objects.get("2"), objects.get("110180")
    accession = study.find("ParticipantObjectDescription/Accession") if study is not None else None
    return Told(
        datetime.fromisoformat(event.get("EventDateTime")).astimezone(UTC).timestamp(),
        event.find("EventID").get("originalText", ""), type_code.get("originalText", "") if type_code is not None else "",
        event.get("EventOutcomeIndicator") == "0", tuple(one.get("UserID", "") for one in people),
        next((one.get("NetworkAccessPointID", "") for one in people), ""),
        _id(patient), (patient.findtext("ParticipantObjectName") or "") if patient is not None else "", _id(study),
        accession.get("Number", "") if accession is not None else "", event.findtext("EventOutcomeDescription") or "")


def _id(subject: Any) -> str:
    found = subject.get("ParticipantObjectID", "") if subject is not None else ""
    return "" if found == "(none)" else str(found)
