"""What may a model read: the pictures that teach the gate, and the training.

Radiographs are turned, inverted and cut, and what was done is the label. The data hold no lateral view: those are
projections of CT volumes, and so are some frontal ones, lest a projection's look be what tells. Other pictures are CT
slices, close-ups, and drawn ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.training import ct_data, cxr_data
from models.training.ct_evaluate import read_hu
from models.training.cxr_data import Radiograph
from models.training.features import Prepared
from models.training.loop import train as train_network
from models.training.nets import ClassificationNet
from models.training.projections import Views, attenuation_of_hu, attenuation_of_labels, views_of
from models.training.splits import Names
from service.prepare import cxr

VIEWS = ("frontal", "lateral", "other")
TURNS = ("rotated_90", "rotated_180", "rotated_270")
CHANGES = ("inverted", *TURNS, "clipped", "child")
CLASSES = (*VIEWS, *CHANGES)
STEPS = ("reduce", "resize", "stretch")
KINDS = {"radiograph": 0.6, "lateral": 0.14, "projected frontal": 0.04, "other": 0.22}
"""How often a kind of picture is drawn."""
PROJECT = Path(__file__).parents[2]
Grey = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Pictures:
    """What the sampler draws from. axial: CT slices as pictures, (y, x) uint8."""

    radiographs: list[Radiograph]
    views: Views
    axial: list[NDArray[np.uint8]]


def load(recipe: dict[str, Any], data: Path, fold: int | None) -> Pictures:
    """Read one split, or everything: radiographs by patient, CT cases (for projections) and CT slices by every fifth."""
    split = recipe["split"]
    radiographs = cxr_data.split(cxr_data.load(data, split["excluded"], split["seed"]), fold)[0]
    cases = sorted((data / "ct_lesions").glob("coronacases-*"))
    kept = [c for place, c in enumerate(cases) if fold is None or place % cxr_data.FOLDS != fold]
    volumes = [attenuation_of_labels(*stack_of(case)) for case in kept]
    views = views_of(volumes, seed=split["seed"])
    series = views_of([attenuation_of_hu(read_hu(PROJECT / split["ct_series"]))[::-1]] * len(kept), seed=split["seed"] + 1)
    views = Views(views.frontal + series.frontal, views.lateral + series.lateral)
    paths = [*sorted((data / "ct_slices").glob("*/*.jpg")), *sorted((data / "ct_lesions").glob("*/*-ct.jpg"))[::8]]
    axial = [ct_data.read_grey(p) for place, p in enumerate(paths) if fold is None or place % cxr_data.FOLDS != fold]
    return Pictures(radiographs, views, axial)


def stack_of(case: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Read the slices of a case and their labels, (z, y, x) uint8, head first (they are stored feet first)."""
    paths = sorted(case.glob("*-ct.jpg"), reverse=True)
    masks = [p.with_name(p.name.replace("-ct.jpg", "-mask.png")) for p in paths]
    return np.stack([ct_data.read_grey(p) for p in paths]), np.stack([ct_data.read_grey(p) for p in masks])


