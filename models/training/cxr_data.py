"""The radiographs: labels, splits by patient and group, and sampling and augmentation against source shortcuts.

Every COVID-19 image comes from other hospitals than every other image. What can be done about it is done here:
classes are drawn evenly over their sources, and borders, aspect, sharpness, compression and grey curve are varied
so much that they tell less of the source. What remains is measured in `cxr_evaluate`.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from models.training.nets import CXR_CLASSES
from service.prepare import cxr

BINS = 10
FOLDS = 5
SOURCES = {"nih-starter": "nih", "nih-pneumonia": "nih"}
OTHER_FINDING, COVID_WITHOUT_FINDING = -1, -2


@dataclass(frozen=True, eq=False)
class Radiograph:
    """One image. label: index in CXR_CLASSES; OTHER_FINDING and COVID_WITHOUT_FINDING are not trained on."""

    grey: NDArray[np.uint8]
    label: int
    source: str
    population: str
    bin: int


def load(data: Path, excluded: list[str], seed: int) -> list[Radiograph]:
    """Read every labelled image, longest side as stored, with its bin of ten; `excluded` are parts of file names."""
    folder = data / "cxr"
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if not any(part in row["orig"] for part in excluded)]
    bins = bins_of(rows, seed)
    return [
        Radiograph(
            cv2.imread(str(folder / row["file"]), cv2.IMREAD_GRAYSCALE), label_of(row),
            SOURCES.get(row["source"], row["source"]), row["population"], place,
        )
        for row, place in zip(rows, bins, strict=True)
    ]


def label_of(row: dict[str, str]) -> int:
    """Return the class of a row of labels.csv; pneumonia wins over other findings, COVID-19 over all."""
    if row["covid19"] == "1":
        return COVID_WITHOUT_FINDING if row["no_finding"] == "1" else CXR_CLASSES.index("covid19")
    if row["Pneumonia"] == "1":
        return CXR_CLASSES.index("pneumonia")
    return CXR_CLASSES.index("no_finding") if row["no_finding"] == "1" else OTHER_FINDING


def bins_of(rows: list[dict[str, str]], seed: int) -> list[int]:
    """Deal the rows into ten bins, so that no patient and no group is in two, evenly over class and source."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    for row in rows:
        parent[root("patient " + row["patient"])] = root("group " + row["group"])
    members: dict[str, list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        members[root("group " + row["group"])].append(place)
    strata: dict[tuple[int, str], list[str]] = defaultdict(list)
    for name, places in members.items():
        first = rows[places[0]]
        strata[(label_of(first), first["source"])].append(name)
    bins = [0] * len(rows)
    random = np.random.default_rng(seed)
    for key in sorted(strata):
        for dealt, name in enumerate(random.permutation(sorted(strata[key]))):
            for place in members[str(name)]:
                bins[place] = dealt % BINS
    return bins


def split(images: list[Radiograph], fold: int) -> tuple[list[Radiograph], list[Radiograph], list[Radiograph]]:
    """Return (training, validation, test): 7, 1 and 2 of the ten bins, turned by `fold` (0 to 4)."""
    test, validation = {2 * fold, 2 * fold + 1}, {(2 * fold + 2) % BINS}
    rest = [i for i in images if i.bin not in test | validation]
    return rest, [i for i in images if i.bin in validation], [i for i in images if i.bin in test]


class CxrSampler:
    """Draws augmented radiographs: classes evenly, and within a class its sources by the given shares."""

    def __init__(self, images: list[Radiograph], parameters: dict[str, Any], seed: int) -> None:
        self.parameters = parameters
        self.random = np.random.default_rng(seed)
        self.strata: dict[int, dict[str, list[Radiograph]]] = defaultdict(lambda: defaultdict(list))
        for image in images:
            if image.label >= 0:
                self.strata[image.label][image.source].append(image)

    def batch(self, size: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return (size, 1, h, w) float32 in 0..1 and (size,) classes."""
        labels = self.random.integers(len(CXR_CLASSES), size=size)
        return np.concatenate([self._draw(int(label)) for label in labels]), labels

    def _draw(self, label: int) -> NDArray[np.float32]:
        sources = self.strata[label]
        names = sorted(sources)
        weights = np.sqrt([len(sources[name]) for name in names])
        chosen = sources[str(self.random.choice(names, p=weights / weights.sum()))]
        grey = chosen[self.random.integers(len(chosen))].grey.astype(np.float32) / np.float32(255.0)
        grey = vary_frame(grey, self.random)
        tensor = cxr.image_tensor(vary_grey(grey, self.random), self.parameters)
        return hide_patches(tensor, self.random)


def vary_frame(grey: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    """Cut the sides, turn, mirror, and sometimes add the bars or the letters that a source would have."""
    rows, columns = grey.shape
    top, bottom = (int(rows * random.uniform(0, 0.12)) for _ in range(2))
    left, right = (int(columns * random.uniform(0, 0.12)) for _ in range(2))
    grey = grey[top:rows - bottom, left:columns - right]
    side = int(random.choice([224, 256, 320]))
    grey = cv2.resize(grey, (side, side), interpolation=cv2.INTER_AREA)
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), random.uniform(-8, 8), random.uniform(0.95, 1.1))
    grey = cv2.warpAffine(grey, turn, (side, side), borderMode=cv2.BORDER_REPLICATE)
    if random.random() < 0.5:
        grey = np.ascontiguousarray(grey[:, ::-1])
    if random.random() < 0.3:
        bar = random.integers(0, side // 7, 4)
        grey = cv2.copyMakeBorder(grey, *bar.tolist(), cv2.BORDER_CONSTANT, value=float(random.choice([0.0, 1.0])))
    if random.random() < 0.4:
        at = (int(random.uniform(0, 0.8) * side), int(random.choice([0.08, 0.15, 0.95]) * side))
        letters = str(random.choice(["R", "L", "AP", "PORTABLE", "SUPINE", "PA"]))
        ink = np.zeros(grey.shape, np.uint8)
        cv2.putText(ink, letters, at, cv2.FONT_HERSHEY_SIMPLEX, random.uniform(0.3, 1.0), 255, 1, cv2.LINE_AA)
        grey = np.maximum(grey, ink.astype(np.float32) / np.float32(255.0))
    return grey


def vary_grey(grey: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    """Vary grey curve, local contrast, sharpness, compression and noise as machines and file formats do."""
    grey = np.clip(grey, 0, 1) ** np.float32(np.exp(random.normal(0, 0.35)))
    if random.random() < 0.3:
        equaliser = cv2.createCLAHE(random.uniform(0.5, 3.0), (8, 8))
        grey = equaliser.apply((grey * 255).astype(np.uint8)).astype(np.float32) / np.float32(255.0)
    if random.random() < 0.5:
        soft = cv2.GaussianBlur(grey, (0, 0), random.uniform(0.5, 2.0))
        grey = soft if random.random() < 0.6 else np.clip(grey + random.uniform(0.3, 1.0) * (grey - soft), 0, 1)
    if random.random() < 0.4:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(25, 90))]
        _, coded = cv2.imencode(".jpg", (np.clip(grey, 0, 1) * 255).astype(np.uint8), quality)
        grey = cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE).astype(np.float32) / np.float32(255.0)
    if random.random() < 0.4:
        grey = grey + random.normal(0, random.uniform(0.005, 0.04), grey.shape).astype(np.float32)
    return np.clip(grey, 0, 1).astype(np.float32)


def hide_patches(tensor: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    """Grey out a random patch now and then, so that no single place decides."""
    if random.random() < 0.4:
        rows, columns = tensor.shape[2:]
        high, wide = (int(s * random.uniform(0.1, 0.35)) for s in (rows, columns))
        top, left = random.integers(0, rows - high), random.integers(0, columns - wide)
        tensor[:, :, top:top + high, left:left + wide] = random.uniform(0, 1)
    return tensor
