"""Read what others announce: Instance Availability Notification (PS3.4 Annex R), Performed Procedure Step (Annex F).

Bounded as everything from a peer: lengths are checked, nesting is limited, so is the number of objects listed.
"""

from __future__ import annotations

from collections.abc import Iterator

from pydicom.datadict import tag_for_keyword

from service.domain.notice import NoticeKind, NoticeState, Notified
from service.errors import BadInstance, Reason
from service.receive.elements import Buffer, Element, items, walk
from service.receive.header import is_uid

MAX_BYTES = 33_554_432  # of one message: what 100,000 objects need
MAX_LISTED = 100_000
_STATES = {s.value.upper(): s for s in (NoticeState.IN_PROGRESS, NoticeState.COMPLETED, NoticeState.DISCONTINUED)}
_GONE = "UNAVAILABLE"  # Instance Availability (0008,0056) of what nobody can get any more


def _tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return int(tag)


_STUDY, _STATUS = _tag("StudyInstanceUID"), _tag("PerformedProcedureStepStatus")
_SERIES, _OBJECTS = _tag("ReferencedSeriesSequence"), _tag("ReferencedSOPSequence")
_STEPS, _PERFORMED = _tag("ScheduledStepAttributesSequence"), _tag("PerformedSeriesSequence")
_IMAGES = _tag("ReferencedImageSequence")
_CLASS, _INSTANCE = _tag("ReferencedSOPClassUID"), _tag("ReferencedSOPInstanceUID")
_AVAILABILITY = _tag("InstanceAvailability")


def read_availability(uid: str, data: Buffer, implicit: bool) -> Notified:
    """Read the attributes of an Instance Availability Notification; what is UNAVAILABLE is left out.

    Raises: BadInstance when it cannot be read, names no study, or lists too many objects.
    """
    document = _Message(data, implicit)
    study = document.text(document.top.get(_STUDY))
    listed = document.listed(_SERIES, _OBJECTS)
    if not is_uid(study):
        raise _unreadable("no Study Instance UID")
    return Notified(NoticeKind.AVAILABILITY, uid, NoticeState.AVAILABLE, (study,), listed)


def read_step(uid: str, data: Buffer, implicit: bool) -> Notified:
    """Read what an N-CREATE or N-SET says of a Modality Performed Procedure Step: its state, studies and images.

    Raises: BadInstance when it cannot be read, its state is none, or it lists too many images.
    """
    document = _Message(data, implicit)
    status = document.text(document.top.get(_STATUS))
    if status and status not in _STATES:
        raise _unreadable("the Performed Procedure Step Status is none of the standard's")
    studies = (document.text(step.get(_STUDY)) for step in document.inside(document.top.get(_STEPS)))
    named = tuple(dict.fromkeys(s for s in studies if is_uid(s)))
    return Notified(NoticeKind.PROCEDURE_STEP, uid, _STATES.get(status), named, document.listed(_PERFORMED, _IMAGES))


class _Message:
    """The elements of one message."""

    def __init__(self, data: Buffer, implicit: bool) -> None:
        if len(data) > MAX_BYTES:
            raise _unreadable(f"{len(data)} bytes; at most {MAX_BYTES} are read")
        self._data, self._implicit = data, implicit
        self.top = {e.tag: e for e in walk(data, implicit)}

    def text(self, element: Element | None) -> str:
        """Return the value of a short text element, "" without one."""
        if element is None:
            return ""
        value = bytes(self._data[element.start:min(element.end, element.start + 128)])
        return value.decode("ascii", errors="replace").strip(" \0")

    def inside(self, sequence: Element | None) -> Iterator[dict[int, Element]]:
        """Yield the elements of each item of a sequence."""
        if sequence is not None:
            for start, end in items(self._data, sequence, self._implicit):
                yield {e.tag: e for e in walk(self._data, self._implicit, start, end)}

    def listed(self, series: int, objects: int) -> dict[str, str]:
        """Return the SOP Class UID of each SOP Instance UID that is listed, series by series."""
        found: dict[str, str] = {}
        for one in self.inside(self.top.get(series)):
            for reference in self.inside(one.get(objects)):
                instance, sop_class = self.text(reference.get(_INSTANCE)), self.text(reference.get(_CLASS))
                if is_uid(instance) and is_uid(sop_class) and self.text(reference.get(_AVAILABILITY)) != _GONE:
                    found[instance] = sop_class
                if len(found) > MAX_LISTED:
                    raise _unreadable(f"more than {MAX_LISTED} objects are listed")
        return found


def _unreadable(detail: str) -> BadInstance:
    return BadInstance(Reason.OBJECT_MALFORMED, detail)
