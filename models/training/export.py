"""Turn a run into a bundle: model.onnx, manifest.toml, figures.json, held_out.json, golden cases, plots and the card.

`python -m models.training.export cxr-findings --run RUN --data DIR`
Thresholds, calibration and figures are those of the out-of-fold answers of the run's folds, each measured with an ONNX file
of that fold; what is shipped is the recipe's `[export] ship`: the network trained on everything, or that of one fold.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from models.evaluation.bootstrap import Resampler
from models.evaluation.bundles import Network
from models.evaluation.class_scores import ClassScores
from models.evaluation.ct_scores import CtScores
from models.evaluation.evaluate import Request
from models.evaluation.examples import best_and_worst, montage
from models.evaluation.figures import Figure, answer
from models.evaluation.plots import write_plots
from models.evaluation.problems import Problems
from models.evaluation.recard import link_plots
from models.evaluation.reference import reference_of, write_reference
from models.evaluation.score_table import table_of
from models.evaluation.tasks import confusion_of
from models.evaluation.tasks import of as measure_of
from models.training import ct_evaluate, phantoms, toml_text
from models.training.calibrate import calibration, logits_of, probabilities_from, thresholds
from models.training.card import write_card
from models.training.figures_file import write_figures
from models.training.onnx_file import Runner
from models.training.pooled import manifest_of, out_of_fold, softmax_of, unfamiliarity_for, wrapped, write_bundle
from models.training.tasks import TASKS, Recipe
from models.training.train import folder_of, read_recipe
from service.domain.manifest import read_manifest
from service.prepare import ct, cxr

RESAMPLES = 1000


def settle_classes(recipe: Recipe, scores: ClassScores) -> tuple[Any, Any, ClassScores]:
    """Calibrate, choose thresholds into the recipe's outputs, and return scale, offset and the calibrated scores."""
    softmax, sources = softmax_of(recipe), scores.trait("source")
    logits, labels = logits_of(scores.probabilities, softmax), scores.labels
    within = recipe["calibration"].get("sources")
    counted = np.isin(sources, within) if within else np.ones(len(sources), bool)
    scale, offset = calibration(logits, labels, softmax, counted) if recipe["calibration"]["fit"] else (
        np.ones(labels.shape[1], np.float32), np.zeros(labels.shape[1], np.float32))
    settled = replace(scores, probabilities=probabilities_from(logits * scale + offset, softmax))
    names = [output["name"] for output in recipe["outputs"]]
    chosen = thresholds(settled.probabilities, labels, sources, names, recipe["operating_point"])
    for output in recipe["outputs"]:
        output["threshold"] = chosen.get(output["name"], output.get("threshold", 0.5))
    return scale, offset, settled


def settle_slices(recipe: Recipe, scores: CtScores) -> dict[str, float]:
    """Fit the curve of the study probability to slices with and without infection, and choose its threshold."""
    curve = ct_evaluate.study_probability(scores.fraction[scores.sick], scores.fraction[~scores.sick])
    recipe["parameters"]["study_probability"] = {
        "feature": "log_infected_fraction", **{k: curve[k] for k in ("epsilon", "intercept", "slope")}}
    point = ct_evaluate.operating_point(
        scores.fraction[scores.sick], scores.fraction[~scores.sick], curve, recipe["operating_point"]["specificity_slices"])
    recipe["outputs"][2]["threshold"] = point["study_threshold"]
    return {**point, "auc_slices": curve["auc_slices"]}


def write_golden(recipe: Recipe, folder: Path) -> None:
    """Write two golden cases of made-up images: the source, the prepared tensor and what the model answers."""
    run, parameters, steps = Runner(folder / "model.onnx", 1), recipe["parameters"], tuple(recipe["input"]["steps"])
    (folder / "golden").mkdir(parents=True, exist_ok=True)
    names = [o.name for o in run.session.get_outputs()]
    for number, (rows, columns, sick) in enumerate(((320, 320, True), (256, 320, False)), 1):
        if recipe["bundle"]["task"].startswith("ct"):
            hu = phantoms.chest_ct_hu(rows, columns, sick, seed=number)[np.newaxis]
            source = {"hu": hu, "slices": ct.slice_tensor(hu.astype(np.float32), parameters, steps)}
        else:
            grey = phantoms.radiograph(rows, columns, sick, seed=number)
            tensor = cxr.image_tensor(grey.astype(np.float32) / np.float32(255.0), parameters, steps)
            source = {"grey": grey, "image": tensor}
        answers = dict(zip(names, run(next(reversed(source.values()))), strict=True))
        if answers["probabilities"].ndim == 4:
            answers["probabilities"] = answers["probabilities"].astype(np.float16)
        np.savez_compressed(folder / "golden" / f"case-{number}.npz", **source, **answers)


