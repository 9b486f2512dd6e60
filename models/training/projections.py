"""Projections of CT volumes, frontal and lateral: what stands in for the lateral radiographs that the data lack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SIDE = 112
A_VOLUME = 24


@dataclass(frozen=True, eq=False)
class Views:
    """Projections as shown, bright = dense: each (y, x) float32 in 0..1."""

    frontal: list[NDArray[np.float32]]
    lateral: list[NDArray[np.float32]]


def views_of(volumes: Sequence[NDArray[Any]], seed: int) -> Views:
    """Project each volume from A_VOLUME angles around the long axis: within 15 degrees of the front and of the side.

    volumes: (z, y, x), head first, attenuation in any unit, 0 = air.
    """
    random = np.random.default_rng(seed)
    frontal, lateral = [], []
    for volume in volumes:
        small = ndimage.zoom(volume.astype(np.float32), [SIDE / n for n in volume.shape], order=1)
        for shot in range(A_VOLUME):
            turned = ndimage.rotate(small, random.uniform(-15, 15), axes=(1, 2), reshape=False, order=1, mode="nearest")
            frontal += [projected(turned, 1, random)] if shot % 3 == 0 else []
            lateral.append(projected(turned, 2, random))
    return Views(frontal, lateral)


def attenuation_of_hu(hu: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return attenuation relative to water, bone twice as strong as its HU say (as at the energies of a film)."""
    water = np.clip(hu, -1000.0, 2000.0) / np.float32(1000.0) + np.float32(1.0)
    return np.where(hu > 200.0, 2.0 * water, water).astype(np.float32)


def attenuation_of_labels(grey: NDArray[np.uint8], labels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return a rough attenuation of slices whose grey values are not in HU: lung 0.2, infection 0.7, body 1, air 0.

    grey, labels: (z, y, x); labels 1 lung, 2 infection.
    """
    body = ndimage.uniform_filter(grey.astype(np.float32), size=(1, 9, 9)) > 60.0
    return np.select([labels == 1, labels == 2, body], [0.2, 0.7, 1.0 + grey / 512.0], 0.0).astype(np.float32)


def projected(volume: NDArray[np.float32], axis: int, random: np.random.Generator) -> NDArray[np.float32]:
    """Sum along one axis, darken and brighten as an exposure does, and give it the shape of a film."""
    total = volume.sum(axis=axis)
    low, high = np.percentile(total, [2, 99.5])
    grey = np.clip((total - low) / max(float(high - low), 1e-6), 0, 1) ** random.uniform(0.7, 1.8)
    rows = int(SIDE * random.uniform(1.8, 2.6))
    columns = int(rows * random.uniform(0.75, 1.05))
    return cv2.resize(grey.astype(np.float32), (columns, rows), interpolation=cv2.INTER_CUBIC).clip(0, 1)
