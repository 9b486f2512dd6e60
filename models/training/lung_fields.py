"""The lung fields of radiographs: 64 images with a mask, their splits and augmentation, and the training."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.training.ct_data import warp
from models.training.ct_train import segmentation_loss
from models.training.cxr_data import vary_grey
from models.training.features import Prepared
from models.training.loop import train as train_network
from models.training.nets import SegmentationNet
from models.training.splits import Names
from service.prepare import cxr

CLASSES = ("background", "lung_fields")
FOLDS = 4
STEPS = ("reduce", "resize", "stretch")
"""No trimming: a lung may reach the edge of the picture."""


@dataclass(frozen=True, eq=False)
class Masked:
    """One radiograph with its lung fields: grey (y, x) uint8, mask (y, x) uint8, 0 or 1."""

    file: str
    group: str
    grey: NDArray[np.uint8]
    mask: NDArray[np.uint8]


def load(data: Path) -> list[Masked]:
    """Read the images that have a lung mask, in order of name."""
    folder = data / "cxr"
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["lung_mask"]]
    images = []
    for row in sorted(rows, key=lambda row: row["file"]):
        grey = cv2.imread(str(folder / row["file"]), cv2.IMREAD_GRAYSCALE)
        mask = cv2.imread(str(folder / row["lung_mask"]), cv2.IMREAD_GRAYSCALE)
        mask = cv2.resize((mask > 0).astype(np.uint8), grey.shape[::-1], interpolation=cv2.INTER_NEAREST)
        images.append(Masked(row["file"], row["group"] or row["patient"], grey, mask))
    return images


def split(images: list[Masked], fold: int | None) -> tuple[list[Masked], list[Masked]]:
    """Return (training, held out): every fourth group, from `fold` on, is held out; None holds out none."""
    groups = sorted({image.group for image in images})
    held = set() if fold is None else set(groups[fold::FOLDS])
    return [i for i in images if i.group not in held], [i for i in images if i.group in held]


class LungFieldSampler:
    """Draws augmented radiographs with their masks."""

    def __init__(self, images: list[Masked], parameters: dict[str, Any], seed: int) -> None:
        self.images, self.parameters = images, parameters
        self.random = np.random.default_rng(seed)

    def batch(self, size: int, done: float) -> tuple[Tensor, Tensor]:
        """Return images (size, 1, h, w) float32 in 0..1 and masks (size, h, w) int64."""
        pairs = [self._one() for _ in range(size)]
        return torch.from_numpy(np.concatenate([p[0] for p in pairs])), torch.from_numpy(np.stack([p[1] for p in pairs]))

    def _one(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        random = self.random
        image = self.images[random.integers(len(self.images))]
        side = int(self.parameters["rows_px"])
        grey = cv2.resize(image.grey, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32) / np.float32(255.0)
        mask = cv2.resize(image.mask, (side, side), interpolation=cv2.INTER_NEAREST)
        grey, mask = warp(grey, mask, random, turn_deg=12, scale=(0.75, 1.25), shift_px=24, upright=True)
        if random.random() < 0.3:
            light = cv2.GaussianBlur(random.normal(size=grey.shape).astype(np.float32), (0, 0), random.uniform(10, 40))
            grey = np.clip(grey + light / light.std() * random.uniform(0.02, 0.12), 0, 1).astype(np.float32)
        return cxr.image_tensor(vary_grey(grey, random), self.parameters, STEPS), mask.astype(np.int64)


def trusting_loss(logits: Tensor, labels: Tensor, dice_weight: float) -> Tensor:
    """The segmentation loss without the image that fits worst: some masks of the set lie beside the lungs they are of.

    logits: (n, 2, h, w); labels: (n, h, w) int64.
    """
    with torch.no_grad():
        each = functional.cross_entropy(logits, labels, reduction="none").mean(dim=(1, 2))
    kept = each.argsort()[:max(len(each) - 1, 1)]
    return segmentation_loss(logits[kept], labels[kept], dice_weight, 0.0)


def network_for() -> SegmentationNet:
    """Return the network of CLASSES."""
    return SegmentationNet(len(CLASSES))


def train(recipe: dict[str, Any], data: Path, out: Path, fold: int | None) -> Path:
    """Train one split, or all images, and return the path of the averaged weights."""
    settings = recipe["training"]
    images = split(load(data), fold)[0]
    torch.manual_seed(settings["seed"])
    return train_network(
        network_for(), lambda seed: LungFieldSampler(images, recipe["parameters"], seed),
        lambda logits, labels: trusting_loss(logits, labels, settings["dice_weight"]), settings, out)


def names(_recipe: dict[str, Any], data: Path, fold: int | None) -> tuple[Names, Names]:
    """Return the names of what a split trains on, and of what it holds out."""
    kept, held = (Names(images=[i.file for i in part]) for part in split(load(data), fold))
    return kept, held


def prepared(recipe: dict[str, Any], data: Path, fold: int | None) -> list[Prepared]:
    """Return what a split trains on, prepared."""
    parameters = recipe["parameters"]

    def tensor(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
        return cxr.image_tensor(grey.astype(np.float32) / np.float32(255.0), parameters, STEPS)

    return [Prepared(i.file, lambda grey=i.grey: tensor(grey)) for i in split(load(data), fold)[0]]
