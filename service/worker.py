"""The loops: one watches for complete studies, the others take jobs. The one broad `except` of the house is here."""

from __future__ import annotations

import threading
from collections.abc import Callable

from service import logs
from service.assemble.complete import QuietTimes, why_complete
from service.domain.job import JobKind
from service.errors import Defect, FirstlookError, Reason
from service.pipeline.admit import admit
from service.pipeline.line import Line
from service.pipeline.run import fail, run
from service.pipeline.watch import watch
from service.store.studies import receiving

_log = logs.get("worker")
_IDLE_S = 0.1  # how long an idle loop waits before it looks again
_WATCH_S = 5.0


class Loop(threading.Thread):
    """Calls `step` until stopped; a step returns True when it did something and wants to be called again at once."""

    def __init__(self, name: str, step: Callable[[], bool]) -> None:
        super().__init__(name=name, daemon=True)
        self._step = step
        self._stopping = threading.Event()

    def run(self) -> None:
        """Run until `stop`; an error that reaches this place is logged and the loop goes on."""
        while not self._stopping.is_set():
            try:
                busy = self._step()
            except Exception:  # the broad except of the house: a loop must outlive any defect
                _log.exception("loop failed", extra={"loop": self.name})
                busy = False
                self._stopping.wait(1.0)
            if not busy:
                self._stopping.wait(_IDLE_S)

    def stop(self, timeout_s: float = 60.0) -> None:
        """Ask the loop to end after its present step, and wait for it."""
        self._stopping.set()
        if self.is_alive():
            self.join(timeout_s)


def work_step(line: Line, kind: JobKind, target: str = "") -> Callable[[], bool]:
    """Return a step that takes one due job of this kind (and target), does it, and writes down what became of it."""

    def step() -> bool:
        job = line.queue.claim(kind, target)
        if job is None:
            return False
        try:
            run(line, job)
        except FirstlookError as error:
            fail(line, job, error)
        except Exception as error:  # a defect of ours, in one job: the worker lives, the job is tried again or parked
            _log.exception("defect", extra={"job": job.id, "kind": job.kind})
            fail(line, job, Defect(Reason.INTERNAL_ERROR, type(error).__name__))
        return True

    return step


def assemble_step(line: Line, quiet: QuietTimes, open_studies: Callable[[], frozenset[str]]) -> Callable[[], bool]:
    """Return a step that admits every study that is complete by now, and refreshes the gauges now and then."""
    watched_at = 0.0

    def step() -> bool:
        nonlocal watched_at
        now = line.clock()
        if now - watched_at >= _WATCH_S:
            watch(line)
            watched_at = now
        admitted = False
        with line.database.reading() as session:
            candidates = receiving(session)
        for study in candidates:
            still_open = study.study_instance_uid in open_studies()
            why = why_complete(
                study.modality, study.first_received_at if study.revision == 0 else study.last_received_at,
                study.last_received_at, still_open, now, quiet)
            if why:
                admit(line, study.id or 0, why)
                admitted = True
        return admitted

    return step
