"""Memory of volumes that is used again: fresh memory of a volume can cost as much time as decoding it.

On a virtual machine whose host takes back what is free, a page that nobody has used for some seconds costs more than fifteen
times as much as one that was in use just now.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

_LEAST_BYTES = 1_048_576  # what is smaller the allocator keeps by itself


class Room:
    """Hands out arrays, and takes their memory back when nothing refers to them any more. Safe to share between threads.

    most_bytes: so much is kept at most while nobody uses it; kept_s: and for so long, seconds. clock: monotonic, seconds.
    """

    def __init__(self, most_bytes: int = 2**30, kept_s: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._most_bytes, self._kept_s, self._clock = most_bytes, kept_s, clock
        self._spare: list[tuple[float, NDArray[np.uint8]]] = []
        self._returned: deque[tuple[float, NDArray[np.uint8]]] = deque()
        self._lock = threading.Lock()

    @property
    def spare_bytes(self) -> int:
        """Memory that is kept and not in use, bytes."""
        with self._lock:
            self._sort_in()
            return sum(memory.nbytes for _, memory in self._spare)

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return an array whose values are not set, as numpy's `empty`."""
        wanted, size_bytes = np.dtype(dtype), prod(shape) * np.dtype(dtype).itemsize
        if size_bytes < _LEAST_BYTES:
            return np.empty(shape, wanted)
        with self._lock:
            self._sort_in()
            fitting = [k for k, (_, memory) in enumerate(self._spare) if size_bytes <= memory.nbytes <= 2 * size_bytes]
            best = min(fitting, key=lambda k: self._spare[k][1].nbytes, default=None)
            memory = np.empty(size_bytes, np.uint8) if best is None else self._spare.pop(best)[1]
        whole = np.frombuffer(memory.data, wanted, prod(shape))  # every view of it refers to it, and so it ends last
        weakref.finalize(whole, self._take_back, memory).atexit = False
        return whole.reshape(shape)

    def zeros(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return an array of zeros."""
        made = self.empty(shape, dtype)
        made[...] = 0
        return made

    def shrink(self) -> None:
        """Let go of what nobody has used for long."""
        limit = self._clock() - self._kept_s
        with self._lock:
            self._sort_in()
            self._spare = [(given_at, memory) for given_at, memory in self._spare if given_at > limit]

    def _take_back(self, memory: NDArray[np.uint8]) -> None:
        """Called when an array ends, at any moment in any thread, also one that holds the lock: so it takes none."""
        self._returned.append((self._clock(), memory))

    def _sort_in(self) -> None:
        while self._returned:
            self._spare.append(self._returned.popleft())
        while sum(one.nbytes for _, one in self._spare) > self._most_bytes:
            self._spare.pop(0)


SPARE = Room()
"""The room of this process."""
