"""The models' queue: earliest deadline first, by the service's own rule; one study to an engine, to its end."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.domain.order import deadline_at
from service.simulate.arrivals import Floats, Workload


@dataclass(frozen=True, eq=False)
class Looked:
    """When the models began with each study and when they had its result, (n,) seconds; NaN where they fail.

    passed: (n,) how many less urgent studies that were queued earlier it overtook.
    """

    started_s: Floats
    result_s: Floats
    passed: NDArray[np.int64]


def look(load: Workload, targets_s: Sequence[float], engines: int) -> Looked:
    """Run the studies through the models' queue.

    A study is queued when it is complete; a study whose look fails takes its time and gives no result.
    """
    ranked = zip(load.arrived_s.tolist(), load.ordered_rank.tolist(), strict=True)
    deadlines = [deadline_at(arrived_s, targets_s[rank]) for arrived_s, rank in ranked]
    queued, compute = load.queued_s.tolist(), load.compute_s.tolist()
    coming = np.argsort(load.queued_s, kind="stable").tolist()
    free = [0.0] * engines
    waiting: list[tuple[float, int]] = []
    started = [0.0] * load.size
    arrived = 0
    for _ in range(load.size):
        now = heapq.heappop(free)
        if not waiting:
            now = max(now, queued[coming[arrived]])
        while arrived < load.size and queued[coming[arrived]] <= now:
            heapq.heappush(waiting, (deadlines[coming[arrived]], coming[arrived]))
            arrived += 1
        _, study = heapq.heappop(waiting)
        started[study] = now
        heapq.heappush(free, now + compute[study])
    began = np.array(started)
    result = np.where(load.failed, np.nan, began + load.compute_s)
    return Looked(began, result, overtakes(load.queued_s, began, load.ordered_rank))


def overtakes(queued_s: Floats, started_s: Floats, rank: NDArray[np.integer]) -> NDArray[np.int64]:
    """Count for each study the less urgent ones that were queued earlier and begun later.

    queued_s, started_s: (n,) seconds; rank: (n,), 0 is the most urgent. A study that never waited passed nobody.
    """
    passed = np.zeros(queued_s.size, np.int64)
    order = np.argsort(queued_s, kind="stable")
    queued, started, ranks = queued_s[order], started_s[order], rank[order]
    open_until = np.maximum.accumulate(started)  # nobody queued before place i is still open after this
    for i in np.flatnonzero(np.concatenate([[False], open_until[:-1] > queued[1:]])):
        first = int(np.searchsorted(open_until, queued[i], side="right"))
        before = slice(first, i)
        passed[order[i]] = np.count_nonzero((started[before] > started[i]) & (ranks[before] > ranks[i]))
    return passed
