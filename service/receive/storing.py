"""Take one object: check it against what was announced, keep it durably, write it down."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from service import logs
from service.domain.study import SECONDARY_CAPTURE_STORAGE, Header
from service.errors import BadInstance, FirstlookError, MismatchedInstance, Reason, Unavailable
from service.receive.backlog import Backlog, Entry
from service.receive.forms import HeaderReader
from service.receive.header import is_uid, read_encoded_header
from service.receive.part import Part
from service.receive.policy import RESULT_CLASSES
from service.receive.quota import Quota
from service.receive.ready import SMALL_BYTES
from service.receive.returned import Returned
from service.receive.spool import Spool
from service.receive.tally import Kept, Tally
from service.receive.transport import BoundedBuffer
from service.store.intake import Arrival, Intake, Outcome

MANUFACTURER = "firstlook"
_RADIOGRAPHS = frozenset(("CR", "DX", "RG"))
_MODALITIES = frozenset(("CR", "CT", "DX", "OT", "SC", "SEG", "SR"))
_log = logs.get("receive.storing")
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
class Safe:
    """An image that is on the disk for good, without a row as yet. received_at: Unix time, seconds."""

    header: Header
    part: Part
    calling_aet: str
    received_at: float
    tally: Tally


class _Readers(threading.local):
    """The reader of headers of each thread: an association has one."""

    def __init__(self) -> None:
        self.own = HeaderReader()


class Storing:
    """Stores objects one at a time; safe to share between threads. is_own: whether we made a SOP Instance UID; returned:
    keeps what may be a correction of ours, None: nothing of others is kept."""

    def __init__(self, max_object_bytes: int, spool: Spool, intake: Intake, is_own: Callable[[str], bool],
                 quota: Quota, returned: Returned | None = None) -> None:
        self.max_object_bytes, self._spool, self._intake, self._is_own = max_object_bytes, spool, intake, is_own
        self._quota, self._returned = quota, returned
        self._readers = _Readers()
        self.backlog = Backlog(intake, self._settle)

    def store(self, announced: Announced, data_set: BoundedBuffer, tally: Tally) -> None:
        """Keep one object and write it down; when this returns it can no longer be lost.

        Results (SEG, SR, SC), ours or foreign, are accepted and not kept, but for what may correct a result of ours.
        Raises: BadInstance, MismatchedInstance, OutOfSpace, Unavailable.
        """
        if data_set.overflowed:
            raise self.too_large(data_set.offered_bytes)
        data = data_set.getbuffer()
        try:
            header = read_encoded_header(data, announced.transfer_syntax_uid)
            _compare(header, announced)
            if self._is_result(header):
                tally.enter(self._result(header, announced, data))
                return
            self._quota.take(header.study_instance_uid, header.sop_instance_uid, len(data))
            with self.begin(announced) as part:
                part.write(data)
                self.write_down(self._keep(header, announced, part, tally))
        finally:
            data.release()

    def begin(self, announced: Announced) -> Part:
        """Open the file of an image that is about to come.  Raises: OutOfSpace, Unavailable."""
        return self._spool.begin(announced.sop_class_uid, announced.sop_instance_uid, announced.transfer_syntax_uid,
                                 announced.calling_aet)

    def keep(self, announced: Announced, part: Part, tally: Tally) -> Safe:
        """Keep the image whose data set was written to the part: when this returns it can no longer be lost.

        `write_down` or `write_later` must follow.  Raises: BadInstance, MismatchedInstance, OutOfSpace, Unavailable.
        """
        with part.whole() as (data, start):
            header = self._readers.own.read(data, announced.transfer_syntax_uid, start)
        _compare(header, announced)
        self._quota.take(header.study_instance_uid, header.sop_instance_uid, part.size_bytes)
        return self._keep(header, announced, part, tally)

    def write_down(self, safe: Safe) -> None:
        """Write the row of an image; it is committed when this returns.  Raises: Unavailable."""
        entry = _entry(safe)
        [outcome] = self._intake.record_all([entry.arrival])
        self._settle(entry, outcome)

    def write_later(self, safe: Safe) -> None:
        """Put an image on the backlog: its part is closed, here or there, and its row follows, with those of others.

        What is left to do for a small one takes less than handing it to another thread, and its sender is waited for anyway.
        """
        self.backlog.add(partial(_finished, safe), here=safe.part.size_bytes <= SMALL_BYTES)

    @property
    def at_once(self) -> bool:
        """Whether a row must be there before the answer: no later start could make it from the file."""
        return self.backlog.stuck or not self._spool.is_here

    def too_large(self, offered_bytes: int) -> BadInstance:
        """Return the error of an object that passes the limit."""
        return BadInstance(Reason.OBJECT_MALFORMED,
                           f"{offered_bytes} bytes; at most {self.max_object_bytes} are taken")

    def _keep(self, header: Header, announced: Announced, part: Part, tally: Tally) -> Safe:
        received_at = self._intake.now()
        part.commit(received_at)
        self._spool.keep(part.path)
        tally.touch(header.study_instance_uid)
        return Safe(header, part, announced.calling_aet, received_at, tally)

    def _settle(self, entry: Entry, outcome: Outcome) -> None:
        """Do what the outcome asks for, and tell the tally."""
        arrival, header = entry.arrival, entry.arrival.header
        try:
            if outcome is Outcome.DUPLICATE:
                self._spool.discard(arrival.path)
            if outcome is Outcome.CHANGED_DUPLICATE:
                self._spool.quarantine(arrival.path)
        except (OSError, Unavailable) as error:  # the next start finds it again
            _log.error("a second copy stays in the spool", extra={"path": arrival.path, "error": type(error).__name__})
        entry.tally.enter(Kept(header.study_instance_uid, _label(header.modality), _LABELS[outcome],
                                 arrival.size_bytes if outcome is Outcome.STORED else 0))

    def _is_result(self, header: Header) -> bool:
        """Tell whether an object holds a result; a capture that says to be a radiograph is an image, to be refused."""
        captured = header.sop_class_uid == SECONDARY_CAPTURE_STORAGE and header.modality in _RADIOGRAPHS
        return header.sop_class_uid in RESULT_CLASSES and (not captured or self._made_here(header))

    def _made_here(self, header: Header) -> bool:
        return self._is_own(header.sop_instance_uid) or header.manufacturer.lower() == MANUFACTURER

    def _result(self, header: Header, announced: Announced, data: memoryview) -> Kept:
        own = self._made_here(header)
        if not own and self._returned is not None:
            kept = self._returned.keep(header, data, announced.transfer_syntax_uid, announced.calling_aet)
            if kept is not None:
                return Kept(header.study_instance_uid, _label(header.modality), kept)
        reason = Reason.OWN_RESULT if own else Reason.FOREIGN_RESULT
        text = "one of our own results came back; not assessed again" if own else reason.sentence
        self._intake.trace(header.study_instance_uid, "receive", text,
                           {"reason": reason, "sop_instance_uid": header.sop_instance_uid})
        return Kept(header.study_instance_uid, _label(header.modality), reason.value)


def _entry(safe: Safe) -> Entry:
    spooled = safe.part.spooled()
    return Entry(Arrival(safe.header, spooled.sha256, spooled.size_bytes, spooled.path, safe.calling_aet,
                         safe.received_at), safe.tally)


def _finished(safe: Safe) -> Entry | None:
    """Return the entry of an image that was answered, and close its part."""
    with safe.part:
        try:
            return _entry(safe)
        except FirstlookError as error:
            _log.error("an image that was answered waits for the next start",
                       extra={"reason": error.reason, "detail": error.detail})
            return None


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
