"""What a network calls lung, held against the one thing that lungs have and bellies have not: air.

A network that sees one slice at a time, stretched to its own contrast, takes fat between bowel loops for lung where a slice
shows no lung at all. Hounsfield units tell them apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from service.domain.room import SPARE
from service.infer.tidy import carried, coarse_step, each, labelled

BACKGROUND, LUNG, INFECTION = 0, 1, 2

Labels = NDArray[np.uint8]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class AirRules:
    """What is believed of the network's classes.

    aerated_hu: lung below this holds air; min_piece_ml: smaller connected pieces of aerated lung are dropped; edge_mm:
    lung reaches this far beyond its air (walls, vessels, partial volume); min_aerated_share: where less of the class
    "lung" of a slice is aerated, the slice was misread and its infection is not believed; min_aerated_mm2: nor is that
    of a slice with less aerated lung than this.
    """

    aerated_hu: float = -400.0
    min_piece_ml: float = 10.0
    edge_mm: float = 3.0
    min_aerated_share: float = 0.5
    min_aerated_mm2: float = 100.0


def believable(
    labels: Labels, hu: NDArray[np.float32], spacing_mm: tuple[float, float, float], rules: AirRules, step: int = 0,
) -> tuple[Labels, NDArray[np.bool_]]:
    """Keep lung that holds air and what lies close to it, and infection that is joined to such lung, in 3D.

    labels: (z, y, x) BACKGROUND, LUNG or INFECTION; hu: the same shape; step: of the grid that components are searched
    on, 0 for that of `coarse_step`. Returns labels of the same shape, and (z,) which
    slices were misread: they keep their aerated lung, and no infection.
    """
    step = step or coarse_step(labels)
    airy = SPARE.empty(labels.shape, np.bool_)
    each(lambda k: np.logical_and(labels[k], hu[k] < rules.aerated_hu, out=airy[k]), range(len(labels)))
    aerated = _large(airy, spacing_mm, rules.min_piece_ml, step)
    disc = _disc(rules.edge_mm, spacing_mm)
    candidate = airy  # its memory, slice by slice: fresh memory costs more than what is written there
    misread = np.zeros(len(labels), np.bool_)

    def look(k: int) -> None:
        if not aerated[k].any():
            candidate[k] = False
            return
        misread[k] = _misread(labels[k], aerated[k], spacing_mm, rules)
        near = cv2.dilate(aerated[k].view(np.uint8), disc).view(np.bool_) & (labels[k] != BACKGROUND)
        candidate[k] = near if misread[k] else near | (labels[k] == INFECTION)

    each(look, range(len(labels)))
    kept = _joined(candidate, aerated, step).view(np.uint8)

    def keep(k: int) -> None:
        np.multiply(kept[k], labels[k], out=kept[k])
        if misread[k]:
            np.minimum(kept[k], LUNG, out=kept[k])

    each(keep, range(len(labels)))
    return kept, misread


def _misread(labels: Labels, aerated: Mask, spacing_mm: tuple[float, float, float], rules: AirRules) -> bool:
    """Tell whether the class "lung" of a slice is mostly soft tissue, or hardly there."""
    healthy = labels == LUNG
    total, with_air = int(healthy.sum()), int((aerated & healthy).sum())
    area_mm2 = int(aerated.sum()) * spacing_mm[1] * spacing_mm[2]
    return area_mm2 < rules.min_aerated_mm2 or with_air < rules.min_aerated_share * total


def _large(mask: Mask, spacing_mm: tuple[float, float, float], min_ml: float, step: int) -> Mask:
    """Keep the 3D components of at least `min_ml`."""
    sampled = np.ascontiguousarray(mask[:, ::step, ::step])
    coarse, count = labelled(sampled)
    voxel_ml = float(np.prod(spacing_mm)) * step * step / 1000.0
    large = np.bincount(coarse[sampled], minlength=count + 1) * voxel_ml >= min_ml
    large[0] = False
    return carried(coarse, mask, step, large.view(np.uint8)).view(np.bool_)


def _joined(mask: Mask, core: Mask, step: int) -> Mask:
    """Keep the 3D components that hold a voxel of `core`."""
    coarse, count = labelled(mask[:, ::step, ::step])
    holds = np.zeros(count + 1, np.bool_)
    holds[coarse[core[:, ::step, ::step]]] = True
    holds[0] = False
    return carried(coarse, mask, step, holds.view(np.uint8)).view(np.bool_)


def _disc(radius_mm: float, spacing_mm: tuple[float, float, float]) -> NDArray[np.uint8]:
    radius = max(1, round(radius_mm / min(spacing_mm[1:])))
    disc: NDArray[np.uint8] = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    return disc
