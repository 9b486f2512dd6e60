"""Read the header of an image: strict on identifiers, tolerant of everything else, never a pixel."""

from __future__ import annotations

import math
import mmap
import re
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
)

from service.domain.study import Header
from service.errors import BadInstance, Reason
from service.receive.elements import Buffer, collect, walk

MAX_TEXT = 1024
MAX_VALUES = 64
_UID_FORM = re.compile(r"[0-9]+(\.[0-9]+)*")
_IDENTIFIERS = ("sop_instance_uid", "sop_class_uid", "study_instance_uid", "series_instance_uid")
_KEYWORDS = {"sop_instance_uid": "SOPInstanceUID", "sop_class_uid": "SOPClassUID", "patient_id": "PatientID",
             "issuer_of_patient_id": "IssuerOfPatientID"}
_NESTED = ("transfer_syntax_uid", "view_code_meaning", "patient_species_code_meaning", "requested_procedure_priority")
_NOT_READ = ("frame_number", "multiframe_uid")
_TRANSFER_SYNTAX, _SENDER = 0x00020010, 0x00020017
_CONTROL = dict.fromkeys((*range(32), 127), " ")
_ESCAPE = re.compile(rb"\x1b[\x20-\x2f]+[\x30-\x7e]")
_BINARY = {"US": "<H", "SS": "<h", "UL": "<L", "SL": "<l", "FL": "<f", "FD": "<d"}


def _keyword(name: str) -> str:
    """Return the DICOM keyword of a field of Header: study_instance_uid -> StudyInstanceUID."""
    plain = "".join(part.capitalize() for part in name.split("_"))
    return _KEYWORDS.get(name) or (plain.removesuffix("Uid") + "UID" if plain.endswith("Uid") else plain)


def _tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(keyword)
    return int(tag)


_TAGS = {f.name: _tag(_keyword(f.name)) for f in fields(Header) if f.name not in (*_NESTED, *_NOT_READ)}
_FIELD_OF = {_TAGS[f.name]: (f.name, "uid" if f.name in _IDENTIFIERS else str(f.type)) for f in fields(Header)
             if f.name in _TAGS}
_FIELDS = tuple((f.name, _TAGS[f.name], str(f.type)) for f in fields(Header)
                if f.name in _TAGS and f.name not in _IDENTIFIERS)
CHARACTER_SET = _tag("SpecificCharacterSet")
_PRIORITY, _REQUESTS = _tag("RequestedProcedurePriority"), _tag("RequestAttributesSequence")
_VIEW_CODES, _SPECIES_CODES, _MEANING = _tag("ViewCodeSequence"), _tag("PatientSpeciesCodeSequence"), _tag("CodeMeaning")
SEQUENCES = frozenset((_REQUESTS, _VIEW_CODES, _SPECIES_CODES))
WANTED = frozenset(_TAGS.values()) | SEQUENCES | {CHARACTER_SET, _PRIORITY, _MEANING}


def read_tags() -> list[int]:
    """Return the tags of all attributes that a header holds, in the data set itself or in the first item of a sequence."""
    return sorted(WANTED)


def read_header(dataset: Dataset, transfer_syntax_uid: str = "") -> Header:
    """Return what choosing, ordering and checking need of an image.

    dataset: read or built with pydicom, or partial; transfer_syntax_uid: "" takes it from the file meta, if any.
    An attribute that is absent, or not what its type says, is absent in the header.
    Raises: BadInstance when SOP Instance, SOP Class, Study or Series Instance UID is not a UID (PS3.5 9.1).
    """
    codecs = _codecs([str(term) for term in _values(dataset, CHARACTER_SET, ("ascii",))])
    meta = getattr(dataset, "file_meta", None)
    return _header(lambda tag, kind: _typed(_values(dataset, tag, codecs), kind),
                   lambda sequence, tag: _typed(_nested_values(dataset, sequence, tag, codecs), "str"),
                   transfer_syntax_uid or str(meta.get("TransferSyntaxUID", "") if meta else ""))


def _header(value: Callable[[int, str], Any], nested: Callable[[int, int], Any], transfer_syntax_uid: str) -> Header:
    """Return the header from what gives the value of an element by its type, and of one in the first item of a sequence."""
    found: dict[str, Any] = {"transfer_syntax_uid": transfer_syntax_uid}
    for name, tag, kind in _FIELDS:
        given = value(tag, kind)
        if given is not None and (name != "frame_of_reference_uid" or is_uid(given)):
            found[name] = given
    found["view_code_meaning"] = nested(_VIEW_CODES, _MEANING) or ""
    found["patient_species_code_meaning"] = nested(_SPECIES_CODES, _MEANING) or ""
    found["requested_procedure_priority"] = value(_PRIORITY, "str") or nested(_REQUESTS, _PRIORITY) or ""
    for name in _IDENTIFIERS:
        found[name] = value(_TAGS[name], "uid") or ""
        if not is_uid(found[name]):
            raise BadInstance(Reason.OBJECT_MALFORMED, f"{_keyword(name)} is absent or not a UID")
    return Header.of(found)


