"""CT slices by class: pictures of papers, and how they are split, by paper.

The set says COVID-19 or not; a slice without COVID-19 shows another disease or nothing, and which is not labelled.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.evaluation.slices import paper_of
from models.training import ct_data

CLASSES = ("covid19", "noncovid")
FOLDERS = ("covid", "noncovid")
FOLDS = 5
SAME = {"116": "114"}
"""A picture that is nearly the same as another, and goes with it (`models.evaluation.leakage` finds them)."""


@dataclass(frozen=True, eq=False)
class Slice:
    """One slice as a picture. group: the paper, or the figure, that it is from; grey: (y, x) uint8, as read."""

    file: str
    group: str
    label: int
    grey: NDArray[np.uint8]


def load(data: Path) -> list[Slice]:
    """Read the pictures in order of name; label: index in CLASSES."""
    slices = []
    for label, folder in enumerate(FOLDERS):
        for path in sorted((data / "ct_slices" / folder).glob("*.jpg")):
            group = SAME.get(path.stem, paper_of(path.stem))
            slices.append(Slice(f"ct_slices/{folder}/{path.name}", group, label, ct_data.read_grey(path)))
    return slices


def split(slices: list[Slice], fold: int | None, seed: int) -> tuple[list[Slice], list[Slice]]:
    """Return (training, held out) by paper: each class is dealt by itself, the largest papers first; None: all."""
    if fold is None:
        return slices, []
    random = np.random.default_rng(seed)
    held: set[tuple[int, str]] = set()
    for label in range(len(CLASSES)):
        sizes: dict[str, int] = {}
        for one in slices:
            if one.label == label:
                sizes[one.group] = sizes.get(one.group, 0) + 1
        order = sorted(random.permutation(sorted(sizes)), key=lambda g: -sizes[str(g)])
        held |= {(label, str(g)) for place, g in enumerate(order) if place % FOLDS == fold}
    return [s for s in slices if (s.label, s.group) not in held], [s for s in slices if (s.label, s.group) in held]
