"""Ask the PACS, study by study, how many images it holds: in a loop of its own, for an answer may take its time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from service import logs
from service.assemble.complete import ASKED_TWICE, Answer
from service.errors import FirstlookError
from service.pipeline.line import Line
from service.store.arrivals import images_by_series, open_studies
from service.store.studies import add_event
from service.store.tables import Study

_FIRST_REST_S, _LONGEST_REST_S = 30.0, 600.0  # a PACS that does not answer is left alone so long, twice as long each time
_MOST_QUESTIONS = 20  # about one study after its last image; by then its quiet time is what counts
_log = logs.get("inquiring")


class Pacs(Protocol):
    """A PACS that can be asked."""

    @property
    def name(self) -> str:
        """Its name, for the trace."""

    def images(self, study_instance_uid: str, held: Mapping[str, int]) -> int:
        """Return how many images of a study it holds. Raises: PeerUnavailable or RefusedByPeer."""


@dataclass(frozen=True)
class Asking:
    """When to ask: a study that has been quiet for after_s, again after every_s; seconds."""

    after_s: float
    every_s: float


@dataclass
class _Rest:
    """How long a PACS that did not answer is left alone."""

    until: float = 0.0
    length_s: float = 0.0


class Inquirer:
    """Asks, and keeps what was answered. `step` is for one thread; `answers` may be called by any."""

    def __init__(self, line: Line, pacs: Sequence[Pacs], asking: Asking, in_transit: Callable[[], frozenset[str]]) -> None:
        self._line, self._pacs, self._asking, self._in_transit = line, pacs, asking, in_transit
        self._lock = threading.Lock()
        self._answers: dict[str, list[Answer]] = {}
        self._asked: dict[str, tuple[float, float, int]] = {}  # last image, last question, questions since that image
        self._told: dict[tuple[str, str], str] = {}
        self._rests = {p.name: _Rest() for p in pacs}

    def answers(self, study_instance_uid: str) -> Sequence[Answer]:
        """Return the latest answers about a study, oldest first."""
        with self._lock:
            return tuple(self._answers.get(study_instance_uid, ()))

    def step(self) -> bool:
        """Ask about the study that has waited longest for it; False when none is due."""
        with self._line.database.reading() as session:
            studies = open_studies(session)
        self._forget({s.study_instance_uid for s in studies})
        study = self._next(studies)
        if study is None:
            return False
        asked = [self._ask(p, study) for p in self._pacs]
        return any(asked)

    def _next(self, studies: Sequence[Study]) -> Study | None:
        now = self._line.clock()
        awake = any(rest.until <= now for rest in self._rests.values())
        busy = self._in_transit()
        due = [s for s in studies if awake and s.study_instance_uid not in busy and self._is_due(s, now)]
        return min(due, key=lambda s: self._asked.get(s.study_instance_uid, (0.0, 0.0, 0))[1], default=None)

    def _is_due(self, study: Study, now: float) -> bool:
        image_at, asked_at, count = self._asked.get(study.study_instance_uid, (0.0, 0.0, 0))
        if image_at == study.last_received_at and count >= _MOST_QUESTIONS:
            return False
        return now - study.last_received_at >= self._asking.after_s and now - asked_at >= self._asking.every_s

    def _ask(self, pacs: Pacs, study: Study) -> bool:
        """Ask one PACS about one study; tell whether it was asked."""
        now, uid, rest = self._line.clock(), study.study_instance_uid, self._rests[pacs.name]
        if rest.until > now:
            return False
        image_at, _, count = self._asked.get(uid, (0.0, 0.0, 0))
        self._asked[uid] = study.last_received_at, now, count + 1 if image_at == study.last_received_at else 1
        with self._line.database.reading() as session:
            held = images_by_series(session, study.id or 0)
        here = sum(held.values())
        try:
            images = pacs.images(uid, held)
        except FirstlookError as error:
            rest.length_s = min(max(_FIRST_REST_S, rest.length_s * 2), _LONGEST_REST_S)
            rest.until = self._line.clock() + rest.length_s
            self._line.metrics.inquiries.labels("failed").inc()
            _log.warning("a PACS does not answer how many images it holds", extra={
                "pacs": pacs.name, "reason": error.reason.value, "detail": error.detail, "rest_s": rest.length_s})
            self._tell(study, pacs, f"{pacs.name} did not answer how many images it holds; the quiet time decides")
            return True
        rest.length_s = 0.0
        with self._lock:
            kept = [a for a in self._answers.get(uid, []) if a.pacs != pacs.name]
            own = [a for a in self._answers.get(uid, []) if a.pacs == pacs.name][1 - ASKED_TWICE:]
            self._answers[uid] = [*kept, *own, Answer(pacs.name, now, images)]
        self._line.metrics.inquiries.labels("equal" if images == here else "more" if images > here else "fewer").inc()
        self._tell(study, pacs, f"{pacs.name} names {images} images, {here} are here")
        return True

    def _tell(self, study: Study, pacs: Pacs, text: str) -> None:
        """Add a line to the trace, unless it says what the one before said."""
        if self._told.get((study.study_instance_uid, pacs.name)) == text:
            return
        self._told[study.study_instance_uid, pacs.name] = text
        with self._line.database.transaction() as session:
            add_event(session, study.id or 0, self._line.clock(), "asked", text)

    def _forget(self, still_open: set[str]) -> None:
        with self._lock:
            for uid in self._answers.keys() - still_open:
                del self._answers[uid]
        for uid in self._asked.keys() - still_open:
            del self._asked[uid]
        for key in [k for k in self._told if k[0] not in still_open]:
            del self._told[key]
