"""What the radiograph model does on patients that it never saw, within a source as well as over all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from sklearn.metrics import confusion_matrix, roc_auc_score

from models.training.cxr_data import COVID_WITHOUT_FINDING, OTHER_FINDING, Radiograph, load, split
from models.training.nets import CXR_CLASSES
from models.training.onnx_file import Runner
from service.prepare.cxr import image_tensor

NO_FINDING, PNEUMONIA, COVID = range(3)
Scores = NDArray[np.float64]


def tensors_of(images: list[Radiograph], parameters: dict[str, Any]) -> NDArray[np.float32]:
    """Prepare radiographs as the service does: (n, 1, h, w) float32."""
    return np.concatenate([image_tensor(i.grey.astype(np.float32) / np.float32(255.0), parameters) for i in images])


def fit_temperature(logits: Scores, labels: NDArray[np.int64]) -> float:
    """Return the temperature with the least cross-entropy; logits (n, k), labels (n,)."""

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        scaled = scaled - scaled.max(axis=1, keepdims=True)
        return float(np.mean(np.log(np.exp(scaled).sum(axis=1)) - scaled[np.arange(len(labels)), labels]))

    return float(np.exp(minimize_scalar(loss, bounds=(-3.0, 3.0), method="bounded").x))


def threshold_for(scores: Scores, sensitivity: float) -> float:
    """Return the highest threshold, in steps of 0.01, that the wanted share of the positives' scores reaches."""
    return max(0.01, float(np.floor(np.quantile(scores, 1.0 - sensitivity, method="lower") * 100) / 100))


