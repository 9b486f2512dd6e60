"""Work that may hang is done by another thread, and given up when it takes too long."""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

Result = TypeVar("Result")
_GRACE_S = 5.0


class Hung(Exception):
    """Work did not end within its time, and did not stop when it was told to."""


class _Hand:
    """A thread that does one thing at a time. It is a daemon: one that hangs holds up no exit."""

    def __init__(self, niceness: int) -> None:
        self._niceness = niceness
        self._tasks: queue.SimpleQueue[tuple[Callable[[], Any], _Task]] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="session", daemon=True).start()

    def begin(self, act: Callable[[], Any]) -> _Task:
        task = _Task()
        self._tasks.put((act, task))
        return task

    def _work(self) -> None:
        if self._niceness and sys.platform == "linux":  # where a thread has a priority of its own
            os.setpriority(os.PRIO_PROCESS, 0, max(self._niceness, os.getpriority(os.PRIO_PROCESS, 0)))
        while True:
            act, task = self._tasks.get()
            try:
                task.result = act()
            except BaseException as error:  # noqa: BLE001 - it is raised again where it was asked for
                task.error = error
            del act
            task.ended.set()
            del task


class _Task:
    def __init__(self) -> None:
        self.ended = threading.Event()
        self.result: Any = None
        self.error: BaseException | None = None


class Guard:
    """Does work within a time. Safe to call from several threads; each call has a thread of its own.

    limit_s: seconds; 0: no limit, and the caller's own thread does the work. grace_s: what is told to stop may take so
    long. niceness: of those threads, on Linux.
    """

    def __init__(self, limit_s: float, grace_s: float = _GRACE_S, niceness: int = 0) -> None:
        self._limit_s, self._grace_s, self._niceness = limit_s, grace_s, niceness
        self._idle: list[_Hand] = []
        self._lock = threading.Lock()

    def run(self, act: Callable[[], Result], stop: Callable[[], None]) -> Result:
        """Do some work and return its result. stop: called when the time is over; the work should then end soon.

        Raises: what the work raises; Hung when its time was over, whether it stopped then or not.
        """
        if not self._limit_s:
            return act()
        with self._lock:
            hand = self._idle.pop() if self._idle else _Hand(self._niceness)
        task = hand.begin(act)
        in_time = task.ended.wait(self._limit_s)
        if not in_time:
            stop()
            if not task.ended.wait(self._grace_s):  # its thread is left to itself
                raise Hung(f"no answer within {self._limit_s:g} s")
        with self._lock:
            self._idle.append(hand)
        if not in_time:
            raise Hung(f"no answer within {self._limit_s:g} s")
        if task.error is not None:
            raise task.error
        result: Result = task.result
        return result
