"""Read the headers of images that follow each other: what has the form of the last one is compared, not walked again.

The images of a series differ in a few values: most of a header is the same, byte for byte, and lies where it lay before. So
the bytes that give a data set its form (tags, VRs, lengths, whole sequences) are compared at once, as one long number; where
a length has changed, that one element is read and the comparison goes on behind it. Whatever else differs is read as any
first image is, by `read_encoded_header`, and what comes out is the same in every case.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

from pydicom.uid import ImplicitVRLittleEndian

from service.domain.study import Header
from service.errors import BadInstance
from service.receive.elements import PIXEL_DATA, Buffer, Element, element_at, walk
from service.receive.header import CHARACTER_SET, SEQUENCES, WANTED, changed_header, read_encoded_header

MAX_FORM_BYTES = 65_536
_MOST_CHANGED = 32
_MOST_MISSES = 6
_SELDOM = 16
_UNDEFINED = b"\xff\xff\xff\xff"


@dataclass(frozen=True)
class _Form:
    """The form of a data set up to its pixel data, offsets in bytes from its first byte.

    known: the bytes that give it its form, as a number, the first byte the least; mask: which these are; elements: all, in
    order; starts: where each begins, and where the last ends; wanted: (index, VR, bytes) of those whose value counts.
    """

    transfer_syntax_uid: str
    known: int
    mask: int
    elements: list[Element]
    starts: list[int]
    wanted: list[tuple[int, str, bytes]]
    has_pixels: bool
    header: Header
    character_set: tuple[str, bytes] | None


class HeaderReader:
    """Reads headers of one sender, one after the other, each as `read_encoded_header` does. One thread only."""

    def __init__(self) -> None:
        self._form: _Form | None = None
        self._misses = 0  # images in succession that no form fitted
        self._tried = False

    def read(self, data: Buffer, transfer_syntax_uid: str, start: int = 0) -> Header:
        """Return the header of an encoded data set that begins at byte `start`.  Raises: as read_encoded_header."""
        form = self._form
        if form is not None and form.transfer_syntax_uid == transfer_syntax_uid:
            header = _header_by(form, data, start)
            if header is not None:
                self._misses = 0
                return header
        header = read_encoded_header(data, transfer_syntax_uid, start)
        self._misses += 1 if self._tried else 0
        if not self._tried or 2 <= self._misses <= _MOST_MISSES or self._misses % _SELDOM == 0:  # one alone: another series
            self._tried = True
            self._form = _form_of(data, transfer_syntax_uid, start, header)
        return header


def _form_of(data: Buffer, transfer_syntax_uid: str, start: int, header: Header) -> _Form | None:
    """Return the form of a data set whose header was read; None where it is too long, or has an element twice."""
    mask, starts = bytearray(), [0]
    elements: list[Element] = []
    wanted: list[tuple[int, str, bytes]] = []
    has_pixels = False
    for element in walk(data, transfer_syntax_uid == ImplicitVRLittleEndian, start):
        if element.tag == PIXEL_DATA:
            has_pixels = True
            break
        value, end = element.start - start, element.end - start
        if end > MAX_FORM_BYTES:
            return None
        whole = element.tag in SEQUENCES or bytes(data[element.start - 4:element.start]) == _UNDEFINED
        mask += b"\xff" * ((end if whole else value) - starts[-1])
        mask += bytes(end - len(mask))
        if element.tag in WANTED and element.tag not in SEQUENCES:
            wanted.append((len(elements), element.vr, bytes(data[element.start:element.end])))
        elements.append(Element(element.tag, element.vr, value, end))
        starts.append(end)
    if len({element.tag for element in elements}) < len(elements):
        return None
    number = int.from_bytes(mask, "little")
    return _Form(transfer_syntax_uid, int.from_bytes(data[start:start + starts[-1]], "little") & number, number, elements,
                 starts, wanted, has_pixels, header,
                 next(((vr, value) for n, vr, value in wanted if elements[n].tag == CHARACTER_SET), None))


def _header_by(form: _Form, data: Buffer, start: int) -> Header | None:
    """Return the header of a data set that has the form but for the lengths of some values; None when it has not."""
    try:
        found = _differing(form, data, start)
    except BadInstance:
        return None
    if found is None:
        return None
    end, replaced = found
    head = bytes(data[start:end])
    changed: dict[int, tuple[str, bytes]] = {}
    shift, left = 0, list(reversed(replaced))
    for number, vr, known in form.wanted:
        while left and left[-1][0] < number:
            index, element = left.pop()
            shift = element.end - start - form.starts[index + 1]
        old = form.elements[number]
        if left and left[-1][0] == number:
            new = left[-1][1]
            changed[old.tag] = new.vr, head[new.start - start:new.end - start]
        else:
            value = head[old.start + shift:old.end + shift]
            if value != known:
                changed[old.tag] = vr, value
    return changed_header(form.header, changed, form.character_set)


def _differing(form: _Form, data: Buffer, start: int) -> tuple[int, list[tuple[int, Element]]] | None:
    """Return where the pixel data begin, or the data set ends, and the elements of another length: (index, as they are).

    None: the form is another.  Raises: BadInstance as `walk` does.
    """
    implicit = form.transfer_syntax_uid == ImplicitVRLittleEndian
    at, seen = start, 0  # in the data, in the form
    replaced: list[tuple[int, Element]] = []
    while True:
        there = int.from_bytes(data[at:at + form.starts[-1] - seen], "little")
        differs = (there & (form.mask >> 8 * seen)) ^ (form.known >> 8 * seen)
        if not differs:
            break
        offset = seen + ((differs & -differs).bit_length() - 1) // 8
        index = bisect_right(form.starts, offset) - 1
        element = element_at(data, implicit, at + form.starts[index] - seen)
        if element is None or element.tag != form.elements[index].tag or element.tag in SEQUENCES:
            return None
        replaced.append((index, element))
        if len(replaced) > _MOST_CHANGED or element.end - start > MAX_FORM_BYTES:
            return None
        at, seen = element.end, form.starts[index + 1]
    end = at + form.starts[-1] - seen
    if end > len(data):
        return None
    after = element_at(data, implicit, end)
    if (after is not None and after.tag == PIXEL_DATA) is not form.has_pixels or (after is not None and not form.has_pixels):
        return None
    return end, replaced