def calibration_error(probabilities: Scores, labels: NDArray[np.int64]) -> float:
    """Return the expected calibration error of the most probable class over ten bins of confidence."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * 10).astype(int), 9)
    return float(sum(
        abs(confidence[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins)
    ))


def all_figures(probabilities: Scores, labels: NDArray[np.int64]) -> dict[str, Any]:
    """Return accuracy, AUC of each class against the others, calibration and the confusion matrix."""
    return {
        "images": len(labels), "accuracy": float((probabilities.argmax(axis=1) == labels).mean()),
        "auc": {
            name: float(roc_auc_score(labels == place, probabilities[:, place])) for place, name in enumerate(CXR_CLASSES)
        },
        "calibration_error": calibration_error(probabilities, labels),
        "confusion_rows_true": confusion_matrix(labels, probabilities.argmax(axis=1), labels=range(3)).tolist(),
    }


def within_source(probabilities: Scores, labels: NDArray[np.int64], chosen: NDArray[np.bool_]) -> dict[str, Any]:
    """Return pneumonia against no finding among the chosen images of one source; score p / (p + no finding)."""
    pair = chosen & (labels != COVID)
    score = probabilities[pair, PNEUMONIA] / (probabilities[pair, PNEUMONIA] + probabilities[pair, NO_FINDING])
    called_covid = probabilities[pair].argmax(axis=1) == COVID
    return {
        "images": int(pair.sum()), "auc_pneumonia": float(roc_auc_score(labels[pair] == PNEUMONIA, score)),
        "accuracy": float((probabilities[pair].argmax(axis=1) == labels[pair]).mean()),
        "called_covid19_percent": 100.0 * float(called_covid.mean()),
    }


def operating_point(
    probabilities: Scores, labels: NDArray[np.int64], sources: NDArray[np.str_], thresholds: dict[str, float],
) -> dict[str, Any]:
    """Return sensitivity and specificity of "anything abnormal over its threshold", over all and within NIH."""
    flagged = (probabilities[:, PNEUMONIA] >= thresholds["pneumonia"]) | (
        probabilities[:, COVID] >= thresholds["covid19"])
    nih, sick = sources == "nih", labels != NO_FINDING
    return {
        "sensitivity": float(flagged[sick].mean()), "specificity": float(1 - flagged[~sick].mean()),
        "sensitivity_nih": float(flagged[sick & nih].mean()), "specificity_nih": float(1 - flagged[~sick & nih].mean()),
        "sensitivity_covid19": float((probabilities[labels == COVID, COVID] >= thresholds["covid19"]).mean()),
        "specificity_covid19": float((probabilities[labels != COVID, COVID] < thresholds["covid19"]).mean()),
    }


def without_lungs(tensors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Blank the middle of each image, where the lungs are: what is still told right is told by the source."""
    blank = tensors.copy()
    rows, columns = blank.shape[2:]
    blank[:, :, rows // 8:-rows // 8, columns // 10:-columns // 10] = 0.5
    return blank


def demo_figures(run: Runner, folder: Path, parameters: dict[str, Any], thresholds: dict[str, float]) -> dict[str, Any]:
    """Score the demonstration's radiographs; a file name that starts with "person" is a pneumonia."""
    paths = sorted(folder.glob("*.jpeg"))
    greys = [cv2.imread(str(p), cv2.IMREAD_GRAYSCALE).astype(np.float32) / np.float32(255.0) for p in paths]
    probabilities = run(np.concatenate([image_tensor(g, parameters) for g in greys]))[0]
    sick = np.array([p.name.startswith("person") for p in paths])
    flagged = (probabilities[:, PNEUMONIA] >= thresholds["pneumonia"]) | (
        probabilities[:, COVID] >= thresholds["covid19"])
    return {
        "images": len(paths), "pneumonia_flagged": f"{int(flagged[sick].sum())} of {int(sick.sum())}",
        "normal_flagged": f"{int(flagged[~sick].sum())} of {int((~sick).sum())}",
        "auc_pneumonia": float(roc_auc_score(sick, 1.0 - probabilities[:, NO_FINDING])),
        "called_covid19": int((probabilities.argmax(axis=1) == COVID).sum()),
    }


def evaluate(
    model: Path, data: Path, fold: int, recipe: dict[str, Any], demo: Path | None,
) -> dict[str, Any]:
    """Return every figure of the card, measured with the ONNX file on the test patients of `fold`.

    Thresholds are chosen on the validation patients. demo: a folder with the demonstration's radiographs.
    """
    parameters, run = recipe["parameters"], Runner(model)
    images = load(data, recipe["split"]["excluded"], recipe["split"]["seed"])
    _, validation, test = split(images, fold)
    validation = [i for i in validation if i.label >= 0]
    known = run(tensors_of(validation, parameters))[0].astype(np.float64)
    truth = np.array([i.label for i in validation])
    wanted = recipe["operating_point"]
    origin = np.array([i.source for i in validation])
    thresholds = {
        name: min(
            threshold_for(known[(truth == label) & (origin == source), label], wanted[f"sensitivity_{name}"])
            for source in np.unique(origin[truth == label])
        )
        for name, label in (("pneumonia", PNEUMONIA), ("covid19", COVID))
    }
    scored = [i for i in test if i.label >= 0]
    tensors = tensors_of(scored, parameters)
    probabilities = run(tensors)[0].astype(np.float64)
    labels, sources = np.array([i.label for i in scored]), np.array([i.source for i in scored])
    figures = {
        **all_figures(probabilities, labels), "thresholds": thresholds,
        "within_nih": within_source(probabilities, labels, sources == "nih"),
        "within_kermany": within_source(probabilities, labels, sources == "kermany"),
        "operating_point": operating_point(probabilities, labels, sources, thresholds),
        "accuracy_with_lungs_blanked": float((run(without_lungs(tensors))[0].argmax(axis=1) == labels).mean()),
        "commonest_class_share": float(np.bincount(labels).max() / len(labels)),
        "milliseconds_per_image": run.milliseconds(tensors[:1]),
    }
    for name, label in (("other_finding", OTHER_FINDING), ("covid19_without_finding", COVID_WITHOUT_FINDING)):
        rest = run(tensors_of([i for i in test if i.label == label], parameters))[0]
        shares = {c: 100.0 * float((rest.argmax(axis=1) == k).mean()) for k, c in enumerate(CXR_CLASSES)}
        figures[f"called_percent_{name}"] = {"images": len(rest), **shares}
    if demo is not None:
        figures["demo"] = demo_figures(run, demo, parameters, thresholds)
    return figures
