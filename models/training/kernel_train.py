"""Training of the bundles that read frozen features: patterns and findings of radiographs, patterns of CT slices."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.evaluation.slices import windowed
from models.training import ct_pattern, cxr_data
from models.training.features import Prepared, statistics_of
from models.training.kernel_head import FeatureNet, KernelHead, Shape, fitted
from models.training.loop import shown
from service.prepare import cxr


@dataclass(frozen=True, eq=False)
class Examples:
    """What a head learns from. labels: (n, k), 1, 0, or -1 where not labelled; held: which are held out; weights: (n,)."""

    items: list[Prepared]
    labels: NDArray[np.int8]
    held: NDArray[np.bool_]
    names: list[str]
    weights: NDArray[np.float32]


def patterns(recipe: dict[str, Any], data: Path, fold: int | None) -> Examples:
    """Radiographs with one of the three patterns, of the recipe's sources."""
    images = [i for i in cxr_data.load(data, recipe["split"]["excluded"], recipe["split"]["seed"])
              if i.pattern >= 0 and i.original in recipe["training"]["sources"]]
    labels = np.eye(len(cxr_data.PATTERNS), dtype=np.int8)[[i.pattern for i in images]]
    return of_radiographs(images, labels, recipe, fold)


def findings(recipe: dict[str, Any], data: Path, fold: int | None) -> Examples:
    """Radiographs with labels of the 14 findings and "no finding", of the recipe's sources."""
    images = [i for i in cxr_data.load(data, recipe["split"]["excluded"], recipe["split"]["seed"])
              if i.original in recipe["training"]["sources"]]
    labels = np.stack([np.nan_to_num(i.labels, nan=-1.0) for i in images]).astype(np.int8)
    return of_radiographs(images, labels, recipe, fold)


def of_radiographs(
    images: list[cxr_data.Radiograph], labels: NDArray[np.int8], recipe: dict[str, Any], fold: int | None,
) -> Examples:
    """Put radiographs together as examples; two bins of ten are held out."""
    parameters, steps = recipe["parameters"], tuple(recipe["input"]["steps"])
    held = {id(i) for i in cxr_data.split(images, fold)[1]}

    def tensor(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
        return cxr.image_tensor(grey.astype(np.float32) / np.float32(255.0), parameters, steps)

    known = sorted(parameters.items())
    items = [Prepared(f"{i.file} {steps} {known}", lambda grey=i.grey: tensor(grey)) for i in images]
    weights = np.array([recipe["training"].get("weights", {}).get(i.original, 1.0) for i in images], np.float32)
    return Examples(items, labels, np.array([id(i) in held for i in images]), [i.file for i in images], weights)


def ct_patterns(recipe: dict[str, Any], data: Path, fold: int | None) -> Examples:
    """CT slices of papers by class; another disease or nothing counts as not COVID-19."""
    parameters, steps = recipe["parameters"], tuple(recipe["input"]["steps"])
    slices = ct_pattern.load(data)
    held = {id(s) for s in ct_pattern.split(slices, fold, recipe["split"]["seed"])[1]}
    labels = np.eye(len(ct_pattern.CLASSES), dtype=np.int8)[[s.label for s in slices]]
    known = sorted(parameters.items())

    def tensor(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
        return windowed(grey.astype(np.float32) / np.float32(255.0), steps, parameters)[None, None]

    items = [Prepared(f"{s.file} {steps} {known}", lambda grey=s.grey: tensor(grey)) for s in slices]
    return Examples(
        items, labels, np.array([id(s) in held for s in slices]), [s.file for s in slices], np.ones(len(slices), np.float32))


EXAMPLES = {"cxr-pattern": patterns, "cxr-findings": findings, "ct-pattern": ct_patterns}


def train(recipe: dict[str, Any], data: Path, out: Path, fold: int | None) -> Path:
    """Fit one split, or everything, and return the path of the weights; features already computed are used again."""
    settings, name = recipe["training"], recipe["bundle"]["name"]
    examples = EXAMPLES[name](recipe, data, fold)
    side = int(recipe["parameters"].get("rows_px", recipe["parameters"].get("side_px", 0)))
    with shown(f"{name} features", 0, len(examples.items)) as show:
        statistics = statistics_of(examples.items, out.parent / "features", side, lambda done: show(done, 0.0))
    seen, kept = [statistics], ~examples.held
    if settings.get("mirrored", False):
        turned = [mirrored(item) for item in examples.items]
        with shown(f"{name} mirrored", 0, len(turned)) as show:
            seen.append(statistics_of(turned, out.parent / "features", side, lambda done: show(done, 0.0)))
    shape = Shape(settings["components"], settings["gamma"], settings["cost"], settings["balanced"])
    labels, weights = (np.concatenate([values[kept]] * len(seen)) for values in (examples.labels, examples.weights))
    head = fitted(np.concatenate([values[kept] for values in seen]), labels, weights, shape)
    out.mkdir(parents=True, exist_ok=True)
    torch.save(head.state_dict(), out / "weights.pt")
    return out / "weights.pt"


def mirrored(item: Prepared) -> Prepared:
    """Return a thing to look at with left and right exchanged."""
    return Prepared(f"{item.key} mirrored", lambda: np.ascontiguousarray(item.tensor()[..., ::-1]))


def components(recipe: dict[str, Any], data: Path, run: Path, fold: int | None, network: FeatureNet) -> NDArray[np.float32]:
    """Return the principal components of what a split trains on, (n, c), from the features that the run keeps."""
    examples = EXAMPLES[recipe["bundle"]["name"]](recipe, data, fold)
    side = int(recipe["parameters"].get("rows_px", recipe["parameters"].get("side_px", 0)))
    statistics = statistics_of(examples.items, run / "features", side, lambda _done: None)
    return network.head.components(torch.from_numpy(statistics[~examples.held])).numpy()


def network(recipe: dict[str, Any], weights: Path) -> FeatureNet:
    """Read a fitted head and put it on the backbone."""
    state = torch.load(weights, map_location="cpu", weights_only=True)
    order = ("mean", "spread", "axes", "examples", "weights", "bias")
    return FeatureNet(KernelHead(*(state[key] for key in order), recipe["training"]["gamma"]))
