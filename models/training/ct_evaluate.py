"""What the CT model does on cases that it never saw: Dice, false alarms, and how sure a slice is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from models.training.ct_data import CtSet, load
from models.training.onnx_file import Runner
from service.prepare.ct import slice_tensor

EPSILON = 1e-4


def masks_of(probabilities: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return (lung, infection) masks from (n, 3, s, s) by the most probable class; lung holds its infection."""
    classes = probabilities.argmax(axis=1)
    return classes > 0, classes == 2


def dice(found: NDArray[Any], wanted: NDArray[Any]) -> float:
    """Return 2 |a and b| / (|a| + |b|), 1 when both are empty."""
    total = int(found.sum()) + int(wanted.sum())
    return 1.0 if total == 0 else 2.0 * float((found & wanted).sum()) / total


def fractions(lung: NDArray[Any], infection: NDArray[Any]) -> NDArray[np.float64]:
    """Return the infected fraction of lung of each slice, 0 where there is no lung; masks are (n, y, x)."""
    inside = lung.sum(axis=(1, 2))
    return np.where(inside > 0, infection.sum(axis=(1, 2)) / np.maximum(inside, 1), 0.0)


def read_hu(folder: Path) -> NDArray[np.float32]:
    """Read a CT series of DICOM files in order of position: (z, y, x) float32 HU."""
    series = sorted((pydicom.dcmread(p) for p in folder.glob("*.dcm")), key=lambda d: d.ImagePositionPatient[2])
    return np.stack(
        [d.pixel_array.astype(np.float32) * float(d.RescaleSlope) + float(d.RescaleIntercept) for d in series]
    )


def lesion_figures(run: Runner, held: CtSet) -> tuple[dict[str, Any], NDArray[np.float64]]:
    """Return Dice of each held-out case with their mean, and the infected fraction of each slice."""
    cases: dict[str, Any] = {}
    slice_fractions = []
    for case, grey in sorted(held.lesion_grey.items()):
        labels = held.lesion_labels[case]
        probabilities = run(grey[:, np.newaxis].astype(np.float32) / np.float32(255.0))[0]
        lung, infection = masks_of(probabilities)
        cases[case] = {
            "slices": len(grey), "infection_dice": dice(infection, labels == 2), "lung_dice": dice(lung, labels > 0),
            "infected_percent_annotated": 100.0 * float((labels == 2).sum() / (labels > 0).sum()),
            "infected_percent_found": 100.0 * float(infection.sum() / max(lung.sum(), 1)),
        }
        slice_fractions.append(fractions(lung, infection))
    scores = [c["infection_dice"] for c in cases.values()]
    figures = {
        "infection_dice_mean": float(np.mean(scores)), "infection_dice_deviation": float(np.std(scores)),
        "lung_dice_lesion_cases": float(np.mean([c["lung_dice"] for c in cases.values()])), "cases": cases,
    }
    return figures, np.concatenate(slice_fractions)


def uninfected_figures(
    run: Runner, hu: NDArray[np.float32], parameters: dict[str, Any],
) -> tuple[dict[str, float], NDArray[np.float64], NDArray[Any]]:
    """Return what is called infected in slices without infection, the fraction of each slice, and the lung masks."""
    lung, infection = masks_of(run(slice_tensor(hu, parameters))[0])
    figures = {
        "false_alarm_percent_of_lung": 100.0 * float(infection.sum() / max(lung.sum(), 1)),
        "slices_with_more_than_1_percent": 100.0 * float((fractions(lung, infection) > 0.01).mean()),
    }
    return figures, fractions(lung, infection), lung


def study_probability(infected: NDArray[np.float64], clean: NDArray[np.float64]) -> dict[str, float]:
    """Fit probability = 1 / (1 + exp(-(intercept + slope * ln(fraction + epsilon)))), both kinds weighing alike.

    infected, clean: infected fraction of lung of held-out slices with and without infection.
    """
    regressor = np.log(np.concatenate([infected, clean]) + EPSILON)[:, np.newaxis]
    truth = np.concatenate([np.ones(len(infected)), np.zeros(len(clean))])
    curve = LogisticRegression(class_weight="balanced").fit(regressor, truth)
    return {
        "intercept": float(curve.intercept_[0]), "slope": float(curve.coef_[0, 0]), "epsilon": EPSILON,
        "auc_slices": float(roc_auc_score(truth, regressor[:, 0])),
    }


def operating_point(
    infected: NDArray[np.float64], clean: NDArray[np.float64], curve: dict[str, float], sensitivity: float,
) -> dict[str, float]:
    """Return the threshold that the wanted share of infected slices reaches, in steps of 0.01, and what it flags."""
    probabilities = [
        1.0 / (1.0 + np.exp(-(curve["intercept"] + curve["slope"] * np.log(f + curve["epsilon"]))))
        for f in (infected, clean)
    ]
    threshold = float(np.floor(np.quantile(probabilities[0], 1.0 - sensitivity, method="lower") * 100) / 100)
    fraction = np.exp((np.log(threshold / (1.0 - threshold)) - curve["intercept"]) / curve["slope"]) - curve["epsilon"]
    return {
        "study_threshold": threshold, "study_threshold_percent_of_lung": 100.0 * float(fraction),
        "infected_slices_over_percent": 100.0 * float((probabilities[0] >= threshold).mean()),
        "clean_slices_over_percent": 100.0 * float((probabilities[1] >= threshold).mean()),
    }


def evaluate(
    model: Path, data: Path, fold: int, parameters: dict[str, Any], sensitivity: float,
    uninfected: Path | None,
) -> dict[str, Any]:
    """Return every figure of the card, measured with the ONNX file on the held-out split of `fold`.

    sensitivity: the share of held-out infected slices that the threshold of the study probability shall reach.
    uninfected: a folder with one DICOM series of a chest CT without infection, never trained on.
    """
    run = Runner(model)
    held = load(data, fold, held_out=True)
    figures, infected = lesion_figures(run, held)
    lungs, clean, lung = uninfected_figures(run, held.lung_hu, parameters)
    figures["held_out_lung_slices"] = {"slices": len(clean), **lungs}
    figures["lung_dice_lung_slices"] = float(np.mean([
        dice(a, b > 0) for a, b in zip(lung, held.lung_labels, strict=True) if b.any()
    ]))
    if uninfected is not None:
        hu = read_hu(uninfected)
        outside, by_slice, _ = uninfected_figures(run, hu, parameters)
        figures["uninfected_ct"] = {"slices": len(by_slice), **outside}
    figures["study_probability"] = study_probability(infected, clean)
    figures.update(operating_point(infected, clean, figures["study_probability"], sensitivity))
    figures["milliseconds_per_slice"] = run.milliseconds(np.random.default_rng(0).random((8, 1, 256, 256), np.float32))
    return figures
