"""What a quality bundle lets through and what it stops."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.evaluation.bootstrap import auc, calibration_error, ratio
from models.evaluation.bundles import Network
from models.evaluation.class_scores import ClassScores, by_index, gathered, probabilities_of, unfamiliarity_of
from models.evaluation.exposures import AS_IS, Exposure, picture_of
from models.evaluation.figures import Question
from models.evaluation.pictures import Unreadable
from models.evaluation.problems import Problems
from models.evaluation.radiographs import SUBGROUPS
from service.domain.manifest import Gate, Manifest
from service.prepare import cxr

Tick = Any
Places = NDArray[np.intp]
PART = "gate"


def score_gate(
    network: Network, images: Sequence[Exposure], problems: Problems, tick: Tick = lambda: None,
) -> ClassScores:
    """Run a quality bundle over pictures, prepared as the service does. Unreadable ones are noted and left out."""
    kept, probabilities, unfamiliarity = [], [], []
    for image, answer in network.over(_prepared(images, network.manifest, problems, tick)):
        kept.append(image)
        probabilities.append(probabilities_of(answer, network.manifest))
        unfamiliarity.append(unfamiliarity_of(answer))
    return gathered(network.manifest, kept, probabilities, [(float("nan"), float("nan"))] * len(kept), unfamiliarity)


def stopped(scores: ClassScores) -> NDArray[np.bool_]:
    """Tell which pictures are refused, by the manifest's gate and thresholds, and by unfamiliarity: (n,)."""
    gate, refused = scores.manifest.gate, np.zeros(len(scores.images), bool)
    for output in by_index(scores.manifest):
        rule = gate.get(output.name)
        if rule is Gate.REFUSE:
            refused |= scores.flagged[:, output.index]
        elif rule is Gate.REQUIRE:
            refused |= ~scores.flagged[:, output.index]
    most = scores.manifest.accepts.most_unfamiliarity
    return refused | (scores.unfamiliarity > most) if most else refused


def gate_questions(scores: ClassScores) -> list[Question]:
    """Ask what is let through, by kind of picture and by source and subgroup of the images as they are; then each class."""
    kinds = np.array([i.kind for i in scores.images], dtype=str)
    let_through = ~stopped(scores)
    questions = []

    def ask(subset: str, places: Places) -> None:
        questions.append(Question(
            PART, subset, "let through", "", ratio(let_through[places]), places, scores.groups[places], share=True))

    for kind in dict.fromkeys(kinds):
        ask(f"kind {kind}", np.flatnonzero(kinds == kind))
    plain = np.flatnonzero(kinds == AS_IS)
    for trait in ("source", *SUBGROUPS):
        values = scores.trait(trait)
        for value in sorted(set(values[plain])):
            ask(f"{trait} {value or 'unknown'}, as it is", plain[values[plain] == value])
    return questions + [q for output in by_index(scores.manifest) for q in _of_class(scores, output.index, output.name)]


def _of_class(scores: ClassScores, k: int, name: str) -> list[Question]:
    known = np.flatnonzero(scores.labels[:, k] >= 0)
    positive, score = scores.labels[:, k] == 1, scores.probabilities[:, k]
    ill, well, groups = known[positive[known]], known[~positive[known]], scores.groups
    flagged = scores.flagged[:, k]
    return [
        Question(PART, "all", "AUC", name, auc(score[known], positive[known]), known, groups[known]),
        Question(PART, "all", "sensitivity", name, ratio(flagged[ill]), ill, groups[ill], share=True),
        Question(PART, "all", "specificity", name, ratio(~flagged[well]), well, groups[well], share=True),
        Question(PART, "all", "calibration error", name, calibration_error(score[known], positive[known]), known,
                 groups[known]),
    ]


def _prepared(
    images: Sequence[Exposure], manifest: Manifest, problems: Problems, tick: Tick,
) -> Iterator[tuple[Exposure, NDArray[np.float32]]]:
    for image in images:
        tick()
        try:
            grey = picture_of(image)
        except Unreadable as error:
            problems.skip(image.name, str(error))
            continue
        yield image, cxr.image_tensor(grey, manifest.parameters, manifest.steps)[0, 0]
