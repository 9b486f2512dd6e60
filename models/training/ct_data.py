"""The CT training data: cases with lesions, slices with lungs only, splits by case, and augmentation.

Lesion slices are already in the look that `service.prepare.ct` produces; lung slices are in HU and go through
those very steps, with the window and the equalisation varied. Opacities are painted into, and lesions transplanted
onto, the infection-free lung slices: otherwise the network could learn "this scanner, no infection".
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

FOLDS = 4
Pair = tuple[NDArray[np.float32], NDArray[np.uint8]]


@dataclass(frozen=True, eq=False)
class CtSet:
    """Slices of one split: lesion slices by case, (n, 256, 256) uint8, and lung slices, (n, 256, 256) float32 HU.

    labels: 0 elsewhere, 1 lung, 2 infection.
    """

    lesion_grey: dict[str, NDArray[np.uint8]]
    lesion_labels: dict[str, NDArray[np.uint8]]
    lung_hu: NDArray[np.float32]
    lung_labels: NDArray[np.uint8]


def load(data: Path, fold: int | None, held_out: bool) -> CtSet:
    """Read one split: every fourth case of each source, and every fourth lung slice, from `fold` on is held out.

    fold None: nothing is held out.
    """
    chosen, paths = names_of(data, fold, held_out)
    grey, labels = {}, {}
    for folder in chosen:
        slices = sorted(folder.glob("*-ct.jpg"))
        grey[folder.name] = np.stack([read_grey(p) for p in slices])
        labels[folder.name] = np.stack([read_grey(Path(str(p).replace("-ct.jpg", "-mask.png"))) for p in slices])
    hu = np.stack([cv2.imread(str(p), cv2.IMREAD_UNCHANGED).astype(np.float32) - 1024.0 for p in paths])
    lungs = np.stack([read_grey(Path(str(p).replace("-hu.png", "-mask.png"))) > 0 for p in paths]).astype(np.uint8)
    if not held_out:  # a few masks call the air around the patient lung
        lungs = np.stack([mask * body_of(plane) for mask, plane in zip(lungs, hu, strict=True)])
    return CtSet(grey, labels, hu, lungs)


def names_of(data: Path, fold: int | None, held_out: bool) -> tuple[list[Path], list[Path]]:
    """Return the folders of the cases and the files of the lung slices of one part of a split."""
    folders = [sorted((data / "ct_lesions").glob(f"{source}-*")) for source in ("coronacases", "radiopaedia", "site")]
    cases = [f for source in folders for place, f in enumerate(source) if (place % FOLDS == fold) == held_out]
    slices = sorted((data / "ct_lungs").glob("*-hu.png"))
    return cases, [p for place, p in enumerate(slices) if (place % FOLDS == fold) == held_out]


def body_of(hu: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the convex hull of the largest thing denser than lung: (y, x) uint8, 0 or 1."""
    dense = cv2.morphologyEx((hu > -400).astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
    _, pieces, sizes, _ = cv2.connectedComponentsWithStats(dense)
    body = np.zeros_like(dense)
    if len(sizes) > 1:
        points = np.argwhere(pieces == 1 + int(sizes[1:, cv2.CC_STAT_AREA].argmax()))[:, ::-1]
        cv2.fillPoly(body, [cv2.convexHull(points.astype(np.int32))], 1)
    return body


def read_grey(path: Path) -> NDArray[np.uint8]:
    """Read an image as it is stored: (y, x) uint8 grey values, or the indices of an indexed PNG."""
    if path.suffix == ".png":
        return np.asarray(Image.open(path)).astype(np.uint8)
    return cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)


