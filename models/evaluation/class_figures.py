"""Which figures of a classifier are asked for: over all, within each source, and in each subgroup."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.evaluation.bootstrap import Estimator, auc, calibration_error, f1, mean_of, ratio
from models.evaluation.class_scores import ClassScores, by_index
from models.evaluation.ct_classes import is_covid
from models.evaluation.figures import Question
from models.evaluation.radiographs import RADIOGRAPHS, SUBGROUPS
from models.evaluation.slices import LESIONS
from service.infer.ct_pattern import class_probability, mean_of_top

ANY, ABNORMAL = "any finding", "abnormal against no finding"
Places = NDArray[np.intp]


def class_questions(scores: ClassScores) -> list[Question]:
    """Return every question. A label that is empty is left out of its class's figures; it is not a negative."""
    questions = []
    for part in dict.fromkeys(scores.parts):
        chosen = np.flatnonzero(scores.parts == part)
        questions += subset_questions(scores, "all", chosen)
        if part != RADIOGRAPHS:
            continue
        for name, places in _sources(scores, chosen):
            if _varied(scores, places):
                questions += subset_questions(scores, name, places)
        for trait in SUBGROUPS:
            values = scores.trait(trait)
            for value in sorted(set(values[chosen])):
                questions += subset_questions(
                    scores, f"{trait} {value or 'unknown'}", chosen[values[chosen] == value], brief=scores.independent)
    return questions


def subset_questions(scores: ClassScores, subset: str, chosen: Places, brief: bool = False) -> list[Question]:
    """Return accuracy, calibration, and AUC, sensitivity and specificity of each class, for the chosen images.

    brief: AUC only, where there are many outputs.
    """
    questions = [] if scores.independent else _of_known_class(scores, subset, chosen)
    for output in by_index(scores.manifest):
        k = output.index
        known = chosen[scores.labels[chosen, k] >= 0]
        positive = scores.labels[:, k] == 1
        questions.append(_ask(
            scores, subset, "AUC", output.name, auc(scores.probabilities[known, k], positive[known]), known))
        if scores.independent and not brief:
            questions.append(_ask(scores, subset, "calibration error", output.name, calibration_error(
                scores.probabilities[known, k], positive[known]), known))
        if k in scores.abnormal and not brief:
            questions += _at_threshold(scores, subset, output.name, scores.flagged[:, k], known, positive)
    questions += [*_means(scores, subset, chosen), *_abnormal(scores, subset, chosen), *_covid(scores, subset, chosen)]
    return [*questions, *_evidence(scores, subset, chosen), *_unfamiliar(scores, subset, chosen)]


def confusion(scores: ClassScores) -> dict[str, Any]:
    """Return the confusion matrix, rows the true class, of images with exactly one class labelled 1."""
    names = [o.name for o in by_index(scores.manifest)]
    known = scores.truth >= 0
    table = np.zeros((len(names), len(names)), int)
    np.add.at(table, (scores.truth[known], scores.probabilities[known].argmax(axis=1)), 1)
    return {"classes": names, "rows_true": table.tolist(), "images": int(known.sum()),
            "without_one_class": int((~known).sum())}


def single_class_sources(scores: ClassScores) -> list[str]:
    """Return the sources that hold one class only, where no figure within the source can be given."""
    sources = scores.trait("source")
    return [str(s) for s in sorted(set(sources) - {""}) if not _varied(scores, np.flatnonzero(sources == s))]


def _sources(scores: ClassScores, chosen: Places) -> list[tuple[str, Places]]:
    """Return each source, and each family of sources whose names start alike, such as nih-starter and nih-pneumonia."""
    sources = scores.trait("source")[chosen]
    found = [(f"source {name}", chosen[sources == name]) for name in sorted(set(sources) - {""})]
    families: dict[str, list[str]] = defaultdict(list)
    for name in sorted(set(sources)):
        families[name.partition("-")[0]].append(name)
    return found + [(f"sources {family}-*", chosen[np.isin(sources, names)])
                    for family, names in families.items() if len(names) > 1]


def _varied(scores: ClassScores, places: Places) -> bool:
    """Tell whether some class is there as well as not there."""
    if not scores.independent:
        return len(set(scores.truth[places]) - {-1}) > 1
    labels = scores.labels[places]
    return bool(((labels == 1).any(axis=0) & (labels == 0).any(axis=0)).any())


def _of_known_class(scores: ClassScores, subset: str, chosen: Places) -> list[Question]:
    known = chosen[scores.truth[chosen] >= 0]
    if scores.manifest.task == "ct-classification" and not _varied(scores, known):
        return []
    called = scores.probabilities[known].argmax(axis=1)
    right, confidence = called == scores.truth[known], scores.probabilities[known].max(axis=1)
    there = [o for o in by_index(scores.manifest) if (scores.truth[known] == o.index).any()]
    each = [f1(called == o.index, scores.truth[known] == o.index) for o in there]
    return [
        _ask(scores, subset, "accuracy", "", ratio(right), known, share=True),
        _ask(scores, subset, "calibration error", "", calibration_error(confidence, right), known),
        *(_ask(scores, subset, "F1", o.name, one, known) for o, one in zip(there, each, strict=True)),
        *([_ask(scores, subset, "F1, mean of classes", "", mean_of(each), known)] if len(each) > 1 else []),
    ]


