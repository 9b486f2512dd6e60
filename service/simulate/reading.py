"""The readers and their list: who is read when, under one policy. A reading is never interrupted."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from service.domain.order import ReadingOrder
from service.domain.urgency import Urgency
from service.simulate.arrivals import HOUR_S, Floats, Workload
from service.simulate.department import HOURS

_RANKS = len(Urgency)


class Policy(StrEnum):
    """How the reading list is ordered.

    FIFO: by arrival, nothing else. FLAG: by arrival, with a flag beside the study; a reader takes a flagged study out of
    turn only as often as the department says. ORDERED: by ordered urgency, without AI. UNCAPPED: by ordered urgency,
    raised by AI. OURS: the same, with a cap on the wait.
    """

    FIFO = "fifo"
    FLAG = "flag"
    ORDERED = "ordered"
    UNCAPPED = "uncapped"
    OURS = "ours"

    @property
    def called(self) -> str:
        """A short name for people."""
        return _TITLES[self.value]


_TITLES = {"fifo": "first come", "flag": "flag only", "ordered": "as ordered", "uncapped": "our order, no cap",
           "ours": "our order"}


@dataclass(frozen=True)
class Rota:
    """How many read in each hour of the week. Place k of the rota is filled in the hours with more than k readers."""

    readers: tuple[int, ...]

    def next_on_duty(self, place: int, at_s: float) -> float:
        """Return when a place is filled next, at_s itself when it is now."""
        hour = int(at_s // HOUR_S)
        if self.readers[hour % HOURS] > place:
            return at_s
        while self.readers[hour % HOURS] <= place:
            hour += 1
        return hour * HOUR_S


def read(load: Workload, result_s: Floats, policy: Policy, readers: Sequence[int], longest_wait_s: float) -> Floats:
    """Return when the reading of each study begins, (n,) seconds.

    result_s: (n,) when the AI's result is on the list, NaN: never. A study is on the list from its first image on, at
    the urgency that was ordered, and may be read before the AI has looked.
    """
    ranks, raised = _ranks(load, policy)
    changes = np.flatnonzero(raised & ~np.isnan(result_s))
    changes = changes[np.argsort(result_s[changes], kind="stable")]
    order = ReadingOrder(longest_wait_s if policy is Policy.OURS else 0.0)
    told = (result_s[changes].tolist(), changes.tolist(), np.minimum(load.flag_rank, _RANKS - 1).tolist())
    return np.array(_run(load.arrived_s.tolist(), load.reading_s.tolist(), ranks, told, order, Rota(tuple(readers))))


def _ranks(load: Workload, policy: Policy) -> tuple[list[int], np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """Return the rank of each study on arrival, and which studies the AI moves up when it has looked."""
    if policy in (Policy.FIFO, Policy.FLAG):
        moved = load.flagged & load.noticed if policy is Policy.FLAG else np.zeros(load.size, bool)
        return [_RANKS - 1] * load.size, moved
    moved = np.zeros(load.size, bool) if policy is Policy.ORDERED else load.flag_rank < load.ordered_rank
    return load.ordered_rank.tolist(), moved


def _run(arrived: list[float], reading: list[float], rank: list[int], told: tuple[list[float], list[int], list[int]],
         order: ReadingOrder, rota: Rota) -> list[float]:
    """Let the readers work the list off. One heap for each rank, of places in the order of arrival; a study that moves up
    lies in two heaps, and is passed over in the lower one once it is read."""
    told_s, told_of, told_rank = told
    waiting: list[list[int]] = [[] for _ in range(_RANKS)]
    started = [-1.0] * len(arrived)
    free = [(rota.next_on_duty(place, 0.0), place) for place in range(max(rota.readers))]
    heapq.heapify(free)
    push, pop = heapq.heappush, heapq.heappop
    came = heard = done = 0
    while done < len(arrived):
        now, place = pop(free)
        if done == came and arrived[came] > now:  # nobody waits
            now = arrived[came]
        on_duty = rota.next_on_duty(place, now)
        if on_duty > now:
            push(free, (on_duty, place))
            continue
        while came < len(arrived) and arrived[came] <= now:
            push(waiting[rank[came]], came)
            came += 1
        while heard < len(told_s) and told_s[heard] <= now:
            study = told_of[heard]
            if started[study] < 0:
                push(waiting[told_rank[study]], study)
            heard += 1
        study = _take(waiting, arrived, started, order, now)
        started[study] = now
        done += 1
        push(free, (now + reading[study], place))
    return started


def _take(waiting: list[list[int]], arrived: list[float], started: list[float], order: ReadingOrder, now: float) -> int:
    """Take the next study off the list: of each rank the one that has waited longest, of these the one with the lowest
    rank by now, or the longest wait among equals."""
    best, best_rank, chosen = -1, _RANKS, waiting[0]
    for rank, heap in enumerate(waiting):
        while heap and started[heap[0]] >= 0:
            heapq.heappop(heap)
        if heap:
            by_now = order.rank(rank, now - arrived[heap[0]])
            if by_now < best_rank or (by_now == best_rank and heap[0] < best):
                best, best_rank, chosen = heap[0], by_now, heap
    heapq.heappop(chosen)
    return best