class QualitySampler:
    """Draws pictures with what is known of them."""

    def __init__(self, pictures: Pictures, parameters: dict[str, Any], seed: int) -> None:
        self.pictures, self.parameters = pictures, parameters
        self.random = np.random.default_rng(seed)
        self.sources = sorted({r.source for r in pictures.radiographs})

    def batch(self, size: int, done: float) -> tuple[Tensor, Tensor, Tensor]:
        """Return images (size, 1, h, w) in 0..1, views (size,) int64, and changes (size, 6), NaN where not known."""
        kinds = self.random.choice(list(KINDS), p=list(KINDS.values()), size=size)
        drawn = [self._one(str(kind)) for kind in kinds]
        images = np.concatenate([cxr.image_tensor(grey, self.parameters, STEPS) for grey, _, _ in drawn])
        changes = np.stack([known for _, _, known in drawn])
        return torch.from_numpy(images), torch.tensor([view for _, view, _ in drawn]), torch.from_numpy(changes)

    def _one(self, kind: str) -> tuple[Grey, int, NDArray[np.float32]]:
        random, child = self.random, np.float32(np.nan)
        if kind == "other":
            return cxr_data.vary_grey(self._other(), random), 2, np.full(len(CHANGES), np.nan, np.float32)
        if kind == "radiograph":
            source = random.choice(self.sources)
            members = [r for r in self.pictures.radiographs if r.source == source]
            chosen = members[random.integers(len(members))]
            grey = chosen.grey.astype(np.float32) / np.float32(255.0)
            child = np.float32({"paediatric": 1.0, "adult": 0.0}.get(chosen.population, np.nan))
        else:
            shots = self.pictures.views.lateral if kind == "lateral" else self.pictures.views.frontal
            grey = shots[random.integers(len(shots))]
        grey = cxr_data.vary_grey(tilt(grey, random), random)
        grey, known = changed(grey, random)
        known[-1] = child
        if kind != "radiograph":
            known[CHANGES.index("clipped")] = np.nan
        return grey, 1 if kind == "lateral" else 0, known

    def _other(self) -> Grey:
        random, drawn = self.random, self.random.random()
        if drawn < 0.45:
            axial = self.pictures.axial[random.integers(len(self.pictures.axial))]
            return np.rot90(axial, random.integers(4)).astype(np.float32) / np.float32(255.0)
        if drawn < 0.6:
            close = self.pictures.radiographs[random.integers(len(self.pictures.radiographs))].grey
            side = int(min(close.shape) * random.uniform(0.15, 0.35))
            top, left = random.integers(0, np.array(close.shape) - side)
            return close[top:top + side, left:left + side].astype(np.float32) / np.float32(255.0)
        return shapes(random)


def tilt(grey: Grey, random: np.random.Generator) -> Grey:
    """Turn by a few degrees, shift, mirror and change the aspect a little, as set-ups do."""
    rows, columns = grey.shape
    turn = cv2.getRotationMatrix2D((columns / 2, rows / 2), random.uniform(-8, 8), random.uniform(0.92, 1.1))
    edge = cv2.BORDER_REPLICATE if random.random() < 0.5 else cv2.BORDER_CONSTANT
    grey = cv2.warpAffine(grey, turn, (columns, rows), borderMode=edge)
    return np.ascontiguousarray(grey[:, ::-1]) if random.random() < 0.5 else grey


def changed(grey: Grey, random: np.random.Generator) -> tuple[Grey, NDArray[np.float32]]:
    """Invert, cut and turn a picture now and then; also return what was done, in order of CHANGES."""
    known = np.zeros(len(CHANGES), np.float32)
    if random.random() < 0.15:
        grey, known[0] = np.float32(1.0) - grey, 1.0
    if random.random() < 0.2:
        known[CHANGES.index("clipped")] = 1.0
        side, share = int(random.integers(4)), random.uniform(0.28, 0.55)
        turned = np.rot90(grey, side)
        grey = np.rot90(turned[:, int(turned.shape[1] * share):], -side)
    else:
        cut = (np.array([*grey.shape, *grey.shape]) * random.uniform(0, 0.05, 4)).astype(int)
        grey = grey[cut[0]:grey.shape[0] - cut[2], cut[1]:grey.shape[1] - cut[3]]
    quarter = int(random.choice(4, p=[0.64, 0.12, 0.12, 0.12]))
    if quarter:
        grey, known[quarter] = np.rot90(grey, -quarter), 1.0
    return np.ascontiguousarray(grey), known


