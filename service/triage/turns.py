"""Whose turn it is among the looks under way in this process: a more urgent one passes between two chunks of work."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import IntEnum

from service.domain.urgency import Urgency


class GaveWay(Exception):
    """Work ahead was dropped at a chunk of it, because a look that goes before it is under way."""


class PassedOver(Exception):
    """A look that stands behind all others has stood still for so long that it is to begin anew another time."""


class Pace(IntEnum):
    """How soon a look has something to say: what is quicker goes before the others of its urgency."""

    MOMENT = 0  # a radiograph, until what was found is told
    DOCUMENTS = 1  # a radiograph of which it is told
    FIRST = 2  # a CT, until its first look is told
    WHOLE = 3


_TOLD = {Pace.MOMENT: Pace.DOCUMENTS, Pace.FIRST: Pace.WHOLE}


@dataclass(eq=False)
class Turn:
    """A look under way. urgency: None stands behind every other; held_s: how long it has stood still, seconds; standing:
    threads that do now. ahead: work on images that still arrive; it goes after every look of its urgency, and is dropped
    where a look would stand still. pace: how soon it has something to say; of those that have said it, the one that is due
    first goes first. due_at: when its result is due, by the clock of the turns. lets_go: it
    ends rather than go on beside a more urgent one."""

    urgency: Urgency | None
    ahead: bool = False
    pace: Pace = Pace.WHOLE
    due_at: float = math.inf
    held_s: float = 0.0
    standing: int = 0
    since: float = 0.0
    lets_go: bool = False

    @property
    def rank(self) -> int:
        """Place in the order, 0 first."""
        return len(Urgency) if self.urgency is None else self.urgency.rank

    @property
    def place(self) -> tuple[int, bool, Pace, float]:
        """Rank, and of equals what is no work ahead first, of these what is quicker, of these what is due first."""
        return self.rank, self.ahead, self.pace, self.due_at if self.pace is Pace.WHOLE and not self.ahead else 0.0


class Turns:
    """The looks under way. Work is cut in chunks, and before each a look gives way to the more urgent ones.

    longest_hold_s: a look stands still no longer than this in all, however much comes that is more urgent; 0: it never
    does. clock: monotonic, seconds. Safe to call from several threads; threads that work for a look run in its context
    (`contextvars.copy_context`).
    """

    def __init__(self, longest_hold_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._longest_hold_s, self._clock = longest_hold_s, clock
        self._under_way: set[Turn] = set()
        self._changed = threading.Condition()
        self._mine: ContextVar[Turn | None] = ContextVar("turn", default=None)

    @property
    def under_way(self) -> frozenset[Turn]:
        """The looks under way."""
        with self._changed:
            return frozenset(self._under_way)

    @property
    def front(self) -> Turn | None:
        """The look under way that goes before the others; not work ahead, nor what stands behind all; None without one."""
        looks = (turn for turn in self.under_way if turn.urgency and not turn.ahead)
        return min(looks, key=lambda turn: turn.place, default=None)

    def under_way_of(self, urgency: Urgency, pace: Pace | None = None) -> int:
        """Return how many looks of an urgency are under way, at this pace or, with None, any; without work ahead."""
        return sum(turn.urgency is urgency and not turn.ahead and pace in (None, turn.pace) for turn in self.under_way)

    def has_told(self) -> None:
        """Say that the look which the caller works for has said the first that it has to say; the rest takes its time."""
        turn = self._mine.get()
        if turn is not None and turn.pace in _TOLD:
            with self._changed:
                turn.pace = _TOLD[turn.pace]
                self._changed.notify_all()

    def free_ahead(self, urgency: Urgency) -> bool:
        """Tell whether work ahead of this urgency would go on now: no look goes before it."""
        place = Turn(urgency, ahead=True).place
        return all(other.place >= place for other in self.under_way)

    def rank_here(self) -> int:
        """Return the rank of the look that the caller works for; behind every look outside of one."""
        turn = self._mine.get()
        return len(Urgency) if turn is None else turn.rank

    @contextmanager
    def taken(self, urgency: Urgency | None, ahead: bool = False, due_in_s: float = math.inf,
              lets_go: bool = False, pace: Pace = Pace.WHOLE) -> Iterator[Turn]:
        """Count what is done within as a look of this urgency; None: it gives way to every other.

        ahead: it is work ahead, and `give_way` raises GaveWay in it. due_in_s: seconds until its result is due. lets_go:
        where it would go on beside a more urgent one, `give_way` raises PassedOver instead. pace: see `Pace`.
        """
        turn = Turn(urgency, ahead, pace, self._clock() + due_in_s, lets_go=lets_go)
        with self._changed:
            self._under_way.add(turn)
        token = self._mine.set(turn)
        try:
            yield turn
        finally:
            self._mine.reset(token)
            with self._changed:
                self._under_way.discard(turn)
                self._changed.notify_all()

    def standing(self) -> tuple[int, float]:
        """Return the rank of the look that the caller works for, and the seconds until its result is due, 0 when it is.

        Outside of a look: behind every look, and no time to wait.
        """
        turn = self._mine.get()
        return (len(Urgency), 0.0) if turn is None else (turn.rank, max(0.0, turn.due_at - self._clock()))

    def give_way(self) -> None:
        """Wait while a more urgent look is under way; outside of a look, return at once. Called between chunks of work.

        Raises: GaveWay in work ahead, instead of waiting.
        """
        turn = self._mine.get()
        if turn is None:
            return
        with self._changed:
            if not self._outranked(turn):
                return
            if turn.ahead:
                raise GaveWay
            self._stand(turn)
            try:
                while self._outranked(turn) and (left_s := self._longest_hold_s - self._held_s(turn)) > 0:
                    self._changed.wait(left_s)
            finally:
                self._go_on(turn)
            if turn.lets_go and self._outranked(turn):
                raise PassedOver

    def pause(self) -> None:
        """Give way, but not in work ahead: near its end, to throw it away and do it again would cost more than it saves."""
        turn = self._mine.get()
        if turn is not None and not turn.ahead:
            self.give_way()

    def _outranked(self, turn: Turn) -> bool:
        return any(other.place < turn.place for other in self._under_way)

    def _stand(self, turn: Turn) -> None:
        if not turn.standing:
            turn.since = self._clock()
        turn.standing += 1

    def _go_on(self, turn: Turn) -> None:
        if turn.standing == 1:
            turn.held_s = self._held_s(turn)
        turn.standing -= 1

    def _held_s(self, turn: Turn) -> float:
        return turn.held_s + (self._clock() - turn.since if turn.standing else 0.0)
