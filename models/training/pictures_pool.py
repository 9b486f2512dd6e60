"""A pool of pictures made beforehand on every core, from which a sampler draws on the device that trains."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_MAKE: dict[str, Callable[[int], Any]] = {}


def made(make: Callable[[int], Any], count: int, workers: int | None = None) -> list[Any]:
    """Return make(0), make(1), ... make(count - 1), made by forked processes; `make` may close over large arrays.

    make: must draw from a generator seeded by its number alone, so that the pool does not depend on how many cores made it.
    """
    workers = workers or os.cpu_count() or 1
    if workers == 1 or count < 64:
        return [make(number) for number in range(count)]
    _MAKE["now"] = make
    with multiprocessing.get_context("fork").Pool(workers, initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        return pool.map(_call, range(count), chunksize=max(1, min(32, count // (4 * workers))))


def _call(number: int) -> Any:
    return _MAKE["now"](number)


def bytes_of(grey: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Grey values 0..1 as 8 bits."""
    return np.rint(np.clip(grey, 0.0, 1.0) * 255.0).astype(np.uint8)


def stacked(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Put pictures of one size together: (n, y, x)."""
    return np.stack(list(pictures))
