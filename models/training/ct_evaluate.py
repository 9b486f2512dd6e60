"""How sure a slice is: the curve from infected share to probability, and its operating point."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

EPSILON = 1e-4


def read_hu(folder: Path) -> NDArray[np.float32]:
    """Read a CT series of DICOM files in order of position: (z, y, x) float32 HU."""
    series = sorted((pydicom.dcmread(p) for p in folder.glob("*.dcm")), key=lambda d: d.ImagePositionPatient[2])
    return np.stack(
        [d.pixel_array.astype(np.float32) * float(d.RescaleSlope) + float(d.RescaleIntercept) for d in series]
    )


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
    infected: NDArray[np.float64], clean: NDArray[np.float64], curve: dict[str, float], specificity: float,
) -> dict[str, float]:
    """Return the threshold that the wanted share of clean slices stays under, in steps of 0.01, and what it flags."""
    probabilities = [
        1.0 / (1.0 + np.exp(-(curve["intercept"] + curve["slope"] * np.log(f + curve["epsilon"]))))
        for f in (infected, clean)
    ]
    threshold = float(np.ceil(np.quantile(probabilities[1], specificity, method="higher") * 100) / 100)
    fraction = np.exp((np.log(threshold / (1.0 - threshold)) - curve["intercept"]) / curve["slope"]) - curve["epsilon"]
    return {
        "study_threshold": threshold, "study_threshold_percent_of_lung": 100.0 * float(fraction),
        "infected_slices_over_percent": 100.0 * float((probabilities[0] >= threshold).mean()),
        "clean_slices_over_percent": 100.0 * float((probabilities[1] >= threshold).mean()),
    }