def saliency_floor(recipe: Recipe, network: Any, items: Sequence[Any]) -> float:
    """Return the lower quartile, over training images, of the strongest place for the likeliest reported class."""
    places = [o["index"] for o in recipe["outputs"] if o.get("code") not in (None, "NO_FINDING")]
    peaks = []
    with torch.no_grad():
        for item in items[::max(len(items) // 120, 1)]:
            probabilities, maps, _ = network(torch.from_numpy(item.tensor()))
            best = max(places, key=lambda k: float(probabilities[0, k]))
            peaks.append(float(maps[0, best].max()))
    return max(float(np.quantile(peaks, 0.25)), 1e-3)


def cross_validated(scores: Any, folds: Sequence[int]) -> dict[str, Any]:
    """Return every figure of the out-of-fold answers, with its interval, as figures.json has it."""
    figures: list[Figure] = answer(measure_of(scores.manifest).questions(scores), Resampler(0, RESAMPLES))
    return {"folds": list(folds), "figures": [f.as_json() for f in figures], "confusion": confusion_of(scores)}


def export(recipe: Recipe, run: Path, data: Path, folder: Path) -> None:
    """Write one bundle into its folder."""
    task, problems = TASKS[recipe["bundle"]["name"]], Problems()
    folds = recipe["export"]["folds"]
    scores = out_of_fold(recipe, run, data, folds, problems)
    numbers: dict[str, float] = {}
    scale = offset = None
    if isinstance(scores, ClassScores):
        scale, offset, scores = settle_classes(recipe, scores)
        known = scores.unfamiliarity[[i.part != "other pictures" for i in scores.images]]
    elif isinstance(scores, CtScores):
        numbers, known = settle_slices(recipe, scores), np.zeros(0)
    else:
        known = scores.unfamiliarity
    ship = recipe["export"]["ship"]
    fold = None if ship == "all" else int(ship)
    network = task.network(recipe, folder_of(run, fold) / "weights.pt")
    unfamiliarity, own = unfamiliarity_for(recipe, network, data, run, fold)
    usual = np.concatenate([known[np.isfinite(known)], own])
    recipe["accepts"]["most_unfamiliarity"] = round(float(np.quantile(usual, 0.999)) * recipe["export"]["margin"], 3)
    whole = wrapped(recipe, network, unfamiliarity, scale, offset).eval()
    if recipe["bundle"]["task"].endswith("classification"):
        recipe["parameters"]["saliency_floor"] = saliency_floor(recipe, whole, task.prepared(recipe, data, fold))
    held = {} if fold is None else task.names(recipe, data, fold)[1].table()
    folder.mkdir(parents=True, exist_ok=True)
    write_bundle(recipe, folder, whole, held)
    write_golden(recipe, folder)
    scores = replace(scores, manifest=read_manifest(folder))
    figures: dict[str, Any] = {**numbers, "cross_validation": cross_validated(scores, folds), **recipe.get("measured", {})}
    figures["milliseconds"] = Runner(folder / "model.onnx").milliseconds(example(folder), rounds=20)
    finish(recipe, folder, figures)
    write_plots(folder, table_of(scores), "out of fold", pictures(recipe, run, scores, folds))
    link_plots(folder)
    refer(folder, data, scores)
    for what, why in problems.rows:
        print(f"left out: {what}: {why}")


def refer(folder: Path, data: Path, scores: Any) -> None:
    """Write what drift is measured against; a classifier's scores are those out of fold."""
    manifest = read_manifest(folder)
    own = table_of(scores) if isinstance(scores, ClassScores) and manifest.task != "cxr-quality" else None
    if own is not None:
        usual = np.array([image.part != "other pictures" for image in scores.images])
        own = replace(own, y_score=own.y_score[usual])
    write_reference(manifest, reference_of(manifest, Request(data), own))


def example(folder: Path) -> Any:
    """Return one prepared input of the bundle, from its first golden case."""
    with np.load(folder / "golden" / "case-1.npz") as case:
        return case["slices" if "slices" in case.files else "image"]


def finish(recipe: Recipe, folder: Path, figures: dict[str, Any]) -> None:
    """Write figures.json, the manifest with its plain numbers, and the card."""
    digest = read_manifest(folder).sha256
    plain = {k: v for k, v in figures.items() if isinstance(v, int | float)}
    write_figures(folder, figures)
    (folder / "manifest.toml").write_text(toml_text.dumps(manifest_of(recipe, digest, plain)), encoding="utf-8")
    write_card(folder, recipe, figures)


def pictures(recipe: Recipe, run: Path, scores: Any, folds: Sequence[int]) -> bytes:
    """Return the worst and the best cases of the first fold as one picture; empty where the recipe wants none."""
    if not recipe["export"].get("pictures", False):
        return b""
    manifest = read_manifest(folder_of(run, folds[0]) / recipe["bundle"]["name"])
    return montage(best_and_worst(Network(manifest, 1), scores))


def main() -> None:
    """Write one bundle into its folder beside this package."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", choices=sorted(TASKS))
    parser.add_argument("--run", type=Path, required=True, help="folder of the run: fold-0, fold-1 ... and all in it")
    parser.add_argument("--data", type=Path, required=True, help="folder with ct_lesions, ct_lungs, ct_slices and cxr")
    parser.add_argument("--models", type=Path, default=Path(__file__).parents[1])
    options = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    export(read_recipe(options.bundle), options.run, options.data, options.models / options.bundle)


if __name__ == "__main__":
    main()
