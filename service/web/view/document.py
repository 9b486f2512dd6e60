"""What a structured report says: as lines of text, and the outlines that it draws on images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

_UNREADABLE = (OSError, InvalidDicomError, AttributeError, KeyError, IndexError, TypeError, ValueError, RecursionError)
_DEEPEST = 12
_LIBRARY = "111028"  # Image Library (DCM)
_FINDING, _ABSENT = "121071", "373572006"  # Finding (DCM), Clinical finding absent (SCT)


class NoDocument(LookupError):
    """A structured report that cannot be read."""


@dataclass(frozen=True)
class Line:
    """One content item in words (PS3.3 C.17.3). depth: from 0; value: "" for a heading."""

    depth: int
    name: str
    value: str


@dataclass(frozen=True)
class Outline:
    """One outline on an image. points: column, row, column, row ... in pixels of the image; label: what it is of."""

    sop_instance_uid: str
    label: str
    points: tuple[float, ...]


def lines(path: Path) -> list[Line]:
    """Return a report as lines. The list of images is left out: it names every image. Raises: NoDocument."""
    return list(_lines(_read(path), 0))


def outlines(path: Path) -> list[Outline]:
    """Return the polylines of the measurement groups (TID 1410). Raises: NoDocument."""
    try:
        return [o for group in _containers(_read(path)) for o in _drawn(group)]
    except _UNREADABLE as error:
        raise NoDocument("the report cannot be read") from error


def _read(path: Path) -> Dataset:
    try:
        return pydicom.dcmread(path)
    except _UNREADABLE as error:
        raise NoDocument("the report cannot be read") from error


def _lines(item: Dataset, depth: int) -> Iterator[Line]:
    try:
        code, name = _code(item.get("ConceptNameCodeSequence"))
        children = item.get("ContentSequence") or ()
        if code == _LIBRARY or depth > _DEEPEST:
            return
        value = _value(item)
    except _UNREADABLE as error:
        raise NoDocument("a content item of the report cannot be read") from error
    if item.get("ValueType") == "CONTAINER" or value:
        yield Line(depth, name or str(item.get("ValueType", "")).capitalize(), value)
    for child in children:
        yield from _lines(child, depth + 1)


def _value(item: Dataset) -> str:
    """Return the value of a content item in words; "" for a heading, and for what is only a reference."""
    kind = str(item.get("ValueType", ""))
    if kind == "CODE":
        return _code(item.ConceptCodeSequence)[1]
    if kind == "NUM":
        measured = item.get("MeasuredValueSequence")
        if not measured:
            return "no value"
        unit = _code(measured[0].MeasurementUnitsCodeSequence)
        return f"{float(measured[0].NumericValue):.4g} {'' if unit[0] == '1' else unit[1]}".strip()
    keyword = {"TEXT": "TextValue", "UIDREF": "UID", "DATE": "Date", "TIME": "Time", "DATETIME": "DateTime",
               "PNAME": "PersonName"}.get(kind, "")
    if kind == "SCOORD":
        return f"{str(item.GraphicType).lower()} of {len(item.GraphicData) // 2} points"
    return str(item.get(keyword, "")) if keyword else ""


def _code(sequence: Any) -> tuple[str, str]:
    """Return value and meaning of a code; long codes stand in an attribute of their own (PS3.3 8.8)."""
    if not sequence:
        return "", ""
    code = sequence[0]
    return str(code.get("CodeValue") or code.get("LongCodeValue") or ""), str(code.get("CodeMeaning", ""))


def _containers(item: Dataset) -> Iterator[Dataset]:
    for child in item.get("ContentSequence") or ():
        if child.get("ValueType") == "CONTAINER":
            yield child
            yield from _containers(child)


def _drawn(group: Dataset) -> Iterator[Outline]:
    label = ""
    for child in group.get("ContentSequence") or ():
        code = _code(child.get("ConceptNameCodeSequence"))[0]
        if child.get("ValueType") == "CODE" and code == _FINDING:
            label = _code(child.ConceptCodeSequence)[1]
        elif child.get("ValueType") == "CODE" and code == _ABSENT:
            return
    for child in group.get("ContentSequence") or ():
        if child.get("ValueType") == "SCOORD" and child.get("GraphicType") == "POLYLINE":
            image = next((c for c in child.get("ContentSequence") or () if c.get("ValueType") == "IMAGE"), None)
            if image is not None:
                uid = str(image.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
                yield Outline(uid, label, tuple(float(v) for v in child.GraphicData))
