"""How much of a figure is the picture's making: the pattern recipe again, on pictures from which that is taken away.

`python -m models.training.shortcuts --data DIR --run RUN --lungs models/cxr-lungs`

Five folds by patient on the images of Ozturk et al. (three classes), each time trained and tested on: the images as
they are; the borders cut off; one resolution and one compression; only the lung fields; all three. And the machine
trained on all of these images, asked about the other NIH images.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from models.training import cxr_data
from models.training.cxr_data import PATTERNS, Radiograph
from models.training.features import Prepared, statistics_of
from models.training.figures_file import add_figures
from models.training.kernel_head import Shape, fitted
from models.training.loop import shown
from models.training.onnx_file import Runner
from models.training.train import read_recipe
from service.domain.manifest import Manifest, read_manifest
from service.prepare import cxr

BENCHMARK = ("covid-chestxray", "nih-pneumonia")
ELSEWHERE = "nih-starter"
Grey = NDArray[np.float32]
Change = Callable[[Grey], Grey]


def without_borders(grey: Grey) -> Grey:
    """Cut a tenth off each side."""
    rows, columns = (round(n * 0.1) for n in grey.shape)
    return grey[rows:grey.shape[0] - rows, columns:grey.shape[1] - columns]


def one_compression(grey: Grey) -> Grey:
    """Bring an image to 192 x 192 pixels and to JPEG of quality 50, so that sharpness and file format tell less."""
    small = cv2.resize(grey, (192, 192), interpolation=cv2.INTER_AREA)
    low, high = np.percentile(small, [0.5, 99.5])
    even = np.clip((small - low) / max(float(high - low), 1e-3), 0, 1)
    _, coded = cv2.imencode(".jpg", (even * 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 50])
    return cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE).astype(np.float32) / np.float32(255.0)


class OnlyLungs:
    """Blank everything outside the lung fields that a bundle finds, and cut to them."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest, self.run = manifest, Runner(manifest.model_path, 1)

    def __call__(self, grey: Grey) -> Grey:
        tensor = cxr.image_tensor(grey, self.manifest.parameters, self.manifest.steps)
        fields = cv2.resize(self.run(tensor)[0][0, 1], grey.shape[::-1]) > 0.5
        if fields.mean() < 0.05:
            return np.zeros_like(grey)
        rows, columns = np.flatnonzero(fields.any(axis=1)), np.flatnonzero(fields.any(axis=0))
        return (grey * fields)[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1]


def changes(lungs: Manifest) -> dict[str, Change]:
    """Return what is taken away, by name."""
    only_lungs = OnlyLungs(lungs)
    return {
        "as they are": lambda grey: grey,
        "borders cut off": without_borders,
        "one resolution, one compression": one_compression,
        "lung fields only": only_lungs,
        "all three": lambda grey: one_compression(only_lungs(without_borders(grey))),
    }


def statistics(images: list[Radiograph], name: str, change: Change, recipe: dict[str, Any], folder: Path) -> Grey:
    """Return the features of the changed images."""
    parameters, steps = recipe["parameters"], tuple(recipe["input"]["steps"])

    def tensor(grey: NDArray[np.uint8]) -> Grey:
        changed = change(grey.astype(np.float32) / np.float32(255.0))
        return cxr.image_tensor(np.ascontiguousarray(changed), parameters, steps)

    items = [Prepared(f"{i.file} {name}", lambda grey=i.grey: tensor(grey)) for i in images]
    with shown(name, 0, len(items)) as show:
        return statistics_of(items, folder / name.replace(" ", "-"), parameters["rows_px"], lambda done: show(done, 0.0))


def answers(given: Grey, images: list[Radiograph], asked: list[Radiograph], told: Grey, shape: Shape) -> Grey:
    """Fit to images and return the margins (n, 3) of what is asked."""
    labels = np.eye(len(PATTERNS), dtype=np.int8)[[i.pattern for i in images]]
    head = fitted(given, labels, np.ones(len(images), np.float32), shape)
    with torch.no_grad():
        return head(torch.from_numpy(told))[0].numpy()


def of_folds(values: Grey, images: list[Radiograph], shape: Shape) -> dict[str, float]:
    """Return accuracy, accuracy within NIH and the AUC of pneumonia there, out of fold."""
    margins = np.zeros((len(images), len(PATTERNS)), np.float32)
    for fold in range(cxr_data.FOLDS):
        kept, held = cxr_data.split(images, fold)
        here, there = ([k for k, i in enumerate(images) if id(i) in {id(j) for j in part}] for part in (kept, held))
        margins[there] = answers(values[here], kept, held, values[there], shape)
    truth, nih = np.array([i.pattern for i in images]), np.array([i.source == "nih" for i in images])
    right = margins.argmax(axis=1) == truth
    return {"accuracy": float(right.mean()), "accuracy_nih": float(right[nih].mean()), "auc_pneumonia_nih": float(
        roc_auc_score(truth[nih] == 1, margins[nih, 1] - margins[nih, 0]))}


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True, help="folder for the features")
    parser.add_argument("--lungs", type=Path, required=True, help="folder of a cxr-segmentation bundle")
    parser.add_argument("--write", type=Path, help="folder of the bundle whose figures.json takes the figures in")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    recipe = read_recipe("cxr-pattern")
    shape = Shape(recipe["machine"]["components"], 1.0, 3.0, False)
    everything = cxr_data.load(options.data, recipe["split"]["excluded"], recipe["split"]["seed"])
    images = [i for i in everything if i.original in BENCHMARK and i.pattern >= 0]
    others = [i for i in everything if i.original == ELSEWHERE and i.pattern >= 0]
    found: dict[str, Any] = {}
    for name, change in changes(read_manifest(options.lungs)).items():
        values = statistics(images, name, change, recipe, options.run)
        found[name] = of_folds(values, images, shape)
        told = statistics(others, f"{name} elsewhere", change, recipe, options.run)
        margins = answers(values, images, others, told, shape)
        truth = np.array([i.pattern for i in others])
        found[name]["accuracy_elsewhere"] = float((margins.argmax(axis=1) == truth).mean())
        found[name]["auc_elsewhere"] = float(roc_auc_score(truth == 1, margins[:, 1] - margins[:, 0]))
        print(json.dumps({name: found[name]}), flush=True)
    print(json.dumps(found, indent=1))
    if options.write:
        add_figures(options.write, {"without_shortcuts": found})


if __name__ == "__main__":
    main()
