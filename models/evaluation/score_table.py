"""A plain table of scores that plots are drawn from: out-of-fold answers of training, or those of an evaluation.

As .npz: `classes` (k,), `y_true` (n, k) of 1, 0 and -1 for not labelled, `y_score` (n, k) in 0..1, `name` (n,), `group`
(n,), and where they are known `thresholds` (k,), `exclusive` (one class an image, or each class for itself), `source`
(n,); for masks `case` (m,), `organ` (m,), `dice` (m,). As .json: the same keys.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.evaluation.class_scores import ClassScores, by_index
from models.evaluation.ct_figures import dice_of_cases
from models.evaluation.ct_scores import CtScores
from models.evaluation.tasks import Scores

MOST_EXCESS = 0.02


class InvalidTable(ValueError):
    """A table of scores that cannot be drawn; the text names the key."""


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """y_true: (n, k), 1, 0, or -1 for not labelled; y_score: (n, k); thresholds: (k,); dice: by organ and case."""

    classes: tuple[str, ...] = ()
    y_true: NDArray[np.int8] = field(default_factory=lambda: np.zeros((0, 0), np.int8))
    y_score: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))
    name: tuple[str, ...] = ()
    group: tuple[str, ...] = ()
    source: tuple[str, ...] = ()
    thresholds: NDArray[np.float64] | None = None
    exclusive: bool = True
    dice: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def labelled(self, k: int) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Return truth and score of a class, for the images that are labelled: (m,), (m,)."""
        known = self.y_true[:, k] >= 0
        return self.y_true[known, k] == 1, self.y_score[known, k]

    @property
    def extent(self) -> str:
        """How many images and groups, in words."""
        groups = f" of {len(set(self.group))} patients or groups" if self.group else ""
        return f"{len(self.y_true)} images{groups}"


def table_from(given: Mapping[str, Any] | Path | ScoreTable) -> ScoreTable:
    """Return a table from a mapping of the keys above, or from a .npz or .json file of them. Raises: InvalidTable."""
    if isinstance(given, ScoreTable):
        return given
    found = _read(given) if isinstance(given, Path) else dict(given)
    try:
        y_score = np.asarray(found.get("y_score", np.zeros((0, 0))), float)
        y_true = np.asarray(found.get("y_true", np.zeros((0, 0))), np.int8)
        dice: dict[str, dict[str, float]] = {}
        columns = (found.get(key, ()) for key in ("organ", "case", "dice"))
        for organ, case, value in zip(*columns, strict=True):
            dice.setdefault(str(organ), {})[str(case)] = float(value)
        thresholds = None if found.get("thresholds") is None else np.asarray(found["thresholds"], float)
    except (TypeError, ValueError) as error:
        raise InvalidTable(f"the scores cannot be read: {error}") from error
    classes = tuple(str(c) for c in found.get("classes", ()))
    if y_score.shape != y_true.shape or y_score.ndim != 2 or y_score.shape[1] != len(classes):
        raise InvalidTable(f"y_true {y_true.shape} and y_score {y_score.shape} must both be (n, {len(classes)}), one column "
                           "for each of `classes`")
    if not np.isfinite(y_score).all():
        raise InvalidTable("y_score holds something that is not a number")
    lists = {key: tuple(str(v) for v in found.get(key, ())) for key in ("name", "group", "source")}
    if wrong := [key for key, values in lists.items() if values and len(values) != len(y_true)]:
        raise InvalidTable(f"{wrong[0]} has {len(lists[wrong[0]])} values for {len(y_true)} images")
    sums = np.abs(y_score.sum(axis=1) - 1.0)
    exclusive = bool(found["exclusive"]) if "exclusive" in found else bool((sums < MOST_EXCESS).all())
    return ScoreTable(classes, y_true, y_score, thresholds=thresholds, exclusive=exclusive, dice=dice, **lists)


def table_of(scores: Scores) -> ScoreTable:
    """Return what an evaluation scored as a table."""
    if isinstance(scores, ClassScores):
        outputs = by_index(scores.manifest)
        independent = scores.independent or scores.manifest.task == "cxr-quality"
        return ScoreTable(
            tuple(o.name for o in outputs), scores.labels, scores.probabilities, tuple(scores.names), tuple(scores.groups),
            tuple(scores.trait("source")), np.array([o.threshold for o in outputs]), not independent)
    if isinstance(scores, CtScores):
        return ScoreTable(dice={organ: dice_of_cases(scores, organ) for organ in ("infection", "lung")})
    return ScoreTable(dice={"lung": dict(zip(scores.names, map(float, scores.dice), strict=True))})


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.suffix == ".json":
            return dict(json.loads(path.read_text(encoding="utf-8")))
        with np.load(path) as arrays:
            return {key: arrays[key] for key in arrays.files}
    except (OSError, ValueError, EOFError, TypeError) as error:
        raise InvalidTable(f"{path}: not a readable .npz or .json of scores") from error
