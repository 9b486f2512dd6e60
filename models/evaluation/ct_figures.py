"""Which figures of a CT bundle are asked for: Dice by case, lungs, false alarms, and slices told apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.evaluation.bootstrap import Estimator, auc, ratio
from models.evaluation.ct_scores import CtScores
from models.evaluation.figures import Question
from models.evaluation.slices import LESIONS, LUNGS, PAPERS

Places = NDArray[np.intp]
BOTH = f"{LESIONS} + {LUNGS}"


def ct_questions(scores: CtScores) -> list[Question]:
    """Return every question that the parts at hand allow."""
    questions = _lesion_cases(scores)
    lungs = np.flatnonzero((scores.parts == LUNGS) & (scores.pixels("lung_true") > 0))
    questions.append(_ask(scores, LUNGS, "lung Dice, mean of slices", "", ratio(dice(scores, "lung", lungs)), lungs))
    for part in (LESIONS, LUNGS):
        clean = np.flatnonzero((scores.parts == part) & ~scores.sick)
        alarms = ratio(100.0 * scores.pixels("infection_found")[clean], scores.pixels("lung_found")[clean])
        questions.append(_ask(scores, part, "% of lung called infected, slices without infection", "", alarms, clean))
    for name, parts in ((LESIONS, (LESIONS,)), (BOTH, (LESIONS, LUNGS)), (PAPERS, (PAPERS,))):
        questions += _told_apart(scores, name, np.flatnonzero(np.isin(scores.parts, parts)))
    return questions


def dice(scores: CtScores, organ: str, places: Places) -> NDArray[np.float64]:
    """Return 2 |a and b| / (|a| + |b|) of each slice: (n,); 1 where both are empty."""
    both, found, wanted = (scores.pixels(f"{organ}_{w}")[places] for w in ("both", "found", "true"))
    return _dice_of(both, found + wanted)


def _lesion_cases(scores: CtScores) -> list[Question]:
    """Dice over all pixels of each case, and the mean of the cases, where the cases are drawn again."""
    lesions = np.flatnonzero(scores.parts == LESIONS)
    names, member = np.unique(np.array([scores.slices[i].group for i in lesions], dtype=str), return_inverse=True)
    questions = []
    for organ in ("infection", "lung"):
        both, found, wanted = (
            np.bincount(member, scores.pixels(f"{organ}_{w}")[lesions], len(names)) for w in ("both", "found", "true"))
        marked = np.flatnonzero(wanted > 0)
        by_case = _dice_of(both, found + wanted)
        questions.append(Question(
            LESIONS, "all", f"{organ} Dice, mean of cases", "", ratio(by_case[marked]), marked, names[marked]))
        for case in marked:
            places = lesions[member == case]
            questions.append(_ask(
                scores, LESIONS, f"{organ} Dice", "", _constant(by_case[case]), places, f"case {names[case]}"))
    return questions


def dice_of_cases(scores: CtScores, organ: str) -> dict[str, float]:
    """Return Dice over all pixels of each case of ct_lesions where the organ ("lung", "infection") is marked, by name."""
    questions = [q for q in _lesion_cases(scores) if q.name == f"{organ} Dice"]
    return {q.subset.removeprefix("case "): float(q.estimator(np.ones((1, len(q.places))))[0]) for q in questions}


def _told_apart(scores: CtScores, part: str, chosen: Places) -> list[Question]:
    sick = scores.sick
    questions = [_ask(
        scores, part, "AUC of slices by infected share", "infection", auc(scores.fraction[chosen], sick[chosen]), chosen)]
    flagged = scores.flagged
    if flagged is not None and part != BOTH:
        ill, well = chosen[sick[chosen]], chosen[~sick[chosen]]
        questions += [
            _ask(scores, part, "slices over the threshold, sensitivity", "infection", ratio(flagged[ill]), ill, share=True),
            _ask(scores, part, "slices over the threshold, specificity", "infection", ratio(~flagged[well]), well,
                 share=True),
        ]
    return questions


def _constant(value: float) -> Estimator:
    return lambda weights: np.full(len(weights), value)


def _dice_of(both: NDArray[np.float64], total: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(2.0 * both, total, out=np.ones(len(both)), where=total > 0)


def _ask(
    scores: CtScores, part: str, name: str, of: str, estimator: Estimator, places: Places, subset: str = "all",
    share: bool = False,
) -> Question:
    return Question(part, subset, name, of, estimator, places, scores.groups[places], share)
