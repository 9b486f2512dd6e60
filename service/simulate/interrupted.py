"""Readers who leave a study for a more urgent one and come back to it: the textbook's "preemptive resume"."""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

from service.domain.urgency import Urgency
from service.simulate.arrivals import Floats


def waits_when_interrupted(arrived_s: Floats, reading_s: Floats, rank: NDArray[np.int8], readers: int) -> Floats:
    """Return the wait of each study, (n,) seconds: its time on the list less its reading.

    arrived_s: ascending; rank: 0 is the most urgent, known on arrival. A study that is more urgent than one being read
    takes the place of the least urgent, latest of these at once; that one is resumed where it was left.
    """
    list_ = _List(arrived_s.tolist(), reading_s.tolist(), rank.tolist(), readers)
    for study, now in enumerate(arrived_s.tolist()):
        list_.finish_until(now)
        list_.arrive(study, now)
    list_.finish_until(np.inf)
    return np.array(list_.ended) - arrived_s - reading_s


class _List:
    """The state of the list: who waits, by rank, and who is being read until when."""

    def __init__(self, arrived: list[float], left: list[float], rank: list[int], readers: int) -> None:
        self._left, self._rank, self._readers = left, rank, readers
        self._waiting: list[list[int]] = [[] for _ in Urgency]
        self._read: list[tuple[float, int]] = []
        self.ended = [0.0] * len(arrived)

    def finish_until(self, now: float) -> None:
        """End the readings that are done by now; each reader goes on with the most urgent study that waits."""
        while self._read:
            end, study = min(self._read)
            if end > now:
                return
            self._read.remove((end, study))
            self.ended[study] = end
            self._begin_next(end)

    def arrive(self, study: int, now: float) -> None:
        """Put a study on the list, or before a reader who is free or at something less urgent."""
        rank = self._rank
        if len(self._read) >= self._readers:
            end, least = max(self._read, key=lambda one: (rank[one[1]], one[1]))
            if rank[least] <= rank[study]:
                heapq.heappush(self._waiting[rank[study]], study)
                return
            self._read.remove((end, least))
            self._left[least] = end - now
            heapq.heappush(self._waiting[rank[least]], least)
        self._read.append((now + self._left[study], study))

    def _begin_next(self, now: float) -> None:
        for heap in self._waiting:
            if heap:
                study = heapq.heappop(heap)
                self._read.append((now + self._left[study], study))
                return
