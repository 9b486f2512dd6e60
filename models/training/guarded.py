"""Which figures of a bundle another ONNX file of it must hold, and how far each may get worse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from models.evaluation import tasks
from models.evaluation.bundles import Network
from models.evaluation.class_figures import ABNORMAL
from models.evaluation.figures import Question
from models.evaluation.problems import Problems
from service.domain.manifest import Manifest

MOST_FALL = 0.005
MOST_RISE_PERCENT = 0.05
UNFAMILIAR, ALARMS = "refused as unfamiliar", "% of lung called infected, slices without infection"
RISING = {UNFAMILIAR: MOST_FALL, ALARMS: MOST_RISE_PERCENT}
"""Figures that get worse when they rise, and by how much they may: a share of images, and percent of the lung."""

GUARDED = {
    "ct-segmentation": ("infection Dice, mean of cases", "lung Dice, mean of", "slices over the threshold", ALARMS),
    "ct-classification": ("accuracy", "AUC", UNFAMILIAR),
    "cxr-classification": ("accuracy", "AUC, mean of", "AUC", UNFAMILIAR),
    "cxr-quality": ("AUC", "sensitivity", "specificity", "let through"),
    "cxr-segmentation": ("lung Dice, mean of",),
}
"""By task, how the names of its main figures begin; of all images, and of every class or of sick against healthy."""

AT_THRESHOLD = ("sensitivity", "specificity")
"""Of a classifier they are guarded for every class: its thresholds were chosen with model.onnx."""


@dataclass(frozen=True)
class Figures:
    """values: by name; leeway: how far a figure may get worse, where that is not MOST_FALL."""

    values: Mapping[str, float]
    leeway: Mapping[str, float] = field(default_factory=dict)

    def worst(self, other: Mapping[str, float]) -> tuple[str, float, bool]:
        """Return the figure of another file that got worse most, by how much, and whether that is too much.

        A figure that the other lacks has fallen. Most: in units of what is allowed.
        """
        worse = {name: other.get(name, -1.0) - value if _rises(name) and name in other else value - other.get(name, -1.0)
                 for name, value in self.values.items()}
        name = max(worse, key=lambda name: worse[name] / self.leeway.get(name, MOST_FALL))
        return name, worse[name], worse[name] > self.leeway.get(name, MOST_FALL) + 1e-12


def main_figures(manifest: Manifest, images: Sequence[Any]) -> Figures:
    """Measure the guarded figures of a bundle with the file that it names for a CPU.

    A share of few images may change by one of them.
    """
    measure = tasks.of(manifest)
    scores = measure.score(Network(manifest), images, Problems())
    values, leeway = {}, {}
    for question in measure.questions(scores):
        if question.subset != "all" or not len(question.places) or not _guarded(manifest.task, question):
            continue
        value = float(question.estimator(np.ones((1, len(question.places))))[0])
        if np.isfinite(value):
            name = " ".join(filter(None, (question.part, question.name, question.of)))
            values[name] = value
            least = next((most for start, most in RISING.items() if question.name == start), MOST_FALL)
            leeway[name] = max(least, 1 / len(question.places)) if question.share else least
    return Figures(values, leeway)


def _guarded(task: str, question: Question) -> bool:
    if task.endswith("-classification") and question.name in AT_THRESHOLD:
        return True
    every = question.of in ("", ABNORMAL) or task not in ("cxr-classification", "ct-classification")
    return question.name.startswith(GUARDED[task]) and every


def _rises(name: str) -> bool:
    return any(part in name for part in RISING)
