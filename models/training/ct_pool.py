"""The pool of CT slices that training draws from: lesion slices, also equalised otherwise, and lung slices changed in HU.

Lung slices hold no infection; some get opacities painted in or lesions of other patients transplanted, others a dome of
the diaphragm, a density that rises towards the back, a belly in place of the lungs, streaks, noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.training.ct_data import CtSet, Pair, fill_lungs, paint_opacities, press_in, settle, streaks, transplant
from models.training.pictures_pool import bytes_of, made
from models.training.varied import Look, Place, Varier
from service.prepare import ct
from service.prepare.arguments import run_steps

CASE_POWER = 0.3
"""A case is drawn by its number of slices to this power."""
LEAST_LUNG_PX = 500
PLACE = Place(turn_deg=14.0, scale=(0.78, 1.35), shift=0.11, mirror_x=0.5, mirror_y=0.5)
LOOK = Look()


@dataclass(frozen=True, eq=False)
class CtPool:
    """lesions: (copies + 1, n, s, s) uint8, the first as it is; weights: (n,), how often each is drawn; lungs: (m, s, s)."""

    lesions: NDArray[np.uint8]
    lesion_labels: NDArray[np.uint8]
    weights: NDArray[np.float64]
    lungs: NDArray[np.uint8]
    lung_labels: NDArray[np.uint8]


def pool_of(data: CtSet, parameters: dict[str, Any], settings: dict[str, Any]) -> CtPool:
    """Make the pool of one split. settings: the recipe's `[training]`."""
    cases = sorted(data.lesion_grey)
    grey = np.concatenate([data.lesion_grey[c] for c in cases])
    labels = np.concatenate([data.lesion_labels[c] for c in cases])
    weights = np.concatenate([np.full(n, n ** (CASE_POWER - 1.0)) for n in (len(data.lesion_grey[c]) for c in cases)])
    seed = settings["seed"]

    def again(number: int) -> NDArray[np.uint8]:
        """One lesion slice equalised once more."""
        plane = grey[number % len(grey)].astype(np.float32) / np.float32(255.0)
        return bytes_of(equalised(plane, np.random.default_rng([seed, 1, number])))

    def lung(number: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """One lung slice, changed."""
        random = np.random.default_rng([seed, 2, number])
        place = random.choice(len(grey), p=weights / weights.sum())
        donor = grey[place].astype(np.float32) / np.float32(255.0), labels[place]
        plane, known = changed(data, number % len(data.lung_hu), donor, parameters, settings, random)
        return bytes_of(plane), known

    copies = made(again, settings["copies"] * len(grey))
    lungs = made(lung, settings["lung_pictures"])
    return CtPool(
        np.stack([*grey, *copies]).reshape(settings["copies"] + 1, *grey.shape), labels, weights,
        np.stack([one[0] for one in lungs]), np.stack([one[1] for one in lungs]))


def equalised(grey: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    """Equalise a slice once more, more or less strongly."""
    return ct.equalise(grey, {
        "clahe_clip_limit": random.uniform(0.5, 3.0), "clahe_tiles": int(random.choice([4, 8]))})


def changed(
    data: CtSet, place: int, donor: Pair, parameters: dict[str, Any], settings: dict[str, Any], random: np.random.Generator,
) -> Pair:
    """Return one lung slice changed in HU and prepared: (s, s) float32 in 0..1, and its labels."""
    hu, labels = data.lung_hu[place], data.lung_labels[place].copy()
    drawn, shown = random.random(), (labels > 0).sum() > LEAST_LUNG_PX
    if shown and drawn < settings["paint_share"]:
        hu, labels = paint_opacities(hu, labels, random, settings["widest_paint"])
    elif drawn < settings["paint_share"] + settings["belly_share"]:
        hu, labels = fill_lungs(hu, labels, random), np.zeros_like(labels)
    elif shown:
        hu, labels = press_in(hu, labels, random) if random.random() < 0.4 else (hu, labels)
        hu = settle(hu, labels, random) if random.random() < 0.4 else hu
    if random.random() < 0.15:
        hu = hu + streaks(hu.shape[0], random)
    if random.random() < 0.3:
        hu = hu + random.normal(0, random.uniform(5, 60), hu.shape).astype(np.float32)
    if random.random() < 0.5:
        hu = cv2.GaussianBlur(hu, (0, 0), random.uniform(0.4, 1.0))
    varied = dict(parameters, window_hu=[random.uniform(-1100, -950), np.exp(random.uniform(5.3, 8.0))],
                  clahe_clip_limit=random.uniform(4.0, 9.0))
    grey = run_steps(hu, tuple(ct.STEPS), ct.STEPS, varied)
    if (labels == 1).any() and not (labels == 2).any() and random.random() < settings["transplant_share"]:
        grey, labels = transplant(grey, labels, *donor, random)
    return (equalised(grey, random) if random.random() < 0.25 else grey), labels


class CtSampler:
    """Draws varied batches from a pool, on the device: lesion slices and `lung_share` of lung slices."""

    def __init__(self, pool: CtPool, settings: dict[str, Any], seed: int, device: str) -> None:
        self.settings, self.vary = settings, Varier(seed, device)
        self.lesions, self.lesion_labels, self.lungs, self.lung_labels = (
            torch.from_numpy(a).to(device) for a in (pool.lesions, pool.lesion_labels, pool.lungs, pool.lung_labels))
        self.weights = torch.from_numpy(pool.weights).to(device).float()

    def batch(self, size: int, done: float) -> tuple[Tensor, Tensor]:
        """Return (size, 1, s, s) float32 in 0..1 and (size, s, s) int64 labels; now and then a part of the slices only."""
        vary, count = self.vary, round(size * self.settings["lung_share"])
        place = vary.choose(self.weights, size - count)
        copy = vary.choose(self.weights.new_tensor([3.0, *[1.0 / max(len(self.lesions) - 1, 1)] * (len(self.lesions) - 1)]),
                           size - count)
        lung = vary.uniform(count, 0, len(self.lungs)).long().clamp(max=len(self.lungs) - 1)
        grey = torch.cat([self.lesions[copy, place], self.lungs[lung]]).float()[:, None] / 255.0
        labels = torch.cat([self.lesion_labels[place], self.lung_labels[lung]])
        grid = vary.grids(size, grey.shape[-1], PLACE)
        grey, labels = vary.view(vary.move(grey, grid), vary.move_labels(labels, grid), 0.2)
        grey, crop = vary.look(grey, LOOK), self.settings["crop_px"]
        if crop and float(torch.rand(())) < self.settings["crop_share"]:
            top, left = (int(torch.randint(0, grey.shape[-1] - crop + 1, ())) for _ in range(2))
            grey, labels = grey[..., top:top + crop, left:left + crop], labels[:, top:top + crop, left:left + crop]
        return grey.contiguous(), labels
