"""The radiographs: labels, splits by patient and group, and the look of other machines and file formats."""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

BINS = 10
FOLDS = 5
PATTERNS = ("no_finding", "pneumonia", "covid19")
FINDINGS = (
    "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Emphysema", "Fibrosis", "Hernia",
    "Infiltration", "Mass", "Nodule", "Pleural_Thickening", "Pneumonia", "Pneumothorax",
)
LABELS = ("no_finding", *FINDINGS)
SOURCES = {"nih-starter": "nih", "nih-pneumonia": "nih"}
OTHER_FINDING, COVID_WITHOUT_FINDING = -1, -2


NEARLY_THE_SAME = (
    ("images/covid-chestxray-0055.jpg", "images/covid-cxnet-0208.jpg"),
    ("images/covid-cxnet-0519.jpg", "images/covid-cxnet-0751.jpg"),
)
"""Pictures that share neither patient nor group, and are the same to the eye (`models.evaluation.leakage` finds them)."""


@dataclass(frozen=True, eq=False)
class Radiograph:
    """One image.

    pattern: index in PATTERNS; OTHER_FINDING and COVID_WITHOUT_FINDING have none. labels: (15,) float32 in order of
    LABELS, 1, 0, or NaN where not labelled. original: which data set it is from, as labels.csv says.
    """

    file: str
    grey: NDArray[np.uint8]
    pattern: int
    labels: NDArray[np.float32]
    source: str
    original: str
    patient: str
    population: str
    view: str
    sex: str
    age: str
    bin: int


def load(data: Path, excluded: list[str], seed: int) -> list[Radiograph]:
    """Read every labelled image, longest side as stored, with its bin of ten; `excluded` are parts of file names."""
    folder = data / "cxr"
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if not any(part in row["orig"] for part in excluded)]
    return [
        Radiograph(
            file=row["file"], grey=cv2.imread(str(folder / row["file"]), cv2.IMREAD_GRAYSCALE),
            pattern=pattern_of(row), labels=labels_of(row), source=SOURCES.get(row["source"], row["source"]),
            original=row["source"], patient=row["patient"], population=row["population"], view=row["view"],
            sex=row["sex"], age=row["age"], bin=place,
        )
        for row, place in zip(rows, bins_of(rows, seed), strict=True)
    ]


def pattern_of(row: dict[str, str]) -> int:
    """Return the class of a row of labels.csv; pneumonia wins over other findings, COVID-19 over all."""
    if row["covid19"] == "1":
        return COVID_WITHOUT_FINDING if row["no_finding"] == "1" else PATTERNS.index("covid19")
    if row["Pneumonia"] == "1":
        return PATTERNS.index("pneumonia")
    return PATTERNS.index("no_finding") if row["no_finding"] == "1" else OTHER_FINDING


def labels_of(row: dict[str, str]) -> NDArray[np.float32]:
    """Return 1, 0 or NaN (an empty cell: not labelled) for "no finding" and the 14 findings."""
    return np.array([float(row[name]) if row[name] else np.nan for name in LABELS], np.float32)


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
        strata[(pattern_of(first), first["source"])].append(name)
    bins = [0] * len(rows)
    random = np.random.default_rng(seed)
    for key in sorted(strata):
        for dealt, name in enumerate(random.permutation(sorted(strata[key]))):
            for place in members[str(name)]:
                bins[place] = dealt % BINS
    root_of = {row["file"]: root("group " + row["group"]) for row in rows}
    for one, other in NEARLY_THE_SAME:
        if one in root_of and other in root_of:
            for place in members[root_of[other]]:
                bins[place] = bins[members[root_of[one]][0]]
    return bins


def split(images: list[Radiograph], fold: int | None) -> tuple[list[Radiograph], list[Radiograph]]:
    """Return (training, held out): two of the ten bins are held out, turned by `fold` (0 to 4); None holds out none."""
    held = set() if fold is None else {2 * fold, 2 * fold + 1}
    return [i for i in images if i.bin not in held], [i for i in images if i.bin in held]


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
