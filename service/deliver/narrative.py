"""A structured report of ours (TID 1500) as plain lines and coded findings, for those who do not read SR."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue

from service.domain import codes
from service.domain.codes import Code
from service.errors import Defect, Reason

_GROUP, _TRACKING, _ALGORITHM, _ALGORITHM_VERSION = "125007", "112039", "111001", "111003"
_FINDING, _ABSENT, _PROBABILITY, _PROCEDURE = "121071", "373572006", "122157", "121058"
_SITE, _LATERALITY, _SUMMARY = "363698007", "272741003", "111017"


@dataclass(frozen=True)
class Told:
    """One coded finding. place: side and site in words; model: name and version; probability: per cent, "" when not told."""

    code: Code
    present: bool
    place: str
    probability: str
    model: str


@dataclass(frozen=True)
class Measured:
    """One number, as written in the report. of: segment or site in words."""

    code: Code
    value: str
    unit: Code
    of: str


@dataclass(frozen=True)
class Narrative:
    """What a report says. header: the data set without its content; status: CAD Processing and Findings Summary."""

    header: Dataset
    procedure: Code | None
    status: Code | None
    findings: tuple[Told, ...]
    measurements: tuple[Measured, ...]
    lines: tuple[str, ...]

    @property
    def abnormal(self) -> bool:
        """Whether anything but "no finding" is reported as present."""
        return any(f.present and f.code.value != codes.NO_FINDING.value for f in self.findings)


def narrative(path: Path) -> Narrative:
    """Read a report of ours.  Raises: Defect when the file is absent or no such report."""
    try:
        report = dcmread(path)
        groups = [item for item in _all(report) if _name(item) == _GROUP]
        said = [_group(group) for group in groups]
        top = [item for item in report.ContentSequence if _name(item) == _PROCEDURE]
        status = next((_value(i) for g in groups for i in _children(g) if _name(i) == _SUMMARY), None)
    except (OSError, InvalidDicomError, AttributeError, LookupError, ValueError) as error:
        raise Defect(Reason.INTERNAL_ERROR, "the report is absent or cannot be read") from error
    return Narrative(
        header=report, procedure=_value(top[0]) if top else None, status=status,
        findings=tuple(f for one in said for f in one.findings),
        measurements=tuple(m for one in said for m in one.measurements),
        lines=tuple(dict.fromkeys(line for one in sorted(said, key=_weight) for line in one.lines)))


def first_value(header: Dataset, name: str) -> str:
    """Return the first value of an element as text; "" where there is none. A backslash in a name makes it two values."""
    value = header.get(name, "") or ""
    if isinstance(value, MultiValue):
        value = value[0] if value else ""
    return str(value).strip()


@dataclass(frozen=True)
class _Group:
    """What one measurement group says."""

    findings: tuple[Told, ...]
    measurements: tuple[Measured, ...]
    lines: tuple[str, ...]
    is_study: bool


def _weight(group: _Group) -> int:
    """Return the place of a group in the text: what is present, what is absent, numbers, what is said of the study."""
    if group.is_study:
        return 3
    return 2 if not group.findings else 0 if any(f.present for f in group.findings) else 1


def _group(group: Dataset) -> _Group:
    """Read one measurement group."""
    items = _children(group)
    texts = {_name(i): _text(i) for i in items if i.ValueType == "TEXT"}
    model = " ".join(filter(None, (texts.get(_ALGORITHM), texts.get(_ALGORITHM_VERSION))))
    place = _place(items)
    numbers = [i for i in items if i.ValueType == "NUM" and "MeasuredValueSequence" in i and i.MeasuredValueSequence]
    found = [
        Told(_value(i), _name(i) == _FINDING, place,
             next((_number(n) for n in numbers if _name(n) == _PROBABILITY), ""), model)
        for i in items if i.ValueType == "CODE" and _name(i) in (_FINDING, _ABSENT)
    ]
    told = [f for f in found if f.probability]  # a further outline of a finding has a group without numbers
    is_study = texts.get(_TRACKING) == "study"
    of = "" if told or is_study else texts.get(_TRACKING, "")
    measured = [
        Measured(_concept(n), _number(n), _coded(n.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0]),
                 _place(_children(n)) or of)
        for n in numbers if _name(n) != _PROBABILITY
    ]
    lines = [_finding_line(f) for f in told] + [_number_line(m) for m in measured]
    lines += [_text(i) for i in items if i.ValueType == "TEXT" and i.RelationshipType == "CONTAINS"]
    return _Group(tuple(told), tuple(measured), tuple(lines), is_study)


def _finding_line(finding: Told) -> str:
    state = "Present" if finding.present else "Absent"
    place = f", {finding.place}" if finding.place and finding.present else ""
    return f"{state}: {finding.code.meaning}{place}; probability {finding.probability} % ({finding.model})"


def _number_line(measured: Measured) -> str:
    of = f" ({measured.of})" if measured.of else ""
    unit = "" if measured.unit.value == "1" else f" {measured.unit.meaning}"
    return f"{measured.code.meaning}{of}: {measured.value}{unit}"


def _place(items: Sequence[Dataset]) -> str:
    """Return side and site of the first finding site among content items, in words."""
    for site in (i for i in items if i.ValueType == "CODE" and _name(i) == _SITE):
        side = next((_value(i).meaning.lower() for i in _children(site) if _name(i) == _LATERALITY), "")
        return " ".join(filter(None, (side, _value(site).meaning.lower())))
    return ""


def _all(item: Dataset) -> Iterator[Dataset]:
    for child in _children(item):
        yield child
        yield from _all(child)


def _children(item: Dataset) -> Sequence[Dataset]:
    return item.ContentSequence if "ContentSequence" in item else ()


def _name(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeValue) if "ConceptNameCodeSequence" in item else ""


def _concept(item: Dataset) -> Code:
    return _coded(item.ConceptNameCodeSequence[0])


def _value(item: Dataset) -> Code:
    return _coded(item.ConceptCodeSequence[0])


def _coded(item: Dataset) -> Code:
    value = item.get("CodeValue") or item.get("LongCodeValue") or ""
    return Code(str(value), str(item.CodingSchemeDesignator), str(item.CodeMeaning))


def _text(item: Dataset) -> str:
    return str(item.TextValue)


def _number(item: Dataset) -> str:
    return f"{float(item.MeasuredValueSequence[0].NumericValue):g}"