def shapes(random: np.random.Generator, side: int = 224) -> Grey:
    """Draw a picture that shows no chest: noise, a gradient, bars, letters, or rods and blobs like another body part."""
    kind = random.integers(5)
    y, x = np.mgrid[-1:1:complex(side), -1:1:complex(side)].astype(np.float32)
    if kind == 0:
        grain = int(random.choice([3, 6, 24, 96, side]))
        return cv2.resize(random.random((grain, grain)).astype(np.float32), (side, side), interpolation=cv2.INTER_LINEAR)
    if kind == 1:
        angle = random.uniform(0, 2 * np.pi)
        return np.clip(0.5 + random.uniform(0.2, 0.6) * (np.cos(angle) * x + np.sin(angle) * y), 0, 1).astype(np.float32)
    page = np.full((side, side), random.integers(0, 80), np.uint8)
    if kind == 2:
        page = np.uint8(255) - page if random.random() < 0.5 else page
        for line in range(16, side, int(random.integers(14, 40))):
            words = "".join(chr(c) for c in random.integers(48, 123, 30))
            cv2.putText(page, words, (int(random.integers(0, 30)), line), cv2.FONT_HERSHEY_SIMPLEX,
                        random.uniform(0.3, 0.8), int(random.integers(256)), 1, cv2.LINE_AA)
        return page.astype(np.float32) / np.float32(255.0)
    for _ in range(int(random.integers(1, 7))):  # limbs, fingers, a skull
        one, other = (tuple(int(v) for v in random.integers(0, side, 2)) for _ in range(2))
        width = int(random.integers(6, 60))
        if kind == 3:
            cv2.line(page, one, other, int(random.integers(80, 160)), width, cv2.LINE_AA)
            cv2.line(page, one, other, int(random.integers(160, 256)), max(width // 3, 1), cv2.LINE_AA)
        else:
            axes = tuple(int(v) for v in random.integers(10, side // 2, 2))
            cv2.ellipse(page, one, axes, random.uniform(0, 180), 0, 360, int(random.integers(80, 256)), -1, cv2.LINE_AA)
    blurred = cv2.GaussianBlur(page, (0, 0), random.uniform(0.8, 6.0))
    return blurred.astype(np.float32) / np.float32(255.0)


def loss_of(logits: Tensor, views: Tensor, changes: Tensor) -> Tensor:
    """Cross-entropy of the view plus binary cross-entropy of the changes that are known. logits: (n, 9)."""
    known = ~changes.isnan()
    binary = functional.binary_cross_entropy_with_logits(logits[:, len(VIEWS):], changes.nan_to_num(), reduction="none")
    return functional.cross_entropy(logits[:, :len(VIEWS)], views) + 3.0 * (binary * known).sum() / known.sum().clamp(min=1)


def network_for() -> ClassificationNet:
    """Return the network of CLASSES."""
    return ClassificationNet(len(CLASSES))


def train(recipe: dict[str, Any], data: Path, out: Path, fold: int | None) -> Path:
    """Train one split, or everything, and return the path of the averaged weights."""
    pictures = load(recipe, data, fold)
    return train_network(
        network_for(), lambda seed: QualitySampler(pictures, recipe["parameters"], seed), loss_of, recipe["training"], out)


def names(recipe: dict[str, Any], data: Path, fold: int | None) -> tuple[Names, Names]:
    """Return the names of the radiographs that a split trains on, and of those that it holds out."""
    images = cxr_data.load(data, recipe["split"]["excluded"], recipe["split"]["seed"])
    kept, held = (Names(images=[i.file for i in part]) for part in cxr_data.split(images, fold))
    return kept, held


def prepared(recipe: dict[str, Any], data: Path, fold: int | None) -> list[Prepared]:
    """Return the radiographs that a split trains on, prepared as they are."""
    parameters = recipe["parameters"]
    images = cxr_data.split(cxr_data.load(data, recipe["split"]["excluded"], recipe["split"]["seed"]), fold)[0]

    def tensor(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
        return cxr.image_tensor(grey.astype(np.float32) / np.float32(255.0), parameters, STEPS)

    return [Prepared(i.file, lambda grey=i.grey: tensor(grey)) for i in images]
