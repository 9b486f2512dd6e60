"""What a quality gate is tried on: the radiographs as they are, the same turned, inverted and cut, and other pictures.

The other pictures are CT slices of the data folder, noise, gradients and text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from models.evaluation.pictures import read_grey, read_hu
from models.evaluation.radiographs import Radiograph
from models.evaluation.slices import LUNGS, CtSlice
from service.domain.manifest import Manifest

Grey = NDArray[np.float32]
AS_IS, INVERTED, CLIPPED = "as it is", "inverted", "clipped"
TURNS = {"rotated_90": 1, "rotated_180": 2, "rotated_270": 3}
"""Quarter turns, clockwise, that a variant was given."""

CHANGED = (INVERTED, *TURNS, CLIPPED)
DRAWN = ("noise", "gradient", "text")
CT_PICTURE = "CT slice"
LATERAL_VIEWS = ("L", "LL", "RL", "LATERAL", "LAT")
MOST_OF_A_KIND = 200
DRAWN_PX = 320


@dataclass(frozen=True)
class Exposure:
    """One picture that the gate is shown. kind: AS_IS, one of CHANGED or DRAWN, or CT_PICTURE; path: None where drawn.

    The other fields are those of `class_scores.Image`.
    """

    kind: str
    name: str
    group: str
    labels: tuple[bool | None, ...]
    traits: dict[str, str]
    path: Path | None
    seed: int
    part: str


def exposures(
    pictures: Sequence[Radiograph | CtSlice], _data: Path, manifest: Manifest, seed: int, most: int = MOST_OF_A_KIND,
) -> list[Exposure]:
    """List what the gate is shown: every radiograph as it is, and of each other kind at most `most`, drawn by the seed.

    pictures: radiographs and CT slices.
    """
    random = np.random.default_rng(seed)
    images = [p for p in pictures if isinstance(p, Radiograph)]
    slices = [p for p in pictures if isinstance(p, CtSlice)]
    found = [_of_image(i, AS_IS, manifest, 0) for i in images]
    upright = [i for i in images if i.traits.get("view", "").upper() not in LATERAL_VIEWS]
    for kind in CHANGED:
        chosen = random.permutation(len(upright))[:most]
        found += [_of_image(upright[place], kind, manifest, int(random.integers(2**31))) for place in sorted(chosen)]
    for place in sorted(random.permutation(len(slices))[:most]):
        item = slices[place]
        found.append(_other(CT_PICTURE, f"{CT_PICTURE} {item.name}", f"{item.part} {item.group}", item.path, 0, manifest))
    for kind in DRAWN:
        found += [_other(kind, f"{kind} {n}", f"{kind} {n}", None, seed + n, manifest) for n in range(most // 4)]
    return found


def picture_of(item: Exposure) -> Grey:
    """Read or draw the picture: (y, x) float32 in 0..1. Raises: Unreadable."""
    random = np.random.default_rng(item.seed)
    if item.path is None:
        return drawn(item.kind, random)
    if item.kind == CT_PICTURE and item.path.name.endswith("-hu.png") and item.name.startswith(f"{CT_PICTURE} {LUNGS}"):
        return np.clip((read_hu(item.path) + 1350.0) / 1500.0, 0.0, 1.0).astype(np.float32)  # lung window
    return changed(read_grey(item.path), item.kind, random)


def changed(grey: Grey, kind: str, random: np.random.Generator) -> Grey:
    """Return the image inverted, turned clockwise, or with a third to a half of it cut away from one side."""
    if kind == INVERTED:
        return np.float32(1.0) - grey
    if kind in TURNS:
        return np.ascontiguousarray(np.rot90(grey, -TURNS[kind]))
    if kind == CLIPPED:
        side, share = int(random.integers(4)), float(random.uniform(0.34, 0.5))
        turned = np.rot90(grey, side)
        return np.ascontiguousarray(np.rot90(turned[:, int(turned.shape[1] * share):], -side))
    return grey


def drawn(kind: str, random: np.random.Generator) -> Grey:
    """Draw a picture that is no radiograph: (y, x) float32 in 0..1."""
    side = DRAWN_PX
    if kind == "noise":
        grain = int(random.choice([4, 20, 80, side]))
        grey = cv2.resize(random.random((grain, grain)).astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
    elif kind == "gradient":
        y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
        angle = random.uniform(0, 2 * np.pi)
        grey = np.asarray(0.5 + 0.5 * (np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5)), np.float32)
        grey = grey ** np.float32(random.uniform(0.5, 2.0))
    else:
        page = np.full((side, side), int(random.choice([0, 255])), np.uint8)
        ink = 255 - int(page[0, 0])
        for line in range(20, side, 24):
            letters = "".join(chr(c) for c in random.integers(65, 91, 24))
            cv2.putText(page, letters, (8, line), cv2.FONT_HERSHEY_SIMPLEX, 0.5, ink, 1, cv2.LINE_AA)
        grey = page.astype(np.float32) / np.float32(255.0)
    return np.clip(grey, 0.0, 1.0).astype(np.float32)


def _of_image(image: Radiograph, kind: str, manifest: Manifest, seed: int) -> Exposure:
    """Label an image: what was done to it is known; its view and population where labels.csv tells them."""
    lateral = image.traits.get("view", "").upper() in LATERAL_VIEWS
    child = {"paediatric": True, "pediatric": True, "adult": False}.get(image.traits.get("population", "").lower())
    told: dict[str, bool | None] = {"lateral": lateral, "other": False, "child": child}
    told |= {name: kind == name for name in CHANGED}
    told["frontal"] = not lateral if kind in (AS_IS, INVERTED) else None
    labels = tuple(told.get(o.name) for o in manifest.outputs)
    name = image.name if kind == AS_IS else f"{image.name} {kind}"
    return Exposure(kind, name, image.group, labels, image.traits, image.path, seed, image.part)


def _other(kind: str, name: str, group: str, path: Path | None, seed: int, manifest: Manifest) -> Exposure:
    labels = tuple({"other": True, "frontal": False}.get(o.name) for o in manifest.outputs)
    return Exposure(kind, name, group, labels, {"source": kind}, path, seed, "other pictures")
