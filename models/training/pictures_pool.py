"""A pool of pictures made beforehand on every core, from which a sampler draws on the device that trains."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Made = TypeVar("_Made")


def made(make: Callable[[int], _Made], count: int, workers: int | None = None) -> list[_Made]:
    """Return make(0) ... make(count - 1), made by threads: OpenCV and NumPy, which take the time, let go of the lock.

    make: must draw from a generator seeded by its number alone, so that the pool does not depend on how many cores made it.
    """
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as threads:
        return list(threads.map(make, range(count)))


def bytes_of(grey: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Grey values 0..1 as 8 bits."""
    return np.rint(np.clip(grey, 0.0, 1.0) * 255.0).astype(np.uint8)
