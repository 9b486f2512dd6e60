"""Training of the segmentation networks: cross-entropy and Dice over the batch and over each image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from models.training.ct_data import load, names_of
from models.training.ct_pool import CtSampler, pool_of
from models.training.features import Prepared
from models.training.loop import device_for
from models.training.loop import train as train_network
from models.training.nets import SegmentationNet
from models.training.splits import Names
from service.prepare import ct

CLASSES = ("background", "lung", "infection")
LEAST_PIXELS = 20


def segmentation_loss(
    logits: Tensor, labels: Tensor, dice_weight: float, image_dice_weight: float, missed_weight: float = 0.5,
) -> Tensor:
    """Cross-entropy plus soft Dice of every class but the first, over the whole batch and over each image.

    logits: (n, k, s, s); labels: (n, s, s) int64. The batch holds images without the class, so false alarms cost Dice;
    in the mean over images, those with fewer than LEAST_PIXELS of the last class are left out. missed_weight: what a missed
    pixel counts beside a false one, of 1 (Tversky; 0.5 is Dice).
    """
    entropy = functional.cross_entropy(logits, labels)
    found = logits.softmax(dim=1)[:, 1:]
    wanted = functional.one_hot(labels, logits.shape[1]).permute(0, 3, 1, 2)[:, 1:].float()
    batch = 1.0 - overlap(found, wanted, (0, 2, 3), missed_weight, 0.5)
    loss = entropy + dice_weight * batch.mean()
    found, wanted = found[:, -1], wanted[:, -1]
    shown = (wanted.sum(dim=(1, 2)) > LEAST_PIXELS).float()
    if image_dice_weight:
        each = 1.0 - overlap(found, wanted, (1, 2), missed_weight, 2.5)
        loss = loss + image_dice_weight * (each * shown).sum() / shown.sum().clamp(min=1.0)
    return loss


def overlap(found: Tensor, wanted: Tensor, axes: tuple[int, ...], missed_weight: float, smooth: float) -> Tensor:
    """Return the Tversky index of soft masks along the axes that are summed over, in 0..1."""
    both, one, other = (x.sum(dim=axes) for x in (found * wanted, found, wanted))
    return (both + smooth) / (both + missed_weight * (other - both) + (1.0 - missed_weight) * (one - both) + smooth)


def network_for() -> SegmentationNet:
    """Return the network of CLASSES."""
    return SegmentationNet(len(CLASSES))


def train(recipe: dict[str, Any], data: Path, out: Path, fold: int | None) -> Path:
    """Train one split, or all cases, and return the path of the averaged weights."""
    settings = recipe["training"]
    kept = load(data, fold, held_out=False)
    torch.manual_seed(settings["seed"])
    pool, device = pool_of(kept, recipe["parameters"], settings), device_for()
    return train_network(
        network_for(), lambda seed: CtSampler(pool, settings, seed, device),
        lambda logits, labels: segmentation_loss(
            logits, labels, settings["dice_weight"], settings["image_dice_weight"], settings["missed_weight"]),
        settings, out, device)


def names(_recipe: dict[str, Any], data: Path, fold: int | None) -> tuple[Names, Names]:
    """Return the names of what a split trains on, and of what it holds out."""
    parts = [names_of(data, fold, held_out=held) for held in (False, True)]
    kept, held = (Names(cases=[c.name for c in cases], lung_slices=[p.name for p in slices]) for cases, slices in parts)
    return kept, held


def prepared(recipe: dict[str, Any], data: Path, fold: int | None) -> list[Prepared]:
    """Return what a split trains on, prepared: every slice with lesions, and every lung slice."""
    kept, parameters = load(data, fold, held_out=False), recipe["parameters"]
    steps = tuple(recipe["input"]["steps"])
    items = [
        Prepared(f"{case} {place}", lambda grey=grey: (grey.astype(np.float32) / np.float32(255.0))[None, None])
        for case, stack in kept.lesion_grey.items() for place, grey in enumerate(stack)
    ]
    return items + [
        Prepared(f"lungs {place}", lambda hu=hu: ct.slice_tensor(hu[None], parameters, steps))
        for place, hu in enumerate(kept.lung_hu)
    ]
