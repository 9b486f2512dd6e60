"""How many images a session on a GPU is given at once: always the same number, filled up where there are fewer.

CUDA's convolutions are planned anew whenever the shape of their input changes, which takes longer than a thousand images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.domain.study import Kind
from service.infer.networks import Feed, Run

SIZES = {Kind.CT: (32,), Kind.CXR: (1, 8)}
"""Batches that sessions are made for. Slices come by the dozen, and what is filled up costs milliseconds; a radiograph
comes alone, or with those of other studies."""


def size_for(sizes: Sequence[int], images: int) -> int:
    """Return the size of batch for some images: the smallest that holds them all, else the largest."""
    return next((size for size in sorted(sizes) if size >= images), max(sizes))


def in_batches(run: Run, feed: Feed, size: int) -> dict[str, NDArray[Any]]:
    """Run a network on batches of one size; what it answers is that of the images that there are.

    feed: tensors, the images along their first axis; the last batch is filled up with its last image.
    Raises: what `run` raises; ValueError when an output that has no row for each image had to be put together from parts.
    """
    count = max((len(tensor) for tensor in feed.values()), default=0)
    parts = [run({name: _filled(tensor[first:first + size], size) for name, tensor in feed.items()})
             for first in range(0, max(count, 1), size)]
    return {name: _joined(name, [part[name] for part in parts], size, count) for name in parts[0]}


def _filled(tensor: NDArray[Any], size: int) -> NDArray[Any]:
    missing = size - len(tensor)
    return tensor if missing <= 0 or not len(tensor) else np.concatenate([tensor, np.repeat(tensor[-1:], missing, axis=0)])


def _joined(name: str, values: Sequence[NDArray[Any]], size: int, count: int) -> NDArray[Any]:
    if all(one.ndim and len(one) == size for one in values):
        return (np.concatenate(values) if len(values) > 1 else values[0])[:count]
    if len(values) > 1:
        raise ValueError(f"the output {name} has no row for each image")
    return values[0]
