"""The reference of a bundle, what drift is measured against: what its network is given and says on its held-out images."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.evaluation import tasks
from models.evaluation.bundles import Network
from models.evaluation.evaluate import Request, found, limited
from models.evaluation.exposures import AS_IS
from models.evaluation.held_out import CannotTell
from models.evaluation.problems import Problems
from models.evaluation.radiographs import Radiograph
from models.evaluation.score_table import ScoreTable
from models.evaluation.slices import PAPERS
from service.domain.drift import FILE, Bins, Reference, bins_of, read_reference
from service.domain.manifest import InvalidManifest, Manifest
from service.infer.watched import Seen, measured

LEAST_IMAGES = 100
Tick = Callable[[], None]


class Watching(Network):
    """A bundle's network that remembers what it was given and said."""

    def __init__(self, manifest: Manifest, threads: int = 0) -> None:
        super().__init__(manifest, threads)
        self.seen = Seen()

    def run(self, tensor: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Run (n, 1, h, w), measure, and return the outputs by name. Raises: EngineUnavailable."""
        out = super().run(tensor)
        if (values := measured(self.manifest, {"input": tensor}, out)) is not None:
            self.seen.add(self.manifest.name, values)
        return out


def reference_of(manifest: Manifest, request: Request, scores: ScoreTable | None = None,
                 tick: Callable[[int], Tick] = lambda _: lambda: None, threads: int = 0) -> Reference:
    """Measure a bundle on the images of a data folder that are like those it is given in service.

    Only what was held out counts, where the bundle says what was. One that was trained on all of it is measured on all:
    its inputs are right so, and its scores come from `scores`, a table of out-of-fold answers, where there is one.
    Raises: InvalidManifest when there are too few images; EngineUnavailable.
    """
    problems = Problems()
    images, held_out = _images(manifest, request, problems)
    network = Watching(manifest, threads)
    tasks.of(manifest).score(network, images, problems, tick(len(images)))
    values = network.seen.values().get(manifest.name, {})
    counted = max((len(v) for v in values.values()), default=0)
    if counted < LEAST_IMAGES:
        raise InvalidManifest(f"{manifest.name}: {counted} images in {request.data} can be measured; accepted: at least "
                              f"{LEAST_IMAGES}")
    bins = {name: bins_of(v) for name, v in values.items()}
    if scores is not None:
        bins |= _of_scores(manifest, scores)
    return Reference(manifest.sha256, counted, held_out or scores is not None, bins)


def added(manifest: Manifest, made: Reference) -> Reference:
    """Return the reference that the bundle has, with the measures of another that it lacks.

    So out-of-fold scores stay when something new is measured. Raises: InvalidManifest where it has none of these weights;
    InvalidReference.
    """
    kept = read_reference(manifest.folder)
    if kept is None or kept.digest != manifest.sha256:
        raise InvalidManifest(f"{manifest.name} has no {FILE} of these weights to add to")
    return replace(kept, bins={**made.bins, **kept.bins})


def write_reference(manifest: Manifest, reference: Reference) -> Path:
    """Write the reference into the bundle's folder and return its path."""
    path = manifest.folder / FILE
    path.write_text(json.dumps(reference.to_json(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return path


def _images(manifest: Manifest, request: Request, problems: Problems) -> tuple[Sequence[Any], bool]:
    held_out = Request(request.data, request.limit, request.seed, held_out=True)
    try:
        images, alone = found(manifest, held_out, problems), True
    except CannotTell:
        images, alone = found(manifest, request, problems), False
    return _usual(limited(images, request), manifest, request), alone


def _usual(images: Sequence[Any], manifest: Manifest, request: Request) -> list[Any]:
    """Return the images of the kind that the bundle is given: for a gate radiographs as they are, not made worse, and for a
    segmentation of slices in HU no pictures from papers."""
    if manifest.task == "cxr-quality":
        radiographs = [i for i in images if isinstance(i, Radiograph)]
        made = tasks.of(manifest).expand(radiographs, request.data, manifest, request.seed)
        return [e for e in made if e.kind == AS_IS]
    return [i for i in images if manifest.task != "ct-segmentation" or i.part != PAPERS]


def _of_scores(manifest: Manifest, scores: ScoreTable) -> dict[str, Bins]:
    """Bin the out-of-fold scores of the outputs. Raises: InvalidManifest when the table is of other classes."""
    names = {o.name for o in manifest.outputs}
    if not set(scores.classes) <= names:
        raise InvalidManifest(f"the table of scores is of {', '.join(scores.classes)}; accepted: {', '.join(sorted(names))}")
    return {f"score {name}": bins_of(np.asarray(scores.y_score[:, k], np.float64)) for k, name in enumerate(scores.classes)}
