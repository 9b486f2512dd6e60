"""Which figures of a radiograph bundle are asked for: over all, within each source, and in each subgroup."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.evaluation.bootstrap import Estimator, auc, calibration_error, ratio
from models.evaluation.cxr_scores import CxrScores, by_index
from models.evaluation.figures import Question
from models.evaluation.radiographs import SUBGROUPS
from service.domain import codes

PART = "radiographs"
ANY = "any finding"
Places = NDArray[np.intp]


def cxr_questions(scores: CxrScores) -> list[Question]:
    """Return every question. A label that is empty is left out of its class's figures; it is not a negative."""
    everything = np.arange(len(scores.images))
    questions = subset_questions(scores, "all", everything)
    sources = scores.trait("source")
    for source in sorted(set(sources) - {""}):
        chosen = np.flatnonzero(sources == source)
        if len(set(scores.truth[chosen]) - {-1}) > 1:
            questions += subset_questions(scores, f"source {source}", chosen)
    for trait in SUBGROUPS:
        values = scores.trait(trait)
        for value in sorted(set(values)):
            questions += subset_questions(scores, f"{trait} {value or 'unknown'}", np.flatnonzero(values == value))
    return questions


def subset_questions(scores: CxrScores, subset: str, chosen: Places) -> list[Question]:
    """Return accuracy, calibration, and AUC, sensitivity and specificity of each class, for the chosen images."""
    questions = _of_known_class(scores, subset, chosen)
    for output in by_index(scores.manifest):
        k = output.index
        labelled = chosen[scores.labels[chosen, k] >= 0]
        positive = scores.labels[:, k] == 1
        questions.append(_ask(
            scores, subset, "AUC", output.name, auc(scores.probabilities[labelled, k], positive[labelled]), labelled))
        if k in scores.abnormal:
            questions += _at_threshold(scores, subset, output.name, scores.flagged[:, k], labelled, positive)
    if len(scores.abnormal) > 1:
        questions += _any_finding(scores, subset, chosen)
    inside, share = scores.evidence[chosen].T
    masked = chosen[np.isfinite(inside)]
    questions += [
        _ask(scores, subset, "saliency inside the lungs", "", ratio(inside[np.isfinite(inside)]), masked),
        _ask(scores, subset, "share of the image that is lung", "", ratio(share[np.isfinite(inside)]), masked),
    ]
    return questions


def confusion(scores: CxrScores) -> dict[str, Any]:
    """Return the confusion matrix, rows the true class, of images with exactly one class labelled 1."""
    names = [o.name for o in by_index(scores.manifest)]
    known = scores.truth >= 0
    table = np.zeros((len(names), len(names)), int)
    np.add.at(table, (scores.truth[known], scores.probabilities[known].argmax(axis=1)), 1)
    return {"classes": names, "rows_true": table.tolist(), "images": int(known.sum()),
            "without_one_class": int((~known).sum())}


def single_class_sources(scores: CxrScores) -> list[str]:
    """Return the sources that hold one class only, where no figure within the source can be given."""
    sources = scores.trait("source")
    return [str(s) for s in sorted(set(sources) - {""}) if len(set(scores.truth[sources == s]) - {-1}) < 2]


def _of_known_class(scores: CxrScores, subset: str, chosen: Places) -> list[Question]:
    known = chosen[scores.truth[chosen] >= 0]
    right = scores.probabilities[known].argmax(axis=1) == scores.truth[known]
    confidence = scores.probabilities[known].max(axis=1)
    return [
        _ask(scores, subset, "accuracy", "", ratio(right), known, share=True),
        _ask(scores, subset, "calibration error", "", calibration_error(confidence, right), known),
    ]


def _any_finding(scores: CxrScores, subset: str, chosen: Places) -> list[Question]:
    """Anything over its threshold: sick is what has a finding labelled 1, healthy what is labelled as without one."""
    abnormal = scores.labels[:, scores.abnormal]
    sick = (abnormal == 1).any(axis=1)
    normal = [o.index for o in by_index(scores.manifest) if o.code == codes.NO_FINDING]
    healthy = (scores.labels[:, normal] == 1).any(axis=1) if normal else (abnormal == 0).all(axis=1)
    known = chosen[(sick ^ healthy)[chosen]]
    return _at_threshold(scores, subset, ANY, scores.flagged[:, scores.abnormal].any(axis=1), known, sick)


def _at_threshold(
    scores: CxrScores, subset: str, of: str, flagged: NDArray[np.bool_], known: Places, sick: NDArray[np.bool_],
) -> list[Question]:
    ill, well = known[sick[known]], known[~sick[known]]
    return [
        _ask(scores, subset, "sensitivity", of, ratio(flagged[ill]), ill, share=True),
        _ask(scores, subset, "specificity", of, ratio(~flagged[well]), well, share=True),
    ]


def _ask(
    scores: CxrScores, subset: str, name: str, of: str, estimator: Estimator, places: Places, share: bool = False,
) -> Question:
    return Question(PART, subset, name, of, estimator, places, scores.groups[places], share)
