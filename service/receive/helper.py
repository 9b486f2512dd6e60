"""A thread beside those that receive: what need not be done before an answer is done in it."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Helper:
    """Runs `work` in a thread of its own, from `start` to `stop`.

    work: returns soon after `stopped` is set. Who has something for it sets `woken`, and so does `stop`.
    """

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        self.woken, self.stopped = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=work, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Have the work end, and wait for that; where it never began there is nothing to wait for."""
        self.stopped.set()
        self.woken.set()
        if self._thread.is_alive():
            self._thread.join()
