"""Measure one bundle on a data folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from models.evaluation import tasks
from models.evaluation.bootstrap import Resampler
from models.evaluation.bundles import Network
from models.evaluation.class_figures import single_class_sources
from models.evaluation.class_scores import ClassScores
from models.evaluation.ct_scores import CtScores
from models.evaluation.figures import Figure, Question, answer
from models.evaluation.held_out import held_out_of, kept
from models.evaluation.problems import Problems
from models.evaluation.slices import looks_like_lesions
from models.evaluation.tasks import Scores
from service import DISCLAIMER
from service.domain.manifest import Manifest
from service.domain.variant import Variant

Item = TypeVar("Item")
Tick = Callable[[], None]


@dataclass(frozen=True)
class Request:
    """What to measure on. limit: the most images of each part, 0 for all, drawn by `seed`."""

    data: Path
    limit: int = 0
    seed: int = 0
    resamples: int = 1000
    held_out: bool = False


@dataclass
class Evaluation:
    """Figures of one bundle with everything that qualifies them."""

    manifest: Manifest
    variant: Variant
    request: Request
    scores: Scores
    problems: Problems
    notes: list[str]
    figures: list[Figure] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        m = self.manifest
        return {
            "notice": DISCLAIMER,
            "bundle": {"name": m.name, "version": m.version, "task": m.task, "sha256": self.variant.sha256,
                       "precision": self.variant.precision.value},
            "data": {"folder": self.request.data.name, "absent": self.problems.absent, "images": len(self.scores.names),
                     "held_out_only": self.request.held_out, "limit": self.request.limit},
            "seed": self.request.seed, "resamples": self.request.resamples, "notes": self.notes,
            "figures": [f.as_json() for f in self.figures],
            "confusion": tasks.confusion_of(self.scores),
            "skipped": {"count": len(self.problems.rows),
                        "rows": [{"what": what, "why": why} for what, why in self.problems.rows]},
        }


def gather(manifest: Manifest, request: Request, problems: Problems) -> list[Any]:
    """List the images that a bundle is to be measured on. Raises: held_out.CannotTell."""
    images = limited(found(manifest, request, problems), request)
    return tasks.of(manifest).expand(images, request.data, manifest, request.seed)


def found(manifest: Manifest, request: Request, problems: Problems) -> list[Any]:
    """List the images of a bundle's kind, the held-out ones where those are asked for. Raises: held_out.CannotTell."""
    images = tasks.of(manifest).find(request.data, manifest, problems)
    return kept(images, held_out_of(manifest), problems) if request.held_out else images


def limited(images: Sequence[Any], request: Request) -> list[Any]:
    """Return at most `limit` images of each part, drawn by the seed."""
    return [i for part in dict.fromkeys(i.part for i in images)
            for i in drawn([i for i in images if i.part == part], request)]


def drawn(items: Sequence[Item], request: Request) -> list[Item]:
    """Return `limit` of the items, drawn by the seed, in their order; all of them where limit is 0."""
    if not request.limit or request.limit >= len(items):
        return list(items)
    places = np.random.default_rng(request.seed).choice(len(items), request.limit, replace=False)
    return [items[place] for place in sorted(places)]


def notes_on(manifest: Manifest, request: Request, scores: Scores) -> list[str]:
    """Say what a reader must know before quoting a figure."""
    notes = [
        "Held-out images only: the bundle was not trained on them; thresholds or curves may have been chosen with them, see "
        "its card." if request.held_out else
        "Images that the bundle was trained on may be among these; for its own training data see --held-out.",
        "Intervals: 95 %, patients (groups, cases) drawn again, never images; those of fewer than 10 groups are too narrow.",
    ]
    told = isinstance(scores, ClassScores) and manifest.task == "cxr-classification"
    if told and (alone := single_class_sources(scores)):
        notes.append(f"One class only, so no figure within the source: {', '.join(alone)}. A figure over all "
                     "sources may measure the recognition of the source.")
    notes += tasks.of(manifest).notes
    if isinstance(scores, CtScores) and not looks_like_lesions(manifest):
        notes.append("The bundle does not end with stretch and equalise, so the lesion slices are not in its look.")
    return notes


def evaluate(
    manifest: Manifest, request: Request, tick: Callable[[int], Tick] = lambda _: lambda: None,
    each: Callable[[Sequence[Question]], Iterable[Question]] = iter, threads: int = 0,
) -> Evaluation:
    """Measure a bundle. tick: called with the number of images, returns what is called at each; each: wraps questions.

    Raises: held_out.CannotTell; InvalidManifest; EngineUnavailable.
    """
    problems = Problems()
    images = gather(manifest, request, problems)
    measure, network = tasks.of(manifest), Network(manifest, threads)
    scores = measure.score(network, images, problems, tick(len(images)))
    figures = answer(measure.questions(scores), Resampler(request.seed, request.resamples), each)
    return Evaluation(manifest, network.variant, request, scores, problems, notes_on(manifest, request, scores), figures)