def paint_opacities(
    hu: NDArray[np.float32], labels: NDArray[np.uint8], random: np.random.Generator, widest: float = 0.3,
) -> Pair:
    """Raise smooth random patches of the lung towards -700..0 HU and label what was clearly raised as infection.

    hu: (y, x) float32, HU; labels: 0, 1 lung; widest: the largest share of the lung that is raised. Returns both, changed.
    """
    noise = cv2.GaussianBlur(random.normal(size=hu.shape).astype(np.float32), (0, 0), random.uniform(4, 18))
    lung = labels > 0
    edge = np.quantile(noise[lung], random.uniform(1.0 - widest, 0.97))
    softness = noise[lung].std() * random.uniform(0.05, 0.4)
    texture = cv2.GaussianBlur(random.normal(size=hu.shape).astype(np.float32), (0, 0), random.uniform(0.6, 2.0))
    dense = random.random() < 0.25
    strength = np.clip((noise - edge) / softness, 0, 1) * lung * np.clip(1 + 0.4 * texture / texture.std(), 0.2, 1)
    strength = strength * (random.uniform(0.8, 1.0) if dense else random.uniform(0.5, 0.95))
    target = np.maximum(hu, random.uniform(-150, 60) if dense else random.uniform(-700, 0))
    painted = hu + strength * (target - hu)
    raised = cv2.GaussianBlur(painted - hu, (0, 0), 1.5) > 80
    labels[lung & raised] = 2
    return painted.astype(np.float32), labels


def fill_lungs(
    hu: NDArray[np.float32], labels: NDArray[np.uint8], random: np.random.Generator,
) -> NDArray[np.float32]:
    """Fill the lungs, or all that lies between them too, with fat, soft tissue and bowel gas: a slice of the belly.

    hu: (y, x) float32, HU; labels: 0, 1 lung. The sets hold hardly a slice below the lungs, and every CT does.
    """
    mask = (labels > 0).astype(np.uint8)
    if random.random() < 0.6 and mask.any():
        cv2.fillPoly(mask, [cv2.convexHull(np.argwhere(mask)[:, ::-1].astype(np.int32))], 1)
    inside = cv2.GaussianBlur(cv2.dilate(mask.astype(np.float32), np.ones((5, 5))), (0, 0), 1.0)
    noise = [cv2.GaussianBlur(random.normal(size=hu.shape).astype(np.float32), (0, 0), scale)
             for scale in np.exp(random.uniform(np.log(2), np.log(16), 3))]
    organ, gas, vessel = (plane / plane.std() for plane in noise)
    edge = random.uniform(-1.5, 1.5)
    tissue = np.where(organ > edge, random.uniform(20, 150), random.uniform(-130, -70))
    if random.random() < 0.5:
        tissue = np.where(vessel > random.uniform(1.0, 2.0), random.uniform(20, 200), tissue)
    if random.random() < 0.6:
        tissue = np.where((gas > random.uniform(1.2, 2.2)) & (organ > edge - 0.7), random.uniform(-1000, -500), tissue)
    tissue = cv2.GaussianBlur(tissue.astype(np.float32), (0, 0), random.uniform(0.6, 1.5))
    grain = random.normal(0, random.uniform(5, 25), hu.shape)
    return (hu + inside * (tissue + grain - hu)).astype(np.float32)


def press_in(hu: NDArray[np.float32], labels: NDArray[np.uint8], random: np.random.Generator) -> Pair:
    """Press a dome of soft tissue into a lung, its edge blurred by partial volume, as the diaphragm does.

    hu: (y, x) float32, HU; labels: 0, 1 lung. Returns both, changed: the dome is no lung, and no infection either.
    """
    inside = np.argwhere(labels > 0)
    centre = inside[random.integers(len(inside))]
    y, x = np.ogrid[:hu.shape[0], :hu.shape[1]]
    radii = random.uniform(8, 45, 2)
    distance = np.hypot((y - centre[0]) / radii[0], (x - centre[1]) / radii[1])
    dome = cv2.GaussianBlur((distance < 1).astype(np.float32), (0, 0), random.uniform(0.7, 5.0)) * (labels > 0)
    changed = hu + dome * (random.uniform(10, 90) + random.normal(0, 15, hu.shape) - hu)
    return changed.astype(np.float32), np.where(dome > 0.6, np.uint8(0), labels)


