"""Images that are safe on the disk and answered, and whose rows are still to be written: many in one transaction.

What is left to do for a large one before its row (its place in the spool, its sum) is done here too, by one thread, while
those who receive take the next one. Whatever ends the process, nothing is lost with it: the rows are made from the files at
the next start, the sender and the time of arrival too. While the database does not answer, nothing is added, and images are
answered when their row is there or not at all.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from service import logs
from service.errors import Unavailable
from service.receive.helper import Helper
from service.receive.tally import Tally
from service.store.intake import Arrival, Intake, Outcome

BATCH = 64
MOST_UNFINISHED, MOST_FINISHED = 16, 1024
LONGEST_S = 0.1
_HURRY = 8
_PAUSE_S = 0.01
_RETRY_S = 1.0
_log = logs.get("receive.backlog")


@dataclass(frozen=True)
class Entry:
    """One image to be written down, and the tally that is told."""

    arrival: Arrival
    tally: Tally


class Backlog:
    """The images to be written down. Every method may be called from any thread.

    settled: told what became of each when its row is committed.
    """

    def __init__(self, intake: Intake, settled: Callable[[Entry, Outcome], None]) -> None:
        self._intake, self._settled = intake, settled
        self._unfinished: deque[Callable[[], Entry | None]] = deque()
        self._finished: deque[Entry] = deque()
        self._waiting: deque[Entry] = deque()
        self._writing = threading.Lock()
        self._stuck = self._awake = False
        self._since = 0.0
        self._helper = Helper("backlog", self._follow)

    def start(self) -> None:
        """Begin to write down what nobody else does in LONGEST_S."""
        self._helper.start()

    def stop(self) -> None:
        """Write down what is left, as far as the database lets us; called when nothing is added any more."""
        self._helper.stop()
        self.write()

    @property
    def stuck(self) -> bool:
        """Whether the last try failed: then nothing more is to be added, and rows come before answers again."""
        return self._stuck

    def add(self, finish: Callable[[], Entry | None], here: bool = False) -> None:
        """Add an image. finish: does what is left to do for it, and returns its entry; None: that must wait for a start.

        here: it is done in this thread, as it is when the other one has fallen behind. Who adds faster than rows are written
        writes them too.
        """
        if here or len(self._unfinished) >= MOST_UNFINISHED:
            entry = finish()
            if entry is not None:
                self._finished.append(entry)
        else:
            self._unfinished.append(finish)
        if not self._awake or len(self._unfinished) == _HURRY:  # waking a thread costs more than what it does for one image
            self._helper.woken.set()
        if len(self._finished) > MOST_FINISHED:
            self.write()

    def write(self) -> None:
        """Write down all that waits, or wait for who does; what the database refuses goes on waiting."""
        with self._writing:
            self._finish()
            try:
                self._write()
            except Unavailable as error:
                if not self._stuck:
                    _log.error("rows of received images must wait", extra={"reason": error.reason, "detail": error.detail})
                self._stuck = True

    def _write(self) -> None:
        while self._waiting:
            entries = [self._waiting[n] for n in range(min(BATCH, len(self._waiting)))]
            try:
                self._record(entries)
            except Unavailable:
                self._record_singly(entries)
        self._stuck = False

    def _record(self, entries: list[Entry]) -> None:
        outcomes = self._intake.record_all([entry.arrival for entry in entries])
        for entry, outcome in zip(entries, outcomes, strict=True):
            self._waiting.remove(entry)
            self._settled(entry, outcome)

    def _record_singly(self, entries: list[Entry]) -> None:
        """Write down each for itself, so that one that cannot be holds up no other; the second failure ends it."""
        failures = 0
        for entry in entries:
            try:
                self._record([entry])
            except Unavailable:
                failures += 1
                self._waiting.rotate(-1)
                if failures == min(2, len(entries)):
                    raise

    def _finish(self) -> None:
        """Do for each image what is left to do before its row."""
        while self._unfinished:
            self._wait(self._unfinished.popleft()())
        while self._finished:
            self._wait(self._finished.popleft())

    def _wait(self, entry: Entry | None) -> None:
        """Have an entry wait for its turn."""
        if entry is not None:
            if not self._waiting:
                self._since = time.monotonic()
            self._waiting.append(entry)

    def _follow(self) -> None:
        """Write down a full batch, and what has waited for long enough."""
        woken, stopped = self._helper.woken, self._helper.stopped
        while not stopped.is_set():
            self._awake = False
            if not (self._unfinished or self._finished or self._waiting):
                woken.wait()
            self._awake = True
            woken.clear()
            with self._writing:
                self._finish()
            if len(self._waiting) >= BATCH or (self._waiting and self._left_s() <= 0):
                self.write()
                if self._stuck:
                    stopped.wait(_RETRY_S)
            else:
                woken.wait(_PAUSE_S)

    def _left_s(self) -> float:
        """Return for how long what waits may go on waiting, seconds."""
        return max(0.0, self._since + LONGEST_S - time.monotonic())
