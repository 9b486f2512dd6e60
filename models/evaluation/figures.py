"""A question to the scores (which figure, of which images) and its answer (value, interval, n)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.evaluation.bootstrap import Estimator, Resampler

Key = tuple[str, str, str, str]


@dataclass(frozen=True, eq=False)
class Question:
    """part: of the data; subset: "all" or "sex F"; name: the figure; of: the class or set it is for; places: (n,) of the
    images in the scores; groups: (n,); share: a share of images, in 0..1."""

    part: str
    subset: str
    name: str
    of: str
    estimator: Estimator
    places: NDArray[np.intp]
    groups: NDArray[np.generic]
    share: bool = False

    @property
    def key(self) -> Key:
        """What identifies the figure."""
        return self.part, self.subset, self.name, self.of


@dataclass(frozen=True)
class Figure:
    """One measured figure; low and high: 95 % interval, None where none can be given; n: images or cases."""

    part: str
    subset: str
    name: str
    of: str
    value: float
    low: float | None
    high: float | None
    n: int
    groups: int

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


def answer(
    questions: Sequence[Question], resampler: Resampler, each: Callable[[Sequence[Question]], Iterable[Question]] = iter,
) -> list[Figure]:
    """Answer every question that its images define; the others are left out. each: wraps the loop, for a progress bar."""
    figures = []
    for question in each(questions):
        estimate = resampler.estimate(question.estimator, question.groups, question.share)
        if estimate is not None:
            figures.append(Figure(
                *question.key, estimate.value, estimate.low, estimate.high, len(question.places),
                len(np.unique(question.groups)),
            ))
    return figures
