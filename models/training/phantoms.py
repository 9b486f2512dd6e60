"""Made-up images for the golden cases: no patient, no licence, the same numbers on every machine.

They only need to exercise the whole path; a network's answer to them means nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def waves(rows: int, columns: int, seed: int, count: int = 40) -> NDArray[np.float64]:
    """Return a smooth texture, about -1..1: a sum of waves with seeded directions."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:1:complex(rows), 0:1:complex(columns)]
    texture = np.zeros((rows, columns))
    for _ in range(count):
        along, across = random.uniform(-30, 30, 2)
        texture += np.cos(2 * np.pi * (along * y + across * x) + random.uniform(0, 2 * np.pi))
    return texture / np.abs(texture).max()


def _body(rows: int, columns: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Masks of the body, the lungs, and a patch at the back of the left lung."""
    y, x = np.mgrid[-1:1:complex(rows), -1:1:complex(columns)]
    body = (x / 0.85) ** 2 + (y / 0.62) ** 2 < 1
    lungs = np.zeros_like(body)
    for side in (-0.4, 0.4):
        lungs |= ((x - side) / 0.27) ** 2 + ((y + 0.02) / 0.42) ** 2 < 1
    patch = lungs & (np.hypot(x - 0.45, y - 0.25) < 0.14)
    return body, lungs, patch


def chest_ct_hu(rows: int, columns: int, with_opacity: bool, seed: int) -> NDArray[np.int16]:
    """Return one axial slice: table air, body, two lungs and, if wanted, an opacity; padded with -2000 HU outside.

    (rows, columns) int16, HU.
    """
    body, lungs, patch = _body(rows, columns)
    texture = waves(rows, columns, seed)
    hu = np.where(body, 40.0 + 30.0 * texture, -1000.0)
    hu[lungs] = -860.0 + 60.0 * texture[lungs]
    if with_opacity:
        hu[patch] = -350.0 + 150.0 * texture[patch]
    y, x = np.mgrid[-1:1:complex(rows), -1:1:complex(columns)]
    hu[np.hypot(x, y) > 1.0] = -2000.0
    return np.rint(hu).astype(np.int16)


def radiograph(rows: int, columns: int, with_opacity: bool, seed: int) -> NDArray[np.uint8]:
    """Return a frontal radiograph as shown, bright = dense: (rows, columns) uint8."""
    body, lungs, patch = _body(rows, columns)
    grey = np.where(body, 170.0, 40.0) + 20.0 * waves(rows, columns, seed)
    grey[lungs] -= 90.0
    if with_opacity:
        grey[patch] += 70.0
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)