def _means(scores: ClassScores, subset: str, chosen: Places) -> list[Question]:
    """The mean over the findings that are labelled both ways among the images."""
    labels = scores.labels[chosen]
    both = [k for k in scores.abnormal if (labels[:, k] == 1).any() and (labels[:, k] == 0).any()]
    if not scores.independent or len(both) < 2:
        return []
    areas, errors = [], []
    for k in both:
        known = np.flatnonzero(labels[:, k] >= 0)
        score, positive = scores.probabilities[chosen[known], k], labels[known, k] == 1
        areas.append(_narrowed(auc(score, positive), known))
        errors.append(_narrowed(calibration_error(score, positive), known))
    return [_ask(scores, subset, f"AUC, mean of {len(both)} findings", "", mean_of(areas), chosen),
            _ask(scores, subset, f"calibration error, mean of {len(both)} findings", "", mean_of(errors), chosen)]


def _abnormal(scores: ClassScores, subset: str, chosen: Places) -> list[Question]:
    """Sick is what has a finding labelled 1 (or "no finding" labelled 0), healthy what is labelled as without one."""
    abnormal = scores.labels[:, scores.abnormal]
    sick = (abnormal == 1).any(axis=1)
    if scores.normal is None:
        healthy = (abnormal == 0).all(axis=1) & bool(scores.abnormal)
        questions = []
    else:
        healthy = scores.labels[:, scores.normal] == 1
        known = chosen[(scores.labels[:, scores.normal] >= 0)[chosen]]
        area = auc(1.0 - scores.probabilities[known, scores.normal], ~healthy[known])
        questions = [_ask(scores, subset, "AUC", ABNORMAL, area, known)]
    if len(scores.abnormal) > 1:
        known = chosen[(sick ^ healthy)[chosen]]
        questions += _at_threshold(scores, subset, ANY, scores.flagged[:, scores.abnormal].any(axis=1), known, sick)
    return questions


def _covid(scores: ClassScores, subset: str, chosen: Places) -> list[Question]:
    """COVID-19 or not, by the most probable class, where the class of the others is not known (CT slices of papers)."""
    outputs = [o for o in by_index(scores.manifest) if is_covid(o)]
    if scores.manifest.task != "ct-classification" or len(outputs) != 1:
        return []
    k = outputs[0].index
    known = chosen[scores.labels[chosen, k] >= 0]
    called, sick = scores.probabilities[known].argmax(axis=1) == k, scores.labels[known, k] == 1
    of = f"{outputs[0].name} or not"
    return [_ask(scores, subset, "accuracy", of, ratio(called == sick), known, share=True),
            _ask(scores, subset, "F1", of, f1(called, sick), known), _whole_cases(scores, subset, known, k, outputs[0].name)]


def _whole_cases(scores: ClassScores, subset: str, known: Places, k: int, name: str) -> Question:
    """The share of cases of ct_lesions over the threshold, put together as the service does with a volume."""
    cases = known[scores.parts[known] == LESIONS]
    first = np.array([np.flatnonzero(scores.groups == g)[0] for g in np.unique(scores.groups[cases])], np.intp)
    over = []
    for place in first:
        slices = scores.probabilities[scores.groups == scores.groups[place], k]
        score = mean_of_top(slices, scores.manifest.aggregate.share)
        over.append(class_probability(score, name, scores.manifest.parameters) >= by_index(scores.manifest)[k].threshold)
    return _ask(scores, subset, "whole cases, sensitivity", name, ratio(np.array(over, float)), first, share=True)


def _evidence(scores: ClassScores, subset: str, chosen: Places) -> list[Question]:
    inside, share = scores.evidence[chosen].T
    masked = chosen[np.isfinite(inside)]
    return [
        _ask(scores, subset, "saliency inside the lungs", "", ratio(inside[np.isfinite(inside)]), masked),
        _ask(scores, subset, "share of the image that is lung", "", ratio(share[np.isfinite(inside)]), masked),
    ]


def _unfamiliar(scores: ClassScores, subset: str, chosen: Places) -> list[Question]:
    """The share that the service would refuse as unlike the training images."""
    most = scores.manifest.accepts.most_unfamiliarity
    told = chosen[np.isfinite(scores.unfamiliarity[chosen])]
    if not most:
        return []
    return [_ask(scores, subset, "refused as unfamiliar", "", ratio(scores.unfamiliarity[told] > most), told, share=True)]


def _at_threshold(
    scores: ClassScores, subset: str, of: str, flagged: NDArray[np.bool_], known: Places, sick: NDArray[np.bool_],
) -> list[Question]:
    ill, well = known[sick[known]], known[~sick[known]]
    return [
        _ask(scores, subset, "sensitivity", of, ratio(flagged[ill]), ill, share=True),
        _ask(scores, subset, "specificity", of, ratio(~flagged[well]), well, share=True),
    ]


def _narrowed(estimator: Estimator, places: Places) -> Estimator:
    return lambda weights: estimator(weights[:, places])


def _ask(
    scores: ClassScores, subset: str, name: str, of: str, estimator: Estimator, places: Places, share: bool = False,
) -> Question:
    part = str(scores.parts[places[0]]) if len(places) else ""
    return Question(part, subset, name, of, estimator, places, scores.groups[places], share)
