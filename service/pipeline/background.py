"""Threads of a look: what is done beside it; and what takes seconds, behind what takes a moment.

The threads of a look at a CT are the last that the system lets run.

A look at a CT gives way to a more urgent one between two chunks of work; what it does within one, and while it measures and
reports, would still share the processor evenly with a radiograph beside it.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Generic, TypeVar

Result = TypeVar("Result")
_NICENESS = 10


def step_back() -> None:
    """Let the calling thread, and those that it starts, run behind all others; there is no way back.

    Only on Linux, where a thread has a priority of its own.
    """
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, 0, max(_NICENESS, os.getpriority(os.PRIO_PROCESS, 0)))


def in_background(act: Callable[[], Result]) -> Result:
    """Do something in the caller's context, on a thread that has stepped back; return its result.

    Raises: what it raises.
    """
    with ThreadPoolExecutor(1, "background", initializer=step_back) as pool:
        return pool.submit(copy_context().run, act).result()


class Beside(Generic[Result]):
    """Something that is done once, on a thread of its own, in the context of who made this.

    Used with `with`; on leaving it has ended, if it was begun. Safe to call from several threads.
    """

    def __init__(self, act: Callable[[], Result]) -> None:
        self._act = partial(copy_context().run, act)
        self._pool = ThreadPoolExecutor(1, "beside")
        self._lock = threading.Lock()
        self._done: Future[Result] | None = None

    def __enter__(self) -> Beside[Result]:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def begin(self) -> Beside[Result]:
        """Begin, unless it was begun before."""
        with self._lock:
            if self._done is None:
                self._done = self._pool.submit(self._act)
        return self

    def result(self) -> Result:
        """Wait for it, and return its result.  Raises: what it raised."""
        self.begin()
        assert self._done is not None
        return self._done.result()


def stepped_back(step: Callable[[], bool]) -> Callable[[], bool]:
    """Return the step of a loop whose thread steps back before the first one."""
    waiting = [step_back]

    def behind() -> bool:
        while waiting:
            waiting.pop()()
        return step()

    return behind
