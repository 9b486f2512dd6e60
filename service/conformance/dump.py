"""Objects in words: the content tree of an SR, and the attributes of any object."""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import UID

_LONGEST = 96
_BULK = ("PixelData", "GraphicData")
_DEEPEST = 3


def tree(item: Dataset, depth: int = 0) -> Iterator[str]:
    """Yield the content tree of an SR or KOS, one line for each content item, indented by its depth."""
    relation = f"{str(item.RelationshipType).lower()} " if "RelationshipType" in item else ""
    name = _code(item.ConceptNameCodeSequence[0]) if item.get("ConceptNameCodeSequence") else "-"
    value = _value(item)
    yield f"{'  ' * depth}{relation}{item.ValueType}: {name}{' = ' if value else ''}{value}"
    for inner in item.get("ContentSequence", []):
        yield from tree(inner, depth + 1)


def attributes(made: Dataset, depth: int = 0) -> Iterator[str]:
    """Yield the attributes of an object, of each sequence the first item; bulk data by its length only."""
    for element in made:
        if element.VR != "SQ":
            yield f"{'  ' * depth}{_keyword(element)} = {_plain(element)}"
            continue
        yield f"{'  ' * depth}{_keyword(element)}: {len(element.value)} items"
        if element.value and depth < _DEEPEST:
            first = element.value[0]
            if "CodeMeaning" in first:
                yield f"{'  ' * (depth + 1)}{_code(first)}"
            else:
                yield from attributes(first, depth + 1)


def _value(item: Dataset) -> str:
    match item.ValueType:
        case "CODE":
            return _code(item.ConceptCodeSequence[0])
        case "NUM":
            measured = item.MeasuredValueSequence[0]
            return f"{measured.NumericValue} {_code(measured.MeasurementUnitsCodeSequence[0])}"
        case "TEXT":
            return _short(repr(str(item.TextValue)))
        case "UIDREF":
            return str(item.UID)
        case "PNAME":
            return str(item.PersonName)
        case "SCOORD":
            return f"{item.GraphicType}, {len(item.GraphicData) // 2} points"
        case "IMAGE" | "COMPOSITE":
            referred = item.ReferencedSOPSequence[0]
            segment = referred.get("ReferencedSegmentNumber")
            of = f", segment {segment}" if segment else ""
            return f"{UID(referred.ReferencedSOPClassUID).name}{of}"
    return ""


def _code(item: Dataset) -> str:
    value = item.get("CodeValue") or item.get("LongCodeValue")
    return f'({value}, {item.CodingSchemeDesignator}, "{item.CodeMeaning}")'


def _keyword(element: DataElement) -> str:
    return f"{element.tag} {element.keyword}"


def _plain(element: DataElement) -> str:
    if element.keyword in _BULK:
        return f"{len(element.value)} {'bytes' if element.keyword == 'PixelData' else 'numbers'}"
    if element.value is None:
        return ""
    if element.VR == "UI" and element.value:
        known = UID(str(element.value)).name
        return f"{element.value}" + ("" if known == str(element.value) else f" ({known})")
    return _short(repr(element.value) if element.VM > 1 else str(element.value))


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST - 3]}..."
