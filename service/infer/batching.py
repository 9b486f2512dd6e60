"""What several looks ask of one network at the same time is run together, in one batch."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.infer.networks import Feed, Run


@dataclass(eq=False)
class _Asked:
    """One question. due: until when it waits for others, monotonic seconds; rank: 0 goes first."""

    feed: Feed
    count: int
    kind: tuple[object, ...]
    rank: int
    due: float
    answer: dict[str, NDArray[Any]] | None = None
    error: Exception | None = None
    ended: bool = field(default=False)


class Batcher:
    """Runs a network for callers in several threads, one batch after the other, the most urgent question first.

    run: the network; its first axis is free. most: images in one batch; a question with more is run alone. wait_s: so long a
    batch that is not full waits for more. clock: monotonic, seconds.
    """

    def __init__(self, run: Run, most: int, wait_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._run, self._most, self._wait_s, self._clock = run, most, wait_s, clock
        self._waiting: list[_Asked] = []
        self._busy = False
        self._changed = threading.Condition()

    def run(self, feed: Feed, rank: int = 0, patience_s: float = float("inf")) -> dict[str, NDArray[Any]]:
        """Run the network on one caller's tensors, with those of others where they fit.

        rank: of the caller's urgency, 0 goes first; patience_s: it waits for others no longer than this.
        Raises: what the network raises.
        """
        count = max((len(tensor) for tensor in feed.values()), default=0)
        kind = tuple((name, tensor.shape[1:], tensor.dtype) for name, tensor in sorted(feed.items()))
        asked = _Asked(feed, count, kind, rank, self._clock() + max(0.0, min(self._wait_s, patience_s)))
        with self._changed:
            self._waiting.append(asked)
            self._changed.notify_all()
            while not asked.ended:
                batch = self._next()
                if batch:
                    self._lead(batch)
                else:
                    self._changed.wait(self._pause_s())
        if asked.error is not None:
            raise asked.error
        return asked.answer or {}

    def _next(self) -> list[_Asked]:
        """Return the questions to run now: those like the most urgent one, when they are enough or have waited enough."""
        if self._busy or not self._waiting:
            return []
        ordered = sorted(self._waiting, key=lambda one: one.rank)  # of equals the first that came
        batch, images, full = [ordered[0]], ordered[0].count, False
        for one in ordered[1:]:
            if one.kind == batch[0].kind:
                if images + one.count > self._most:
                    full = True
                    break
                batch.append(one)
                images += one.count
        due = min(one.due for one in batch)
        return batch if full or images >= self._most or self._clock() >= due else []

    def _pause_s(self) -> float | None:
        """Return how long to wait at most before `_next` may say something else; None: until something changes."""
        if self._busy or not self._waiting:
            return None
        return max(0.0, min(one.due for one in self._waiting) - self._clock())

    def _lead(self, batch: Sequence[_Asked]) -> None:
        """Run a batch for its callers; the lock is held on entry and on return, and not meanwhile."""
        for one in batch:
            self._waiting.remove(one)
        self._busy = True
        self._changed.release()
        try:
            _answer(batch, self._run)
        finally:
            self._changed.acquire()
            self._busy = False
            for one in batch:
                one.ended = True
            self._changed.notify_all()


def _answer(batch: Sequence[_Asked], run: Run) -> None:
    try:
        if len(batch) == 1:
            batch[0].answer = run(batch[0].feed)
            return
        said = run({name: np.concatenate([one.feed[name] for one in batch]) for name in batch[0].feed})
        for one, answer in zip(batch, _parted(said, [one.count for one in batch]), strict=True):
            one.answer = answer
    except Exception as error:  # noqa: BLE001 - each caller raises it again
        for one in batch:
            one.error = error


def _parted(said: Mapping[str, NDArray[Any]], counts: Sequence[int]) -> list[dict[str, NDArray[Any]]]:
    ends = np.cumsum(counts)
    for name, values in said.items():
        if len(values) != ends[-1]:
            raise ValueError(f"the output {name} has {len(values)} rows for {ends[-1]} images")
    parts = {name: np.split(values, ends[:-1]) for name, values in said.items()}
    return [{name: parts[name][k] for name in said} for k in range(len(counts))]
