"""Walk the elements of an encoded data set without decoding values: bounded, iterative, and never a pixel.

A hostile data set can nest sequences thousands deep or claim lengths past its end. Here every length is checked
against the bytes that are there, and depth against a limit, so that the worst a data set can do is be refused.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from service.errors import BadInstance, Reason

Buffer = bytes | memoryview | mmap.mmap

MAX_DEPTH = 64
MAX_VALUE_BYTES = 65536
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
PIXEL_DATA = 0x7FE00010
_SHORT_HEADER = struct.Struct("<HH2sH")
_LONG_FORM = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
_SHORT_FORM = frozenset((b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT", b"PN",
                         b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US"))


@dataclass(frozen=True)
class Element:
    """Where one top-level element lies: tag as 0xGGGGEEEE, VR ("" when implicit), value from start to end (bytes)."""

    tag: int
    vr: str
    start: int
    end: int


@dataclass(frozen=True)
class Collected:
    """Wanted elements of a data set. values: tag -> (VR, "" when implicit; bytes); items: tag -> first item."""

    values: dict[int, tuple[str, bytes]] = field(default_factory=dict)
    items: dict[int, Collected] = field(default_factory=dict)


def walk(data: Buffer, implicit: bool, start: int = 0, end: int | None = None) -> Iterator[Element]:
    """Yield the top-level elements of a little endian data set, in order, ending after the pixel data.

    What follows the pixel data (padding, signatures) is not looked at.
    Raises: BadInstance when a length passes the end, a VR is none, or sequences nest deeper than MAX_DEPTH.
    See PS3.5 7.1 and 7.5.
    """
    for tag, vr, value, after in _scan(data, implicit, start, len(data) if end is None else end, None):
        yield Element(tag, vr.decode(), value, after)


def collect(data: Buffer, implicit: bool, tags: Collection[int], sequences: Collection[int],
            start: int = 0) -> Collected:
    """Return the wanted elements of a data set, their values as received, cut at MAX_VALUE_BYTES.

    tags: 0xGGGGEEEE; sequences: those of them that are sequences: of these, the first item.
    Raises: BadInstance as `walk` does.
    """
    found = Collected()
    for tag, vr, value, after in _scan(data, implicit, start, len(data), tags):
        if tag in sequences:
            item = _first_item(data, Element(tag, vr.decode(), value, after), implicit, tags)
            if item is not None:
                found.items[tag] = item
        else:
            found.values[tag] = vr.decode(), bytes(data[value:min(after, value + MAX_VALUE_BYTES)])
    return found


def element_at(data: Buffer, implicit: bool, at: int) -> Element | None:
    """Return the top-level element that begins at a byte offset, None at the end.  Raises: BadInstance as `walk` does."""
    return next(walk(data, implicit, at), None)


def items(data: Buffer, sequence: Element, implicit: bool) -> Iterator[tuple[int, int]]:
    """Yield where each item of a sequence begins and ends, for `walk` to look into.

    Raises: BadInstance when an item passes the end of its sequence, or as `walk` does.
    """
    implicit, at = _nested_implicit(sequence.vr.encode(), implicit), sequence.start
    while at + 8 <= sequence.end:
        tag, _, length, start = _element_header(data, at, sequence.end, implicit)
        if tag != _ITEM:
            return
        undefined = length == _UNDEFINED
        end = _item_end(data, start, sequence.end, implicit) if undefined else start + length
        if end > sequence.end:
            raise _malformed(f"an item ends at byte {end}, its sequence at {sequence.end}")
        yield start, end
        at = end + 8 if undefined else end


def _scan(data: Buffer, implicit: bool, at: int, end: int,
          tags: Collection[int] | None) -> Iterator[tuple[int, bytes, int, int]]:
    """Yield (tag, VR, start, end of the value) of the wanted top-level elements, None: of all, as `walk` says.

    This is the loop that every object goes through: elements in short form are read here, without a call.
    """
    unpack, last = _SHORT_HEADER.unpack_from, end - 8
    while at < end:
        group, number, vr, length = unpack(data, at) if at <= last else (0xFFFE, 0, b"", 0)
        tag, value = group << 16 | number, at + 8
        if implicit or vr not in _SHORT_FORM or group == 0xFFFE:
            tag, vr, length, value = _element_header(data, at, end, implicit)
            if tag >> 16 == 0xFFFE:
                raise _malformed(f"an item delimiter outside any sequence at byte {at}")
        after = value + length
        if length == _UNDEFINED:
            after = _skip_nested(data, value, end, _nested_implicit(vr, implicit))
        if after > end:
            raise _malformed(f"element {tag:08X} ends at byte {after}, the data set at {end}")
        if tags is None or tag in tags:
            yield tag, vr, value, after
        if tag == PIXEL_DATA:
            return
        at = after


def _first_item(data: Buffer, sequence: Element, implicit: bool, tags: Collection[int]) -> Collected | None:
    implicit = implicit or sequence.vr == "UN"
    if sequence.start + 8 > sequence.end:
        return None
    tag, _, length, start = _element_header(data, sequence.start, sequence.end, implicit)
    if tag != _ITEM:
        return None
    end = _item_end(data, start, sequence.end, implicit) if length == _UNDEFINED else start + length
    if end > sequence.end:
        raise _malformed(f"an item ends at byte {end}, its sequence at {sequence.end}")
    item = Collected()
    for tag, vr, value, after in _scan(data, implicit, start, end, tags):
        if tag in tags:
            item.values[tag] = vr.decode(), bytes(data[value:min(after, value + MAX_VALUE_BYTES)])
    return item


def _item_end(data: Buffer, start: int, end: int, implicit: bool) -> int:
    """Return where an item of undefined length ends: the byte before its delimiter."""
    return _skip_nested(data, start, end, implicit) - 8


def _element_header(data: Buffer, at: int, end: int, implicit: bool) -> tuple[int, bytes, int, int]:
    """Return (tag, VR, length, offset of the value) of the element at a byte offset."""
    if at + 8 > end:
        raise _malformed(f"{end - at} bytes left at byte {at}, too few for an element")
    group, number, vr, short = _SHORT_HEADER.unpack_from(data, at)
    tag = group << 16 | number
    if not implicit and vr in _SHORT_FORM and group != 0xFFFE:
        return tag, vr, short, at + 8
    if implicit or group == 0xFFFE:
        return tag, b"", struct.unpack_from("<L", data, at + 4)[0], at + 8
    if vr not in _LONG_FORM and not (vr.isalpha() and vr.isupper()):
        raise _malformed(f"element {tag:08X} at byte {at} has no value representation")
    if at + 12 > end:
        raise _malformed(f"{end - at} bytes left at byte {at}, too few for an element")
    return tag, vr, struct.unpack_from("<L", data, at + 8)[0], at + 12


def _nested_implicit(vr: bytes, implicit: bool) -> bool:
    """UN of undefined length is a sequence in implicit VR (PS3.5 6.2.2 note)."""
    return implicit or vr == b"UN"


def _skip_nested(data: Buffer, at: int, end: int, implicit: bool) -> int:
    """Return the offset after a value of undefined length, stepping over all that is nested in it."""
    stack = [implicit]
    while stack:
        start = at
        tag, vr, length, at = _element_header(data, at, end, stack[-1])
        if tag in (_ITEM_END, _SEQUENCE_END):
            stack.pop()
        elif length == _UNDEFINED:
            stack.append(_nested_implicit(vr, stack[-1]))
            if len(stack) > MAX_DEPTH:
                raise _malformed(f"sequences nest deeper than {MAX_DEPTH}")
        else:
            at += length
        if at > end:
            raise _malformed(f"element {tag:08X} at byte {start} ends at byte {at}, the data set at {end}")
    return at


def _malformed(detail: str) -> BadInstance:
    return BadInstance(Reason.OBJECT_MALFORMED, detail)
