"""The out-of-fold answers of a run: every fold's network asked about what it did not see, put together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.evaluation.bundles import Network
from models.evaluation.evaluate import Request, gather
from models.evaluation.held_out import FILE
from models.evaluation.problems import Problems
from models.evaluation.tasks import of as measure_of
from models.training import kernel_train, toml_text
from models.training.both import Both, machine_folder, of_machine
from models.training.onnx_file import Classified, Segmented, Unfamiliarity, write
from models.training.tasks import TASKS, Recipe
from models.training.train import folder_of
from service.domain.manifest import read_manifest
from service.infer.golden import INPUT

Scores = TypeVar("Scores")
MOST_EXAMPLES = 300
SEGMENTING = ("ct-segmentation", "cxr-segmentation")


def softmax_of(recipe: Recipe) -> int:
    """Return how many of the first outputs exclude each other; the others stand alone."""
    return int(recipe["bundle"].get("softmax", 0))


def wrapped(
    recipe: Recipe, network: nn.Module, unfamiliarity: Unfamiliarity, scale: Any = None, offset: Any = None,
) -> nn.Module:
    """Return the network with what a bundle's ONNX file has behind it: calibration, softmax, unfamiliarity."""
    if recipe["bundle"]["task"] in SEGMENTING:
        return Segmented(network, unfamiliarity, recipe["bundle"].get("logit_offsets", []))
    count = len(recipe["outputs"])
    scale = torch.ones(count) if scale is None else torch.as_tensor(scale, dtype=torch.float32)
    offset = torch.zeros(count) if offset is None else torch.as_tensor(offset, dtype=torch.float32)
    return Classified(network, unfamiliarity, softmax_of(recipe), scale, offset)


@torch.no_grad()
def unfamiliarity_for(
    recipe: Recipe, network: nn.Module, data: Path, run: Path, fold: int | None,
) -> tuple[Unfamiliarity, NDArray[np.float32]]:
    """Fit to what the network was trained on, or every n-th of it; also return its values there."""
    if isinstance(network, Both):
        folder = machine_folder(recipe, folder_of(run, fold))
        features = kernel_train.components(of_machine(recipe), data, folder.parent, fold, network.machine)
    else:
        items = TASKS[recipe["bundle"]["name"]].prepared(recipe, data, fold)
        chosen = items[::max(len(items) // MOST_EXAMPLES, 1)]
        features = np.concatenate([network(torch.from_numpy(i.tensor()))[-1].numpy() for i in chosen])
    fitted = Unfamiliarity.fitted(features)
    return fitted, fitted(torch.from_numpy(features)).numpy()


def write_onnx(recipe: Recipe, network: nn.Module, path: Path) -> str:
    """Write the ONNX file of a bundle and return its sha256."""
    parameters = recipe["parameters"]
    shape = [parameters["side_px"]] * 2 if "side_px" in parameters else [parameters["rows_px"], parameters["columns_px"]]
    names = ["probabilities"] if recipe["bundle"]["task"] in SEGMENTING else ["probabilities", "activation"]
    return write(network, torch.rand(1, 1, *shape), [INPUT[recipe["bundle"]["task"]]], [*names, "unfamiliarity"], path)


def manifest_of(recipe: Recipe, digest: str, figures: dict[str, Any]) -> dict[str, Any]:
    """Return the manifest as a table; `figures`: the plain numbers that it repeats."""
    bundle = {k: v for k, v in recipe["bundle"].items() if k not in ("softmax", "logit_offsets")}
    return {
        **bundle, "sha256": digest, "limitations": recipe["card"]["limitations"], "input": recipe["input"],
        "parameters": recipe["parameters"], "accepts": recipe["accepts"],
        **{k: recipe[k] for k in ("placement",) if k in recipe}, "figures": figures, "outputs": recipe["outputs"],
    }


def write_bundle(recipe: Recipe, folder: Path, network: nn.Module, held: dict[str, list[str]]) -> None:
    """Write model.onnx, manifest.toml and held_out.json."""
    digest = write_onnx(recipe, network, folder / "model.onnx")
    (folder / "manifest.toml").write_text(toml_text.dumps(manifest_of(recipe, digest, {})), encoding="utf-8")
    (folder / FILE).write_text(json.dumps(held, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def out_of_fold(recipe: Recipe, run: Path, data: Path, folds: Sequence[int], problems: Problems) -> Any:
    """Ask each fold's network about what it did not see, as the tool for any bundle does, and put the answers together."""
    task, parts = TASKS[recipe["bundle"]["name"]], []
    for fold in folds:
        folder = folder_of(run, fold) / recipe["bundle"]["name"]
        network = task.network(recipe, folder_of(run, fold) / "weights.pt")
        unfamiliarity, _ = unfamiliarity_for(recipe, network, data, run, fold)
        write_bundle(recipe, folder, wrapped(recipe, network, unfamiliarity), task.names(recipe, data, fold)[1].table())
        manifest = read_manifest(folder)
        images = gather(manifest, Request(data, held_out=True), problems)
        if "parts" in recipe["export"]:
            images = [i for i in images if i.part in recipe["export"]["parts"]]
        parts.append(measure_of(manifest).score(Network(manifest, 1), images, problems))
        print(f"fold {fold}: {len(parts[-1].names)} held out", flush=True)
    return merged(parts)


def merged(parts: Sequence[Scores]) -> Scores:
    """Put scores of several folds together: lists and arrays end to end, the rest as the first has it."""
    joined: dict[str, Any] = {}
    for field in fields(parts[0]):  # type: ignore[arg-type]
        values = [getattr(part, field.name) for part in parts]
        if isinstance(values[0], np.ndarray):
            joined[field.name] = np.concatenate(values)
        elif isinstance(values[0], list):
            joined[field.name] = [item for value in values for item in value]
    return replace(parts[0], **joined)  # type: ignore[type-var]
