"""Of which studies images are being sent right now, told by each listener to all who judge studies, over the database."""

from __future__ import annotations

import threading
from collections.abc import Callable

from sqlalchemy import delete
from sqlmodel import col, select

from service.store.database import Database
from service.store.tables import SendingNow

_HOLDS_S = 10.0  # what a listener told holds for so long, should it be lost
_AGAIN_S = 3.0
_KNOWN_S = 0.5
KNOWN_AFTER_S = 1.0  # so long after its first image a study is known at all processes: told within 0.1 s, and _KNOWN_S
_SKEW_S = 60.0  # a moment further ahead is that of a clock that was put back


class Sending:
    """The studies of which an association is open, here and at other listeners. Safe to share between threads.

    process: the name of this process; clock: Unix time, seconds; here: those of this process.
    """

    def __init__(self, database: Database, process: str, clock: Callable[[], float],
                 here: Callable[[], frozenset[str]]) -> None:
        self._database, self._process, self._clock, self._here = database, process, clock, here
        self._told: tuple[float, frozenset[str]] = (0.0, frozenset())
        self._known: tuple[float, frozenset[str]] = (0.0, frozenset())
        self._lock = threading.Lock()

    def tell(self) -> bool:
        """Tell the others, when it changed or some seconds after; a step of a loop."""
        now, here = self._clock(), self._here()
        at, told = self._told
        if here != told or (here and not 0 <= now - at < _AGAIN_S):
            with self._database.transaction() as session:
                session.execute(delete(SendingNow).where(col(SendingNow.process) == self._process))
                session.add_all(SendingNow(process=self._process, study_instance_uid=uid, until_at=now + _HOLDS_S)
                                for uid in here)
            self._told = now, here
        return False

    def open_studies(self) -> frozenset[str]:
        """Return the Study Instance UIDs of which images are being sent, to any listener."""
        return self._here() | self._written()

    def _written(self) -> frozenset[str]:
        now = self._clock()
        with self._lock:
            at, known = self._known
            if not 0 <= now - at < _KNOWN_S:
                with self._database.reading() as session:
                    known = frozenset(session.exec(select(SendingNow.study_instance_uid).where(
                        col(SendingNow.until_at) > now, col(SendingNow.until_at) < now + _HOLDS_S + _SKEW_S)).all())
                self._known = now, known
            return known