def settle(hu: NDArray[np.float32], labels: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.float32]:
    """Raise the lung towards one side of the picture, as gravity does at the back; nobody calls that infection.

    hu: (y, x) float32, HU; labels: 0, 1 lung.
    """
    rows = np.flatnonzero((labels > 0).any(axis=1))
    height = np.linspace(0, 1, hu.shape[0])[:, np.newaxis] if random.random() < 0.5 else \
        np.linspace(1, 0, hu.shape[0])[:, np.newaxis]
    start = float(np.quantile(height[rows], random.uniform(0.5, 0.85)))
    slope = np.clip((height - start) / max(float(height[rows].max()) - start, 0.02), 0, 1)
    return (hu + (labels > 0) * slope * random.uniform(30, 170)).astype(np.float32)


def streaks(side: int, random: np.random.Generator) -> NDArray[np.float32]:
    """Return streaks of noise along one direction, as arms and shoulders cause: (side, side) float32, HU."""
    noise = random.normal(size=(2 * side, 2 * side)).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), sigmaX=random.uniform(15, 40), sigmaY=random.uniform(0.6, 1.5))
    turn = cv2.getRotationMatrix2D((float(side), float(side)), random.uniform(-30, 30), 1.0)
    middle = cv2.warpAffine(noise, turn, (2 * side, 2 * side))[side // 2:side // 2 + side, side // 2:side // 2 + side]
    return middle / middle.std() * np.float32(random.uniform(8, 45))


def transplant(
    grey: NDArray[np.float32], labels: NDArray[np.uint8], donor: NDArray[np.float32],
    donor_labels: NDArray[np.uint8], random: np.random.Generator,
) -> Pair:
    """Blend the lesions of a donor slice into the lungs of another slice, brightness matched to its lung.

    All (y, x); grey in 0..1. Returns the changed slice and labels.
    """
    donor, donor_labels = warp(donor, donor_labels, random, turn_deg=40, scale=(0.7, 1.4), shift_px=30)
    alpha = cv2.GaussianBlur((donor_labels == 2).astype(np.float32), (0, 0), random.uniform(0.7, 2.0))
    alpha = alpha * (labels > 0)
    if (alpha > 0.5).sum() < 20 or not (donor_labels == 1).any():
        return grey, labels
    offset = np.median(grey[labels > 0]) - np.median(donor[donor_labels == 1])
    mixed = grey + alpha * (np.maximum(donor + offset, grey) - grey)
    labels[alpha > 0.5] = 2
    return np.clip(mixed, 0, 1).astype(np.float32), labels


def warp(
    grey: NDArray[np.float32], labels: NDArray[np.uint8], random: np.random.Generator,
    turn_deg: float, scale: tuple[float, float], shift_px: float, upright: bool = False,
) -> Pair:
    """Turn, scale (each axis a little differently), shift and mirror a slice and its labels alike.

    Outside are the darkest grey and label 0. upright: never mirrored top to bottom.
    """
    side = grey.shape[0]
    matrix = cv2.getRotationMatrix2D((side / 2, side / 2), random.uniform(-turn_deg, turn_deg), 1.0)
    factors = random.uniform(*scale) * random.uniform(0.92, 1.08, 2) * random.choice([-1.0, 1.0], 2)
    if upright:
        factors[1] = abs(factors[1])
    matrix[:, :2] *= factors
    centre = matrix[:, :2] @ np.full(2, side / 2)
    matrix[:, 2] = side / 2 - centre + random.uniform(-shift_px, shift_px, 2)
    warped = cv2.warpAffine(grey, matrix, (side, side), flags=cv2.INTER_LINEAR, borderValue=float(grey.min()))
    return warped, cv2.warpAffine(labels, matrix, (side, side), flags=cv2.INTER_NEAREST)
