"""What is measured of a bundle, by its task: which images, how they are scored, which figures, which rows of images.csv."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.evaluation.class_figures import class_questions, confusion
from models.evaluation.class_scores import ClassScores, by_index
from models.evaluation.ct_classes import ClassSlice, labelled, score_classes
from models.evaluation.ct_figures import ct_questions
from models.evaluation.ct_scores import COUNTS, CtScores, score_slices
from models.evaluation.cxr_scores import score_radiographs
from models.evaluation.exposures import exposures
from models.evaluation.figures import Question
from models.evaluation.gate_scores import gate_questions, score_gate, stopped
from models.evaluation.lung_scores import LungScores, lung_questions, score_lungs
from models.evaluation.problems import Problems
from models.evaluation.radiographs import Radiograph, read_radiographs, read_rows
from models.evaluation.slices import PAPERS, CtSlice, find_slices
from service.domain.manifest import InvalidManifest, Manifest

Scores = ClassScores | CtScores | LungScores
Row = dict[str, Any]


@dataclass(frozen=True)
class Measure:
    """How bundles of one task are measured.

    find: the images of a data folder; expand: what else is made of them, after the limit; rows: for images.csv; notes:
    what a reader must know.
    """

    find: Callable[[Path, Manifest, Problems], list[Any]]
    score: Callable[..., Any]
    questions: Callable[[Any], list[Question]]
    rows: Callable[[Any], list[Row]]
    notes: tuple[str, ...] = ()
    expand: Callable[[Sequence[Any], Path, Manifest, int], list[Any]] = lambda images, _data, _manifest, _seed: list(images)


def of(manifest: Manifest) -> Measure:
    """Return how a bundle is measured. Raises: InvalidManifest for a task that nothing is known of."""
    if manifest.task not in MEASURES:
        raise InvalidManifest(f"{manifest.name}: bundles for {manifest.task} are not measured here")
    return MEASURES[manifest.task]


def confusion_of(scores: Scores) -> dict[str, Any] | None:
    """Return the confusion matrix of a classifier whose classes exclude each other, None for any other bundle."""
    if not isinstance(scores, ClassScores) or scores.independent or scores.manifest.task == "cxr-quality":
        return None
    return confusion(scores)


def _radiographs(data: Path, manifest: Manifest, problems: Problems) -> list[Radiograph]:
    return read_radiographs(data, read_rows(data, problems), manifest, problems)


def _unlabelled(data: Path, manifest: Manifest, problems: Problems) -> list[Radiograph]:
    """The radiographs for a bundle whose outputs are no columns of labels.csv."""
    return read_radiographs(data, read_rows(data, problems), manifest, problems, outputs=())


def _pictures(data: Path, manifest: Manifest, problems: Problems) -> list[Radiograph | CtSlice]:
    """What a quality gate is tried on: radiographs, and CT slices, which are none."""
    return [*_unlabelled(data, manifest, problems), *find_slices(data, Problems())]


def _with_lungs(data: Path, manifest: Manifest, problems: Problems) -> list[Radiograph]:
    return [i for i in _unlabelled(data, manifest, problems) if i.lung_mask is not None]


def _slices(data: Path, _manifest: Manifest, problems: Problems) -> list[CtSlice]:
    return [s for s in find_slices(data, problems) if s.part != PAPERS or s.sick is not None]


def _class_slices(data: Path, manifest: Manifest, problems: Problems) -> list[ClassSlice]:
    return labelled(find_slices(data, problems), manifest)


def _class_rows(scores: ClassScores) -> list[Row]:
    outputs = by_index(scores.manifest)
    return [{
        "image": i.name, "group": i.group, **i.traits,
        **{f"true {o.name}": {1: 1, 0: 0}.get(int(labels[o.index]), "") for o in outputs},
        **{o.name: round(float(p[o.index]), 5) for o in outputs},
        **({"unfamiliarity": round(float(far), 5)} if np.isfinite(far) else {}),
    } for i, labels, p, far in zip(
        scores.images, scores.labels, scores.probabilities, scores.unfamiliarity, strict=True)]


def _gate_rows(scores: ClassScores) -> list[Row]:
    rows = zip(scores.images, _class_rows(scores), stopped(scores), strict=True)
    keys = ("image", "group")
    return [{"image": i.name, "group": i.group, "kind": i.kind, "stopped": int(no),
             **{k: v for k, v in row.items() if k not in (*keys, *i.traits)}} for i, row, no in rows]


def _ct_rows(scores: CtScores) -> list[Row]:
    return [{"image": s.name, "group": s.group, "infected": int(sick), "infected_share": round(float(share), 6),
             **dict(zip(COUNTS, (int(c) for c in counts), strict=True))}
            for s, sick, share, counts in zip(scores.slices, scores.sick, scores.fraction, scores.counts, strict=True)]


def _lung_rows(scores: LungScores) -> list[Row]:
    return [{"image": i.name, "group": i.group, **i.traits, "dice": round(float(dice), 5), "iou": round(float(iou), 5)}
            for i, dice, iou in zip(scores.images, scores.dice, scores.iou, strict=True)]


MEASURES = {
    "cxr-classification": Measure(_radiographs, score_radiographs, class_questions, _class_rows),
    "ct-classification": Measure(_class_slices, score_classes, class_questions, _class_rows, (
        "Every slice is a study of its own. Slices from papers are windowed pictures, far from what the service is given; "
        "those of one paper are drawn together, a slice whose name has no paper counts alone.",
        "ct_lesions hold COVID-19 only and ct_lungs none: figures within one of them are of one class.")),
    "cxr-quality": Measure(_pictures, score_gate, gate_questions, _gate_rows, (
        "Let through: every class that the manifest requires is over its threshold, none that it refuses is. Images are "
        "taken as frontal unless their view is lateral; turned, inverted and cut ones are made from them, noise, gradients "
        "and text are drawn by the seed.",), exposures),
    "cxr-segmentation": Measure(_with_lungs, score_lungs, lung_questions, _lung_rows, (
        "A pixel is lung where that class is the most probable. Only images with a lung mask count.",)),
    "ct-segmentation": Measure(_slices, score_slices, ct_questions, _ct_rows, (
        "The network's own masks, slice by slice, before the read-out that the service does on whole volumes.",
        "ct_lungs names no patients: each slice counts as a group. An AUC over two sets compares their origin as well. "
        "Slices from papers are windowed pictures, far from what the service is given.")),
}
"""Every task of a manifest that can be measured."""
