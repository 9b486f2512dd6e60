"""Which associations are open, which studies they have touched, and whether one is in the middle of a store."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field

from service.errors import Reason


@dataclass
class _Open:
    """One open association: counts by study and outcome; since: Unix time; busy while a store is being answered."""

    calling_aet: str
    since: float = field(default_factory=time.time)
    studies: dict[str, Counter[str]] = field(default_factory=dict)
    busy: bool = False


@dataclass(frozen=True)
class Closed:
    """What one association brought: for each Study Instance UID, how many instances by outcome. since: Unix time."""

    calling_aet: str
    studies: dict[str, dict[str, int]]
    since: float = 0.0


class Ledger:
    """The open associations. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._open: dict[Hashable, _Open] = {}
        self._changed = threading.Condition()

    def open(self, association: Hashable, calling_aet: str) -> None:
        """Enter an association that was accepted."""
        with self._changed:
            self._open[association] = _Open(calling_aet)

    def close(self, association: Hashable) -> Closed | None:
        """Strike out an association; None when it was never accepted."""
        with self._changed:
            entry = self._open.pop(association, None)
            self._changed.notify_all()
        if entry is None:
            return None
        return Closed(entry.calling_aet, {uid: dict(counts) for uid, counts in entry.studies.items()},
                      entry.since)

    def touch(self, association: Hashable, study_instance_uid: str) -> None:
        """Note that an association is bringing images of a study, before the first is written down."""
        with self._changed:
            entry = self._open.get(association)
            if entry is not None and study_instance_uid not in entry.studies:
                entry.studies[study_instance_uid] = Counter()

    def count(self, association: Hashable, study_instance_uid: str, outcome: str) -> None:
        """Count one instance of a study by what became of it."""
        with self._changed:
            entry = self._open.get(association)
            if entry is None:
                return
            if study_instance_uid not in entry.studies:
                entry.studies[study_instance_uid] = Counter()
            entry.studies[study_instance_uid][outcome] += 1

    def has_brought(self, association: Hashable, study_instance_uid: str) -> bool:
        """Tell whether an image of a study that an open association brought was written down already."""
        with self._changed:
            return association in self._open and bool(self._open[association].studies.get(study_instance_uid))

    def begin_store(self, association: Hashable) -> None:
        """Note that a store is under way on an association."""
        self._set_busy(association, True)

    def end_store(self, association: Hashable) -> None:
        """Note that the answer to a store was handed to the network."""
        self._set_busy(association, False)

    def open_studies(self) -> frozenset[str]:
        """Return the Study Instance UIDs that open associations have touched."""
        with self._changed:
            return frozenset(uid for entry in self._open.values() for uid in entry.studies)

    def wait_until_idle(self, association: Hashable, timeout_s: float) -> bool:
        """Wait until no store is under way on an association; False when the time is up first."""
        with self._changed:
            return self._changed.wait_for(
                lambda: association not in self._open or not self._open[association].busy, timeout_s)

    def wait_until_empty(self, timeout_s: float) -> bool:
        """Wait until every association is closed; False when the time is up first."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            return self._changed.wait_for(lambda: not self._open, max(0.0, deadline - time.monotonic()))

    def _set_busy(self, association: Hashable, busy: bool) -> None:
        with self._changed:
            if association in self._open:
                self._open[association].busy = busy
                self._changed.notify_all()


def told(calling_aet: str, counts: Mapping[str, int], ending: str) -> str:
    """Return the line on the trace of a study that an association brought: its images by outcome, and how it ended."""
    text = (f"{_number(counts, 'stored', 'image')} received from {calling_aet}, "
            f"{_number(counts, 'duplicate', 'duplicate')}; {ending}")
    if counts.get("quarantined"):
        text += f"; {counts['quarantined']} set aside: {Reason.CHANGED_DUPLICATE.sentence}"
    return text


def _number(counts: Mapping[str, int], outcome: str, noun: str) -> str:
    count = counts.get(outcome, 0)
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
