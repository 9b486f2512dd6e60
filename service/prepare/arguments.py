"""Checked access to the arguments that a manifest gives the preparation steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.domain.manifest import InvalidManifest

Plane = NDArray[np.float32]
"""One slice or one radiograph: (y, x) float32."""

Parameters = Mapping[str, Any]
"""A manifest's `[parameters]`."""

Step = Callable[[Plane, Parameters], Plane]
"""One preparation step."""


def number(parameters: Parameters, key: str, low: float, high: float) -> float:
    """Return the number under a key.

    Raises: InvalidManifest when it is missing, not a number or outside low..high.
    """
    value = parameters.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise InvalidManifest(f"parameter {key} must be a number from {low} to {high}, got {value!r}")
    return float(value)


def interval(parameters: Parameters, key: str) -> tuple[float, float]:
    """Return the pair [low, high] under a key, low below high.

    Raises: InvalidManifest when it is missing or not such a pair.
    """
    value = parameters.get(key)
    pair = [float(v) for v in value] if isinstance(value, (list, tuple)) else []
    if len(pair) != 2 or not pair[0] < pair[1]:
        raise InvalidManifest(f"parameter {key} must be [low, high], got {value!r}")
    return pair[0], pair[1]


def run_steps(plane: Plane, steps: Sequence[str], table: Mapping[str, Step], parameters: Parameters) -> Plane:
    """Apply the named steps in order and return the prepared plane.

    Raises: InvalidManifest for a name that is not in the table, and for whatever a step finds wrong.
    """
    unknown = [name for name in steps if name not in table]
    if unknown:
        raise InvalidManifest(f"unknown preparation step {unknown[0]!r}; accepted: {', '.join(table)}")
    for name in steps:
        plane = table[name](plane, parameters)
    return plane
