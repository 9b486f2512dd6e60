"""A result as an HL7 v2.5.1 message (ORU^R01): fields by a table that a site may change, values escaped, one text a line.

The structure is MSH PID [PV1] [ORC] OBR [NTE] OBX... [Z..]; see HL7 v2.5.1 chapters 2 (escaping, 2.7) and 7.
"""

from __future__ import annotations

import hashlib
import re
import string
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from pydicom.dataset import Dataset

from service.deliver.narrative import Narrative, first_value
from service.domain.codes import Code
from service.errors import Reason, RefusedByPeer

NOTICE = "Research use only. Not for clinical diagnosis."
ENCODINGS = {"utf-8": "UNICODE UTF-8", "iso-8859-1": "8859/1", "ascii": "ASCII"}  # HL7 table 0211
_ESCAPES = {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\"}
_FIELD = re.compile(r"(MSH|PID|PV1|ORC|OBR|NTE|Z[A-Z0-9]{2})-([1-9][0-9]?)")
_BEFORE_RESULTS = ("PID", "PV1", "ORC", "OBR", "NTE")

FIELDS: Mapping[str, str] = {
    "MSH-3": "FIRSTLOOK", "MSH-7": "{now}", "MSH-9": "ORU^R01^ORU_R01", "MSH-10": "{control_id}", "MSH-11": "P",
    "MSH-12": "2.5.1", "MSH-18": "{character_set}",
    "PID-1": "1", "PID-3": "{patient_id}^^^{issuer}", "PID-5": "{patient_name}", "PID-7": "{birth_date}", "PID-8": "{sex}",
    "OBR-1": "1", "OBR-2": "{accession}", "OBR-3": "{report_uid}",
    "OBR-4": "{procedure_code}^{procedure_meaning}^{procedure_scheme}", "OBR-5": "{priority}", "OBR-7": "{study_time}",
    "OBR-22": "{report_time}", "OBR-24": "RAD", "OBR-25": "{status}", "OBR-27": "^^^^^{priority}",
    "NTE-1": "1", "NTE-3": NOTICE,
}
NAMES = (
    "now", "control_id", "character_set", "patient_id", "issuer", "patient_name", "birth_date", "sex", "accession",
    "report_uid", "study_uid", "study_id", "study_time", "study_description", "report_time", "procedure_code",
    "procedure_meaning", "procedure_scheme", "modality", "priority", "urgency", "status", "revision", "institution",
)
PRIORITIES: Mapping[str, str] = {"stat": "S", "urgent": "A", "routine": "R", "low": "R"}  # HL7 table 0485


@dataclass(frozen=True)
class Mapped:
    """How a site wants its messages.

    fields: template by field ("PV1-2"), over FIELDS; an empty one leaves the field out. priorities: code by urgency.
    abnormal: flag of a finding that is present (HL7 table 0078); status: of result and observations (table 0085);
    with_text, with_codes: the lines of the report, the coded findings and numbers.
    """

    fields: Mapping[str, str]
    priorities: Mapping[str, str]
    encoding: str = "utf-8"
    abnormal: str = "A"
    status: str = "P"
    text_code: str = "18748-4^Diagnostic imaging study^LN"
    with_text: bool = True
    with_codes: bool = True


def check_field(field: str, template: str) -> None:
    """Raise ValueError, with what is accepted, when a field or a placeholder in its template is not known."""
    if not _FIELD.fullmatch(field) or field in ("MSH-1", "MSH-2"):
        raise ValueError(f"{field!r}: accepted: fields of MSH, PID, PV1, ORC, OBR, NTE and Z segments, as in 'PV1-2'")
    try:
        names = {name for _, name, spec, how in string.Formatter().parse(template) if name is not None or spec or how}
    except ValueError as error:
        raise ValueError(f"{field}: {error}; write {{{{ for a brace") from error
    if names - set(NAMES):
        raise ValueError(f"{field}: unknown placeholder; accepted: {', '.join(NAMES)}")
    if not template.isprintable() or "|" in template:
        raise ValueError(f"{field}: neither '|' nor a control character may stand in a field")


def message(said: Narrative, mapped: Mapped, urgency: str, revision: int, now: float) -> tuple[str, bytes]:
    """Return the control id (MSH-10) and the message, each segment ending with a carriage return.

    The control id follows from report and revision, so that a receiver knows a message that comes again. now: Unix time.
    Raises: RefusedByPeer when a name cannot be written in the encoding of the site.
    """
    header = said.header
    control_id = hashlib.sha256(f"{header.SOPInstanceUID}\n{revision}".encode()).hexdigest()[:20]
    values = _values(said, mapped, urgency, revision, now) | {"control_id": control_id}
    fields = {k: v for k, v in ({**FIELDS, **mapped.fields}).items() if v}
    parts = {name: _segment(name, fields, values) for name in dict.fromkeys(f.split("-")[0] for f in fields)}
    first = [parts[name] for name in _BEFORE_RESULTS if name in parts]
    last = [parts[name] for name in sorted(parts) if name.startswith("Z")]
    results = [f"OBX|{number}|{text}" for number, text in enumerate(_results(said, mapped, values), 1)]
    whole = "".join(f"{segment}\r" for segment in (parts["MSH"], *first, *results, *last))
    try:
        return control_id, whole.encode(mapped.encoding)
    except UnicodeEncodeError as error:
        raise RefusedByPeer(
            Reason.PEER_REFUSED, f"a text of this study cannot be written in {mapped.encoding}; set utf-8") from error


def escape(text: str) -> str:
    """Escape the delimiters of HL7 (2.7.1); line ends become \\.br\\, other control characters blanks."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return "\\.br\\".join("".join(_ESCAPES.get(c, c if c.isprintable() else " ") for c in line) for line in lines)


def _segment(name: str, fields: Mapping[str, str], values: Mapping[str, str]) -> str:
    numbers = {int(field.split("-")[1]): template for field, template in fields.items() if field.startswith(f"{name}-")}
    filled = [numbers.get(n, "").format_map(values).rstrip("^") for n in range(1, max(numbers) + 1)]
    return "|".join(("MSH", "^~\\&", *filled[2:]) if name == "MSH" else (name, *filled))


def _values(said: Narrative, mapped: Mapped, urgency: str, revision: int, now: float) -> dict[str, str]:
    """Return every placeholder with its value, escaped."""
    header, procedure = said.header, said.procedure or Code("", "", "")
    plain = {
        "now": _moment(now), "control_id": "", "character_set": ENCODINGS[mapped.encoding],
        "patient_id": first_value(header, "PatientID"), "issuer": first_value(header, "IssuerOfPatientID"),
        "birth_date": _digits(first_value(header, "PatientBirthDate"), 8), "sex": first_value(header, "PatientSex"),
        "accession": first_value(header, "AccessionNumber"), "report_uid": first_value(header, "SOPInstanceUID"),
        "study_uid": first_value(header, "StudyInstanceUID"), "study_id": first_value(header, "StudyID"),
        "study_time": _date_time(header, "Study"),
        "study_description": first_value(header, "StudyDescription"),
        "report_time": _date_time(header, "Content"),
        "procedure_code": procedure.value, "procedure_meaning": procedure.meaning, "procedure_scheme": procedure.scheme,
        "modality": first_value(header, "Modality"), "priority": mapped.priorities.get(urgency, ""), "urgency": urgency,
        "status": mapped.status, "revision": str(revision), "institution": first_value(header, "InstitutionName"),
    }
    person = _person(first_value(header, "PatientName"))
    return {name: escape(value) for name, value in plain.items()} | {"patient_name": person}


def _results(said: Narrative, mapped: Mapped, values: Mapping[str, str]) -> Iterator[str]:
    """Yield the OBX segments from OBX-2 on: study, status, findings, numbers, and the lines of the report."""
    def observed(kind: str, code: str, group: str, value: str, unit: str = "", flag: str = "") -> str:
        return f"{kind}|{code}|{group}|{value}|{unit}||{flag}|||{mapped.status}|||{values['report_time']}"

    yield observed("HD", "113014^DICOM Study^DCM", "1", values["study_uid"])
    if mapped.with_codes:
        if said.status is not None:
            yield observed("CE", "111017^CAD Processing and Findings Summary^DCM", "1", _coded(said.status))
        for number, found in enumerate(said.findings, 2):
            name = "121071^Finding^DCM" if found.present else "373572006^Clinical finding absent^SCT"
            flag = mapped.abnormal if found.present and said.abnormal else ""
            yield observed("CE", name, str(number), _coded(found.code), flag=flag)
            if found.place and found.present:
                yield observed("ST", "363698007^Finding Site^SCT", str(number), escape(found.place))
            yield observed("NM", "122157^Probability^DCM", str(number), found.probability, "%^Percent^UCUM")
        for number, measured in enumerate(said.measurements, 2 + len(said.findings)):
            yield observed("NM", _coded(measured.code), str(number), measured.value, _coded(measured.unit))
            if measured.of:
                yield observed("ST", "363698007^Finding Site^SCT", str(number), escape(measured.of))
    if mapped.with_text:
        for line in dict.fromkeys((NOTICE, *said.lines)):
            yield observed("TX", mapped.text_code, "1", escape(line))


def _coded(code: Code) -> str:
    return "^".join(escape(part) for part in (code.value, code.meaning, code.scheme))


def _person(name: str) -> str:
    """Turn a DICOM person name (PS3.5 6.2.1) into an XPN: prefix and suffix change places; each group a repetition."""
    groups = []
    for group in name.split("=")[:1]:
        family, given, middle, prefix, suffix = ([part.strip() for part in group.split("^")] + [""] * 5)[:5]
        groups.append("^".join(escape(part) for part in (family, given, middle, suffix, prefix)).rstrip("^"))
    return "~".join(groups)


def _digits(text: str, count: int) -> str:
    """Return a date or a time that begins with digits, cut to so many; "" for anything else."""
    found = re.match(r"[0-9]+", text)
    return found[0][:count] if found else ""


def _date_time(header: Dataset, of: str) -> str:
    """Return date and time of a data set (TS of HL7), with the time zone of what we wrote ourselves."""
    day = _digits(first_value(header, f"{of}Date"), 8)
    time = _digits(first_value(header, f"{of}Time").split(".")[0], 6)
    zone = first_value(header, "TimezoneOffsetFromUTC") if of == "Content" and time else ""
    return day + time + (zone if re.fullmatch(r"[+-][0-9]{4}", zone) else "")


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y%m%d%H%M%S+0000")
