"""Who gets the next free session: the most urgent of those who wait, and of equals the first."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections import deque
from typing import Generic, TypeVar

Slot = TypeVar("Slot")


class Slots(Generic[Slot]):
    """Slots that are handed out one caller at a time. Safe to call from several threads."""

    def __init__(self) -> None:
        self._free: deque[Slot] = deque()
        self._waiting: list[tuple[int, int]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()

    def give(self, slot: Slot) -> None:
        """Hand a slot to the first who waits, now or later."""
        with self._changed:
            self._free.append(slot)
            self._changed.notify_all()

    def take(self, rank: int, timeout_s: float) -> Slot | None:
        """Wait for a slot and return it; None when the time is over. rank: 0 is handed a slot before all others."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            place = rank, next(self._numbers)
            heapq.heappush(self._waiting, place)
            try:
                while not self._free or self._waiting[0] != place:
                    left_s = deadline - time.monotonic()
                    if left_s <= 0:
                        return None
                    self._changed.wait(left_s)
                return self._free.popleft()
            finally:
                self._waiting.remove(place)
                heapq.heapify(self._waiting)
                self._changed.notify_all()