def read_encoded_header(data: Buffer, transfer_syntax_uid: str, start: int = 0) -> Header:
    """Return the header of an encoded data set that begins at byte `start`; the whole structure is checked on the way.

    Raises: BadInstance when the bytes are no data set in that transfer syntax, or an identifier is not a UID.
    """
    if transfer_syntax_uid in (DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian) or not is_uid(transfer_syntax_uid):
        raise BadInstance(Reason.OBJECT_MALFORMED, "the transfer syntax is deflated, big endian or none")
    implicit = transfer_syntax_uid == ImplicitVRLittleEndian
    found = collect(data, implicit, WANTED, SEQUENCES, start)
    terms = found.values.get(CHARACTER_SET)
    codecs = _codecs(_decoded("CS", terms[1], ("ascii",)) if terms else [])

    def nested(sequence: int, tag: int) -> Any:
        item = found.items.get(sequence)
        return _read(item.values, tag, "str", codecs) if item is not None else None

    return _header(lambda tag, kind: _read(found.values, tag, kind, codecs), nested, transfer_syntax_uid)


def changed_header(header: Header, values: Mapping[int, tuple[str, bytes]],
                   character_set: tuple[str, bytes] | None) -> Header | None:
    """Return the header of an image of which only these elements differ: tag -> (VR, "" when implicit; bytes).

    character_set: VR and bytes of Specific Character Set, the same in both. None: these elements alone do not tell it.
    """
    codecs = _codecs(_decoded("CS", character_set[1], ("ascii",)) if character_set else [])
    found: dict[str, Any] = {}
    for tag, (vr, value) in values.items():
        if tag not in _FIELD_OF:
            return None
        name, kind = _FIELD_OF[tag]
        given = _read_value(vr or _implicit_vr(tag), value, kind, codecs)
        if kind == "uid":
            given = given or ""
        if (kind == "uid" or name == "frame_of_reference_uid") and not is_uid(given or ""):
            return None
        found[name] = given
    absent = [name for name, given in found.items() if given is None]
    return None if absent else Header.of(vars(header) | found)


def read_file_header(path: Path) -> Header:
    """Return the header of a DICOM file (PS3.10 7.1); pixels are stepped over, not read.

    Raises: BadInstance as `read_encoded_header` does, or when it is no DICOM file; OSError when it cannot be read.
    """
    with open_file(path) as data:
        transfer_syntax_uid, start, _ = read_file_meta(data)
        return read_encoded_header(data, transfer_syntax_uid, start)


@contextmanager
def open_file(path: Path) -> Iterator[mmap.mmap]:
    """Yield the bytes of a DICOM file, mapped, not read.  Raises: BadInstance when it is too short for one; OSError."""
    with path.open("rb") as file:
        if path.stat().st_size < 132:
            raise BadInstance(Reason.OBJECT_MALFORMED, "the file is too short for a DICOM file")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data


def read_file_meta(data: Buffer) -> tuple[str, int, str]:
    """Return (transfer syntax UID, byte offset of the data set, Sending Application Entity Title or "") of a DICOM file.

    Raises: BadInstance when there is no prefix, no group length or no transfer syntax.
    """
    if bytes(data[128:132]) != b"DICM":
        raise BadInstance(Reason.OBJECT_MALFORMED, "the file lacks the DICM prefix")
    first = next(walk(data, False, 132), None)
    if first is None or first.tag != 0x00020000 or first.end - first.start != 4:
        raise BadInstance(Reason.OBJECT_MALFORMED, "the file meta information has no group length")
    end = first.end + int(struct.unpack_from("<L", data, first.start)[0])
    if end > len(data):
        raise BadInstance(Reason.OBJECT_MALFORMED, "the file ends inside its meta information")
    found = {element.tag: bytes(data[element.start:element.end]).decode("ascii", "replace").rstrip("\0 ")
             for element in walk(data, False, first.end, end) if element.tag in (_TRANSFER_SYNTAX, _SENDER)}
    if _TRANSFER_SYNTAX not in found:
        raise BadInstance(Reason.OBJECT_MALFORMED, "the file meta information has no transfer syntax")
    return found[_TRANSFER_SYNTAX], end, found.get(_SENDER, "")


