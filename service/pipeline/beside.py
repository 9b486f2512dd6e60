"""What is done beside a look, on a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Generic, TypeVar

Result = TypeVar("Result")


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
        self._begun()
        return self

    def result(self) -> Result:
        """Wait for it, begun now where it was not before, and return its result.  Raises: what it raised."""
        return self._begun().result()

    def _begun(self) -> Future[Result]:
        with self._lock:
            if self._done is None:
                self._done = self._pool.submit(self._act)
            return self._done
