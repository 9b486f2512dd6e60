"""The loops: one watches for complete studies, the others take jobs. The one broad `except` of the house is here."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

from sqlalchemy.exc import OperationalError

from service import logs
from service.domain.job import BEHIND, JobKind
from service.domain.study import Kind
from service.domain.urgency import Urgency
from service.errors import Defect, FirstlookError, Reason
from service.pipeline.admit import give_up
from service.pipeline.assembling import Assembler
from service.pipeline.correcting import attach, set_aside, waiting
from service.pipeline.line import Line
from service.pipeline.run import fail, run
from service.store.database import unavailable
from service.store.tables import Job, Study
from service.triage.turns import Pace

_log = logs.get("worker")
_IDLE_S = 0.1  # how long an idle loop waits before it looks again
_AFTER_ERROR_S = 1.0
_REST_S = 1.0  # a loop that rests while nothing changes looks at least this often
_FORGET_S = 3600.0
_MOST_DOCUMENTS = 2  # of radiographs of an urgency that are told of and wait, before another passes them


def attempt(action: Callable[[], object], failed: Callable[[FirstlookError], None], **about: object) -> None:
    """Do something that must not take its loop down; what goes wrong is handed to `failed` as an error of ours.

    about: our ids, which every line of the log has that is written meanwhile; `study` ties together those of one study.
    A database that is away or has no room is no fault of what was being done: Unavailable. Anything else that is not a
    FirstlookError is a defect, logged with its place in the code.
    """
    with logs.about(**about):
        try:
            action()
        except FirstlookError as error:
            failed(error)
        except OperationalError as error:
            failed(unavailable(error))
        except Exception as error:  # noqa: BLE001 - the one broad except of the house: a loop outlives any defect
            _log.error("defect", exc_info=True)
            failed(Defect(Reason.INTERNAL_ERROR, type(error).__name__))


class Loop(threading.Thread):
    """Calls `step` until stopped; a step returns True when it did something and wants to be called again at once.

    turned: called with the name after each step that ended without an error: the sign of life.
    """

    def __init__(self, name: str, step: Callable[[], bool], turned: Callable[[str], None] | None = None) -> None:
        super().__init__(name=name, daemon=True)
        self._step = step
        self._turned = turned
        self._stopping = threading.Event()
        self._idle_s = _IDLE_S

    def run(self) -> None:
        """Run until `stop`; an error that reaches this place is logged and the loop goes on."""
        while not self._stopping.is_set():
            self._idle_s = _IDLE_S
            attempt(self._once, self._failed, loop=self.name)
            self._stopping.wait(self._idle_s)

    def _once(self) -> None:
        if self._step():
            self._idle_s = 0.0
        if self._turned is not None:
            self._turned(self.name)

    def _failed(self, error: FirstlookError) -> None:
        _log.error("loop failed", extra={"loop": self.name, "reason": error.reason.value, "detail": error.detail})
        self._idle_s = _AFTER_ERROR_S

    def stop(self, timeout_s: float = 60.0) -> None:
        """Ask the loop to end after its present step, and wait for it."""
        self._stopping.set()
        if self.is_alive():
            self.join(timeout_s)


def when_changed(step: Callable[[], bool], changes: Callable[[], object | None],
                 clock: Callable[[], float] = time.monotonic) -> Callable[[], bool]:
    """Return a step that rests while nothing has changed since it found nothing to do, but for a second at most.

    changes: what differs when something has changed; None: nobody knows. What becomes due by the clock alone is so found up
    to a second late.
    """
    seen: object | None = None
    looked_at = 0.0

    def gated() -> bool:
        nonlocal seen, looked_at
        before, now = changes(), clock()  # what changes during the step is seen by the next one
        if before is not None and before == seen and now - looked_at < _REST_S:
            return False
        did = step()
        if not did:
            seen, looked_at = before, now
        return did

    return gated


def work_step(line: Line, kind: JobKind, target: str = "") -> Callable[[], bool]:
    """Return a step that takes one due job of this kind (and target), does it, and writes down what became of it."""

    def step() -> bool:
        job = line.queue.claim(kind, target)
        if job is None:
            return False
        _do(line, job)
        return True

    return step


def beside_step(line: Line) -> Callable[[], bool]:
    """Return a step that does one due look of a bundle that looks beside the active ones now."""

    def step() -> bool:
        with line.database.reading() as session:
            names = line.beside(session)
        return any(work_step(line, JobKind.SHADOW, name)() for name in names)

    return step


def _do(line: Line, job: Job) -> None:
    """Do one leased job, in a span of its study's trace, and put it down, whatever happened.

    Also when a full disk kept us from writing down how it ended: its lease then runs out, and it is taken again.
    """
    try:
        with line.database.reading() as session:
            study = session.get_one(Study, job.study_id)
        uid = study.study_instance_uid

        def work() -> None:
            with line.tracing.span(f"{job.kind} {job.target}".strip(), uid, job=job.id or 0, urgency=job.urgency):
                run(line, job, study)

        attempt(work, partial(fail, line, job), study=uid, job=job.id, kind=job.kind, target=job.target)
    finally:
        line.queue.put_down(job)


def passing_changes(line: Line) -> object | None:
    """Return what differs when a study may have come that passes the looks under way, or these have changed."""
    number, front = line.database.changes(), line.turns.front
    return None if number is None else (number, front, front and front.pace)


def passing_steps(line: Line, count: int) -> list[Callable[[], bool]]:
    """Return steps that look at a study only when it goes before all looks that are under way: it passes them.

    It is more urgent, or of the same urgency and quicker: a radiograph beside a CT, for that takes a moment and the CT
    seconds, and beside the documents of at most two others; a CT beside one whose first look is told, for its own first
    look, one at a time. With nothing under way the loop that takes everything is free, and these rest. Of those that are
    free only the first asks the database.
    """
    busy: set[int] = set()

    def step(number: int) -> bool:
        front = line.turns.front
        if front is None or any(before not in busy for before in range(number)):
            return False
        job = line.queue.claim(JobKind.INFER, above=front.urgency) if front.rank else None
        quicker = _quicker(line, front.urgency, front.pace) if job is None and front.urgency else ()
        if quicker:
            job = line.queue.claim(JobKind.INFER, of=front.urgency, kinds=quicker)
        if job is None:
            return False
        busy.add(number)
        try:
            _do(line, job)
        finally:
            busy.discard(number)
        return True

    return [partial(step, number) for number in range(count)]


def _quicker(line: Line, urgency: Urgency, pace: Pace) -> tuple[Kind, ...]:
    """Return the kinds of studies that pass a look of their urgency. pace: its."""
    if pace is Pace.MOMENT or line.turns.under_way_of(urgency, Pace.DOCUMENTS) >= _MOST_DOCUMENTS:
        return ()
    alone = pace is Pace.WHOLE and line.turns.under_way_of(urgency) == 1
    return (Kind.CXR, Kind.CT) if alone and line.first_look_mm else (Kind.CXR,)


def behind_step(line: Line) -> Callable[[], bool]:
    """Return a step that looks at what was fetched, and compares results anew, while nothing else is to be looked at."""

    def step() -> bool:
        if line.turns.front is not None or line.queue.is_due(JobKind.INFER):
            return False
        job = line.queue.claim(JobKind.INFER, BEHIND) or line.queue.claim(JobKind.REVISE)
        if job is None:
            return False
        _do(line, job)
        return True

    return step


def assemble_step(line: Line, assembler: Assembler) -> Callable[[], bool]:
    """Return a step that judges the open studies, the one that came last first, until something follows from one.

    What came meanwhile is then judged before the others: most of those wait to be complete, and that has time.
    """
    forgotten_at = 0.0

    def step() -> bool:
        nonlocal forgotten_at
        now = line.clock()
        if now - forgotten_at >= _FORGET_S:
            assembler.forget()
            forgotten_at = now
        acted: list[bool] = []
        for study in assembler.open():
            attempt(lambda s=study: acted.append(assembler.advance(s)),  # type: ignore[misc]
                    partial(give_up, line, study.id or 0), study=study.study_instance_uid)
            if any(acted):
                return True
        return False

    return step


def correct_step(line: Line) -> Callable[[], bool]:
    """Return a step that makes feedback of one object that was sent back."""

    def step() -> bool:
        found = waiting(line)
        if found is None:
            return False
        row, study = found
        attempt(partial(attach, line, row, study), partial(set_aside, line, row),
                study=study.study_instance_uid, correction=row.id)
        return True

    return step


def every(seconds: float, action: Callable[[], object], clock: Callable[[], float] = time.monotonic) -> Callable[[], bool]:
    """Return a step that does something once in so many seconds; after an error it is due at once."""
    due_at = clock()

    def step() -> bool:
        nonlocal due_at
        if clock() >= due_at:
            action()
            due_at = clock() + seconds
        return False

    return step
