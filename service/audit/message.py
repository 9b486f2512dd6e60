"""An audit message as XML (PS3.15 A.5.1): event, who took part, who reports it, and what it was about."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from xml.etree import ElementTree

_DCM = "DCM"
_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
SUCCESS, MINOR_FAILURE = "0", "4"


@dataclass(frozen=True)
class Code:
    """A coded value. system: DCM (PS3.16 Annex D), or RFC-3881."""

    value: str
    meaning: str
    system: str = _DCM


@dataclass(frozen=True)
class Participant:
    """Somebody or something that took part. address: an IP address or host name, "" where there is none."""

    user_id: str
    role: Code | None = None
    requestor: bool = False
    name: str = ""
    alternative: str = ""
    address: str = ""


@dataclass(frozen=True)
class Subject:
    """What it was about. kind: ParticipantObjectTypeCode, 1 person, 2 system object; role: ParticipantObjectTypeCodeRole.

    instances: SOP Class UID with a number of instances; accession: of a study; details: (type, value).
    """

    id: str
    id_type: Code
    kind: str
    role: str
    name: str
    accession: str = ""
    instances: Sequence[tuple[str, int]] = ()
    details: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Happening:
    """One audited event. action: C, R, U, D or E; outcome: "0" success, "4" minor failure."""

    event: Code
    action: str
    participants: Sequence[Participant]
    subjects: Sequence[Subject] = ()
    type: Code | None = None
    outcome: str = SUCCESS
    description: str = ""


@dataclass(frozen=True)
class Source:
    """Who reports: AuditSourceID and, where it is set, AuditEnterpriseSiteID. 4: an application server."""

    id: str
    site: str = ""


def as_xml(happening: Happening, source: Source, at: float) -> bytes:
    """Return the message, UTF-8 on one line without a declaration. at: Unix time, seconds."""
    message = ElementTree.Element("AuditMessage")
    event = _add(message, "EventIdentification", EventActionCode=happening.action, EventDateTime=_time(at),
                 EventOutcomeIndicator=happening.outcome)
    _coded(event, "EventID", happening.event)
    if happening.type:
        _coded(event, "EventTypeCode", happening.type)
    if happening.description:
        _add(event, "EventOutcomeDescription").text = _plain(happening.description)
    for one in happening.participants:
        _participant(message, one)
    reported = _add(message, "AuditSourceIdentification", AuditSourceID=source.id, AuditEnterpriseSiteID=source.site)
    _add(reported, "AuditSourceTypeCode", **{"csd-code": "4"})
    for subject in happening.subjects:
        _subject(message, subject)
    text: bytes = ElementTree.tostring(message, encoding="utf-8", xml_declaration=False)
    return text.replace(b"\r", b" ").replace(b"\n", b" ")


def _participant(message: ElementTree.Element, one: Participant) -> None:
    made = _add(message, "ActiveParticipant", UserID=one.user_id or "(unknown)", AlternativeUserID=one.alternative,
                UserName=one.name, UserIsRequestor=str(one.requestor).lower(), NetworkAccessPointID=one.address,
                NetworkAccessPointTypeCode=("2" if re.fullmatch(r"[0-9.]+|[0-9A-Fa-f:.%]*:.*", one.address) else "1")
                if one.address else "")
    if one.role:
        _coded(made, "RoleIDCode", one.role)


def _subject(message: ElementTree.Element, subject: Subject) -> None:
    made = _add(message, "ParticipantObjectIdentification", ParticipantObjectID=subject.id or "(none)",
                ParticipantObjectTypeCode=subject.kind, ParticipantObjectTypeCodeRole=subject.role)
    _coded(made, "ParticipantObjectIDTypeCode", subject.id_type)
    _add(made, "ParticipantObjectName").text = _plain(subject.name) or "(none)"
    for kind, value in subject.details:
        encoded = base64.b64encode(value.encode(errors="backslashreplace")).decode()
        _add(made, "ParticipantObjectDetail", type=kind, value=encoded)
    if subject.accession or subject.instances:
        told = _add(made, "ParticipantObjectDescription")
        if subject.accession:
            _add(told, "Accession", Number=subject.accession)
        for sop_class_uid, number in subject.instances:
            _add(told, "SOPClass", UID=sop_class_uid, NumberOfInstances=str(number))


def _coded(parent: ElementTree.Element, tag: str, code: Code) -> None:
    _add(parent, tag, **{"csd-code": code.value, "codeSystemName": code.system, "originalText": code.meaning})


def _add(parent: ElementTree.Element, tag: str, **attributes: str) -> ElementTree.Element:
    """Add an element; an attribute without a value is left out, as the schema has it for those that are optional."""
    return ElementTree.SubElement(parent, tag, dict(_given(attributes)))


def _given(attributes: dict[str, str]) -> Iterator[tuple[str, str]]:
    for name, value in attributes.items():
        plain = _plain(value)
        if plain:
            yield name, plain


def _plain(text: str) -> str:
    """Return text with what XML cannot hold taken out: a peer's text may hold anything."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text).strip()


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
