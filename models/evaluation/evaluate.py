"""Measure one bundle on a data folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from models.evaluation import held_out
from models.evaluation.bootstrap import Resampler
from models.evaluation.bundles import Network
from models.evaluation.ct_figures import ct_questions
from models.evaluation.ct_scores import CtScores, score_slices
from models.evaluation.cxr_figures import confusion, cxr_questions, single_class_sources
from models.evaluation.cxr_scores import CxrScores, score_radiographs
from models.evaluation.figures import Figure, Question, answer
from models.evaluation.problems import Problems
from models.evaluation.radiographs import Radiograph, read_radiographs, read_rows
from models.evaluation.slices import CtSlice, find_slices, looks_like_lesions
from service import DISCLAIMER
from service.domain.manifest import Manifest

Item = TypeVar("Item")
Scores = CxrScores | CtScores
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
            "bundle": {"name": m.name, "version": m.version, "task": m.task, "sha256": m.sha256},
            "data": {"folder": self.request.data.name, "absent": self.problems.absent, "images": len(images_of(self.scores)),
                     "held_out_only": self.request.held_out, "limit": self.request.limit},
            "seed": self.request.seed, "resamples": self.request.resamples, "notes": self.notes,
            "figures": [f.as_json() for f in self.figures],
            "confusion": confusion(self.scores) if isinstance(self.scores, CxrScores) else None,
            "skipped": {"count": len(self.problems.rows),
                        "rows": [{"what": what, "why": why} for what, why in self.problems.rows]},
        }


def images_of(scores: Scores) -> Sequence[Radiograph | CtSlice]:
    """Return the images that were scored."""
    return scores.images if isinstance(scores, CxrScores) else scores.slices


def questions_of(scores: Scores) -> list[Question]:
    """Return every figure that is asked for."""
    return cxr_questions(scores) if isinstance(scores, CxrScores) else ct_questions(scores)


def gather(manifest: Manifest, request: Request, problems: Problems) -> list[Any]:
    """List the images that a bundle is to be measured on. Raises: held_out.CannotTell."""
    if manifest.task == "ct-segmentation":
        slices = find_slices(request.data, problems)
        if request.held_out:
            fold = int(held_out.recipe_of(manifest)["split"]["fold"])
            slices = held_out.held_out_slices(slices, held_out.figures_of(manifest), fold)
        return [s for part in dict.fromkeys(s.part for s in slices)
                for s in drawn([s for s in slices if s.part == part], request)]
    rows = read_rows(request.data, problems)
    if request.held_out:
        files = held_out.held_out_files(rows, held_out.recipe_of(manifest), held_out.figures_of(manifest))
    images = read_radiographs(request.data, rows, manifest, problems)
    if request.held_out:
        images = [i for i in images if i.name in files]
    return drawn(images, request)


def drawn(items: Sequence[Item], request: Request) -> list[Item]:
    """Return `limit` of the items, drawn by the seed, in their order; all of them where limit is 0."""
    if not request.limit or request.limit >= len(items):
        return list(items)
    places = np.random.default_rng(request.seed).choice(len(items), request.limit, replace=False)
    return [items[place] for place in sorted(places)]


def score(network: Network, images: Sequence[Any], problems: Problems, tick: Tick = lambda: None) -> Scores:
    """Run a bundle over the images of its kind."""
    run: Callable[..., Scores] = score_slices if network.manifest.task == "ct-segmentation" else score_radiographs
    return run(network, images, problems, tick)


def notes_on(manifest: Manifest, request: Request, scores: Scores) -> list[str]:
    """Say what a reader must know before quoting a figure."""
    notes = [
        "Held-out images only: the bundle was not trained on them; thresholds or curves may have been chosen with them, see "
        "its card." if request.held_out else
        "Images that the bundle was trained on may be among these; for its own training data see --held-out.",
        "Intervals: 95 %, patients (groups, cases) drawn again, never images; those of fewer than 10 groups are too narrow.",
    ]
    if isinstance(scores, CxrScores):
        if alone := single_class_sources(scores):
            notes.append(f"One class only, so no figure within the source: {', '.join(alone)}. A figure over all "
                         "sources may measure the recognition of the source.")
        return notes
    notes.append("The network's own masks, slice by slice, before the read-out that the service does on whole volumes.")
    if not looks_like_lesions(manifest):
        notes.append("The bundle does not end with stretch and equalise, so the lesion slices are not in its look.")
    notes.append("ct_lungs names no patients: each slice counts as a group. An AUC over two sets compares their origin as "
                 "well. Slices from papers are windowed pictures, far from what the service is given.")
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
    scores = score(Network(manifest, threads), images, problems, tick(len(images)))
    figures = answer(questions_of(scores), Resampler(request.seed, request.resamples), each)
    return Evaluation(manifest, request, scores, problems, notes_on(manifest, request, scores), figures)
