"""Take one object: check it against what was announced, keep it durably, write it down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from service.domain.study import Header
from service.errors import BadInstance, MismatchedInstance, Reason
from service.receive.header import is_uid, read_encoded_header
from service.receive.policy import RESULT_CLASSES
from service.receive.quota import Quota
from service.receive.spool import Part, Spool
from service.receive.transport import BoundedBuffer
from service.store.intake import Intake, Outcome

MANUFACTURER = "firstlook"
_MODALITIES = frozenset(("CR", "CT", "DX", "OT", "SC", "SEG", "SR"))
_LABELS = {Outcome.STORED: "stored", Outcome.DUPLICATE: "duplicate", Outcome.CHANGED_DUPLICATE: "quarantined"}


@dataclass(frozen=True)
class Announced:
    """What the command set and the presentation context say of an object, before its data set is read."""

    sop_class_uid: str
    sop_instance_uid: str
    abstract_syntax: str
    transfer_syntax_uid: str
    calling_aet: str


@dataclass(frozen=True)
class Kept:
    """What became of an object. label: the outcome in metrics and trace; size_bytes: newly stored, else 0."""

    study_instance_uid: str
    modality: str
    label: str
    size_bytes: int = 0


class Storing:
    """Stores objects one at a time; safe to share between threads. is_own: whether we made a SOP Instance UID."""

    def __init__(self, max_object_bytes: int, spool: Spool, intake: Intake, is_own: Callable[[str], bool],
                 quota: Quota) -> None:
        self.max_object_bytes, self._spool, self._intake, self._is_own = max_object_bytes, spool, intake, is_own
        self._quota = quota

    def store(self, announced: Announced, data_set: BoundedBuffer, touch: Callable[[str], None]) -> Kept:
        """Keep one object; when this returns it can no longer be lost.

        touch: told the Study Instance UID before the study's row changes.
        Results (SEG, SR, SC), ours or foreign, are accepted and not kept.
        Raises: BadInstance, MismatchedInstance, OutOfSpace, Unavailable.
        """
        if data_set.overflowed:
            raise self.too_large(data_set.offered_bytes)
        data = data_set.getbuffer()
        try:
            header = read_encoded_header(data, announced.transfer_syntax_uid)
            _compare(header, announced)
            if header.sop_class_uid in RESULT_CLASSES:
                return self._result(header)
            self._quota.take(header.study_instance_uid, header.sop_instance_uid, len(data))
            with self.begin(announced) as part:
                part.write(data)
                return self._keep(header, announced, part, touch)
        finally:
            data.release()

    def begin(self, announced: Announced) -> Part:
        """Open the file of an image that is about to come.  Raises: OutOfSpace, Unavailable."""
        return self._spool.begin(announced.sop_class_uid, announced.sop_instance_uid, announced.transfer_syntax_uid)

    def finish(self, announced: Announced, part: Part, touch: Callable[[str], None]) -> Kept:
        """Keep the image whose data set was written to the part; else as `store`. The part is closed in any case."""
        with part:
            with part.mapped() as (data, start):
                header = read_encoded_header(data, announced.transfer_syntax_uid, start)
                size_bytes = len(data) - start
            _compare(header, announced)
            self._quota.take(header.study_instance_uid, header.sop_instance_uid, size_bytes)
            return self._keep(header, announced, part, touch)

    def too_large(self, offered_bytes: int) -> BadInstance:
        """Return the error of an object that passes the limit."""
        return BadInstance(Reason.OBJECT_MALFORMED,
                           f"{offered_bytes} bytes; at most {self.max_object_bytes} are taken")

    def _keep(self, header: Header, announced: Announced, part: Part, touch: Callable[[str], None]) -> Kept:
        spooled = part.commit()
        touch(header.study_instance_uid)
        outcome = self._intake.record(
            header, spooled.sha256, spooled.size_bytes, spooled.path, announced.calling_aet)
        if outcome is Outcome.DUPLICATE:
            self._spool.discard(spooled.path)
        if outcome is Outcome.CHANGED_DUPLICATE:
            self._spool.quarantine(spooled.path)
        return Kept(header.study_instance_uid, _label(header.modality), _LABELS[outcome],
                    spooled.size_bytes if outcome is Outcome.STORED else 0)

    def _result(self, header: Header) -> Kept:
        own = self._is_own(header.sop_instance_uid) or header.manufacturer.lower() == MANUFACTURER
        reason = Reason.OWN_RESULT if own else Reason.FOREIGN_RESULT
        text = "one of our own results came back; not assessed again" if own else reason.sentence
        self._intake.trace(header.study_instance_uid, "receive", text,
                           {"reason": reason, "sop_instance_uid": header.sop_instance_uid})
        return Kept(header.study_instance_uid, _label(header.modality), reason.value)


def _compare(header: Header, announced: Announced) -> None:
    """Check that data set, command and presentation context speak of the same object (PS3.4 B.2.3)."""
    if not is_uid(announced.sop_instance_uid) or not is_uid(announced.sop_class_uid):
        raise BadInstance(Reason.OBJECT_MALFORMED, "the command names no valid SOP class or instance UID")
    if header.sop_instance_uid != announced.sop_instance_uid:
        raise MismatchedInstance(Reason.OBJECT_MISMATCH, "SOP Instance UID differs between command and data set")
    if not header.sop_class_uid == announced.sop_class_uid == announced.abstract_syntax:
        raise MismatchedInstance(Reason.OBJECT_MISMATCH,
                                 "SOP Class UID differs between command, data set and presentation context")


def _label(modality: str) -> str:
    return modality if modality in _MODALITIES else "other"
