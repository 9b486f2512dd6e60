"""Each open study, again and again: is it complete, or can a model look at a part of it already?"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from service.assemble.complete import Answer, Evidence, judge
from service.assemble.early import EarlyStart, worth_a_look
from service.assemble.notice import Announced
from service.assemble.quiet import REMEMBERED, Quiet, QuietTimes, learn, longest, settled_s
from service.domain.job import StudyState
from service.pipeline.admit import admit, start_early
from service.pipeline.announcements import announcement, listed
from service.pipeline.line import Line
from service.store.arrivals import (
    Sender,
    forget_notices,
    images_held,
    instances_held,
    locked,
    notices_of,
    open_studies,
    rhythms_of,
    senders_of,
)
from service.store.studies import add_event
from service.store.tables import Notice, Rhythm, Study

_KNOWN_FOR_S = 30.0  # what was learned of a sender is read again after this
_NOTICES_FOR_S = 7 * 86400.0  # a notice of images that never came is forgotten after this
_NO_END = Quiet(math.inf, "")
CLOCKS_DIFFER_S = 60.0  # clocks of two machines may; an image from further ahead came before a clock was put back


def _nothing() -> frozenset[str]:
    return frozenset()


def _no_answers(study_instance_uid: str) -> Sequence[Answer]:
    return ()


@dataclass(frozen=True)
class Arriving:
    """What is known of images on their way, as Study Instance UIDs.

    open_studies: an association that brought images of it is open. known_after_s: how long after an image it may take until
    open_studies names its study, because another process tells of it: silence is judged no sooner.
    """

    open_studies: Callable[[], frozenset[str]] = _nothing
    known_after_s: float = 0.0


def _put_back(line: Line, number: int, now: float) -> None:
    """Have a study wait from now on whose images came, as its row says, at a time that is still to come."""
    with line.database.transaction() as session:
        study = locked(session, number)
        ahead_s = study.last_received_at - now
        for name in ("first_received_at", "receiving_since_at", "last_received_at"):
            setattr(study, name, min(getattr(study, name), now))
        session.add(study)
        add_event(session, number, now, "clock", f"images came {ahead_s:.0f} s from now: the clock was put back")


class Assembler:
    """Judges open studies. One thread uses it.

    answers: what the PACS that are asked have said of a study.
    """

    def __init__(self, line: Line, times: QuietTimes, early: EarlyStart, arriving: Arriving,
                 answers: Callable[[str], Sequence[Answer]] = _no_answers) -> None:
        self._line, self._times, self._early = line, times, early
        self._arriving, self._answers = arriving, answers
        self._looked_at: dict[int, float] = {}
        self._senders: dict[int, tuple[float, list[Sender]]] = {}
        self._rhythms: dict[Sender, tuple[float, Sequence[Rhythm]]] = {}
        self._notices: dict[str, list[Notice]] = {}
        self._missing: dict[str, tuple[object, Announced | None]] = {}
        self._open: list[Study] = []
        self._open_as_of: int | None = None

    def open(self) -> list[Study]:
        """Return the studies to judge now, the one that came last first."""
        changes = self._line.database.changes()
        if changes is not None and changes == self._open_as_of:
            return self._open
        with self._line.database.reading() as session:
            self._open = studies = sorted(open_studies(session), key=lambda s: -s.last_received_at)
            self._notices = notices_of(session, [s.study_instance_uid for s in studies])
        numbers, uids = {s.id for s in studies}, {s.study_instance_uid for s in studies}
        for of_number in (self._looked_at, self._senders):
            for gone in of_number.keys() - numbers:
                del of_number[gone]
        for forgotten in self._missing.keys() - uids:
            del self._missing[forgotten]
        self._open_as_of = changes
        return studies

    def advance(self, study: Study) -> bool:
        """Judge one study and do what follows; tell whether anything did."""
        line, number, now = self._line, study.id or 0, self._line.clock()
        if study.last_received_at > now + CLOCKS_DIFFER_S:
            _put_back(line, number, now)
            return True
        silent_s = now - study.last_received_at
        still_open = (silent_s < self._arriving.known_after_s
                      or study.study_instance_uid in self._arriving.open_studies())
        told = self._announced(study)
        complete = judge(self._evidence(study, still_open, told), now, line.longest_wait_s)
        if complete is not None:
            if admit(line, number, complete):
                self._rhythms.clear()
                return True
            return False
        if study.state != StudyState.RECEIVING.value or self._looked_at.get(number) == study.last_received_at:
            return False
        settled = 0.0 if still_open else self._settled_s(study)
        missing = len(told.missing) if told else 0
        if not worth_a_look(self._early, study.modality, still_open, silent_s, settled, missing):
            return False
        self._looked_at[number] = study.last_received_at
        return start_early(line, number)

    def forget(self) -> int:
        """Delete old notices of images that never came; return how many."""
        with self._line.database.transaction() as session:
            return forget_notices(session, self._line.clock() - _NOTICES_FOR_S)

    def _evidence(self, study: Study, still_open: bool, told: Announced | None) -> Evidence:
        answers = self._answers(study.study_instance_uid)
        images = 0
        if answers:
            with self._line.database.reading() as session:
                images = images_held(session, study.id or 0)
        return Evidence(
            receiving_since_at=study.receiving_since_at, last_received_at=study.last_received_at, images=images,
            association_open=still_open, quiet=_NO_END if still_open else self._quiet(study), announced=told,
            answers=answers)

    def _announced(self, study: Study) -> Announced | None:
        """Return what notices say of a study; looked up anew when an image or a notice has come."""
        uid = study.study_instance_uid
        notices = self._notices.get(uid)
        if not notices:
            return None
        key = (study.last_received_at, tuple((n.id, n.state, len(n.listed)) for n in notices))
        known = self._missing.get(uid)
        if known is None or known[0] != key:
            with self._line.database.reading() as session:
                known = key, announcement(notices, instances_held(session, listed(notices)))
            self._missing[uid] = known
        return known[1]

    def _quiet(self, study: Study) -> Quiet:
        """Return how long to wait for the senders of a study: for the one that pauses longest."""
        return longest(
            learn(self._times, s.modality, s.calling_aet, [r.study_pause_s for r in self._of(s)])
            for s in self._senders_of(study))

    def _settled_s(self, study: Study) -> float:
        known = {(s.calling_aet, s.modality): [r.series_pause_s for r in self._of(s)] for s in self._senders_of(study)}
        return settled_s(self._early.ct_s, known, self._times)

    def _senders_of(self, study: Study) -> list[Sender]:
        number = study.id or 0
        known = self._senders.get(number)
        if known is None or known[0] != study.last_received_at:
            with self._line.database.reading() as session:
                known = study.last_received_at, senders_of(session, number)
            self._senders[number] = known
        return known[1] or [Sender(study.calling_aet, m) for m in study.modality.split("/")]

    def _of(self, sender: Sender) -> Sequence[Rhythm]:
        """Return how a sender sent its latest studies; of images found after a crash no sender is known."""
        now = self._line.clock()
        known = self._rhythms.get(sender)
        if known is None or now - known[0] > _KNOWN_FOR_S:
            with self._line.database.reading() as session:
                known = now, rhythms_of(session, sender, REMEMBERED) if sender.calling_aet else ()
            self._rhythms[sender] = known
        return known[1]