def is_uid(text: str) -> bool:
    """Tell whether text is a UID: 1 to 64 characters, components of digits parted by single dots (PS3.5 9.1).

    A leading zero in a component is let through: devices write them.
    """
    return len(text) <= 64 and _UID_FORM.fullmatch(text) is not None


def _codecs(terms: list[str]) -> tuple[str, ...]:
    """Return the Python codecs of Specific Character Set; an unknown one is left out, none is Latin-1."""
    return tuple(python_encoding[term] for term in terms if term in python_encoding) or ("iso8859",)


def _nested_values(dataset: Dataset, sequence: int, tag: int, codecs: tuple[str, ...]) -> list[Any]:
    if sequence not in dataset:
        return []
    items = dataset[sequence].value
    return _values(items[0], tag, codecs) if isinstance(items, Sequence) and len(items) else []


def _values(dataset: Dataset, tag: int, codecs: tuple[str, ...]) -> list[Any]:
    """Return the values of an element: text and numbers as they are, [] when absent or not understood."""
    if tag not in dataset:
        return []
    element = dataset.get_item(tag)
    if isinstance(element, RawDataElement):
        return _decoded(element.VR or _implicit_vr(tag), element.value or b"", codecs)
    value = element.value if element is not None else None
    if value is None or isinstance(value, bytes):
        return []
    return list(value)[:MAX_VALUES] if isinstance(value, list | MultiValue) else [value]


def _read(values: dict[int, tuple[str, bytes]], tag: int, kind: str, codecs: tuple[str, ...]) -> Any:
    """Return the value of an element that was collected; None when absent or not understood."""
    element = values.get(tag)
    return _read_value(element[0] or _implicit_vr(tag), element[1], kind, codecs) if element is not None else None


@lru_cache(maxsize=4096)
def _read_value(vr: str, value: bytes, kind: str, codecs: tuple[str, ...]) -> Any:
    """Return what the bytes of an element hold; most are the same in all images of a series, and looked up here."""
    return _typed(_decoded(vr, value, codecs), kind)


def _decoded(vr: str, value: bytes, codecs: tuple[str, ...]) -> list[Any]:
    """Return the values that the bytes of an element hold: text or numbers."""
    if vr in _BINARY:
        form = _BINARY[vr]
        size = struct.calcsize(form)
        count = min(len(value) // size, MAX_VALUES)
        return [struct.unpack_from(form, value, n * size)[0] for n in range(count)]
    text = _text(value[:MAX_TEXT * 4], codecs).rstrip("\0 ")
    return text.split("\\")[:MAX_VALUES] if text else []


@cache
def _implicit_vr(tag: int) -> str:
    """Return the VR of a tag by the dictionary; asked for wanted tags only."""
    try:
        return str(dictionary_VR(tag)).split(" ")[0]
    except KeyError:
        return "UN"


def _text(value: bytes, codecs: tuple[str, ...]) -> str:
    """Decode with the first character set that can; what none can is kept as Latin-1, so nothing is lost.

    The escape sequences of ISO 2022 are left to the Japanese codecs, which need them, and taken out for the others.
    """
    if value.isascii() and b"\x1b" not in value and not any(c.startswith("iso2022") for c in codecs):
        return value.decode("ascii")
    for codec in reversed(codecs):
        try:
            return (value if codec.startswith("iso2022") else _ESCAPE.sub(b"", value)).decode(codec)
        except (UnicodeDecodeError, LookupError):
            continue
    return value.decode("latin-1")


def _clean(value: Any) -> str:
    """Return text without control characters (a NUL would be refused by PostgreSQL), at most MAX_TEXT long."""
    text = str(value)
    return (text if text.isprintable() else text.translate(_CONTROL)).strip()[:MAX_TEXT]


def _typed(values: list[Any], kind: str) -> Any:
    """Bring values to a type: str, int | None, float | None, a tuple, or uid (as sent); None when they do not fit."""
    if not values:
        return None
    if kind == "uid":
        return "\\".join(str(v) for v in values)
    if kind == "str":
        return _clean("\\".join(str(v) for v in values))
    if kind.startswith("tuple[str"):
        return tuple(_clean(v) for v in values)
    if kind.startswith("tuple[float"):
        numbers = [_number(v) for v in values]
        return tuple(n for n in numbers if n is not None) if None not in numbers else ()
    number = _number(values[0]) if len(values) == 1 else None
    if number is None or kind.startswith("float"):
        return number
    return int(number) if number == int(number) and abs(number) < 2**53 else None


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
