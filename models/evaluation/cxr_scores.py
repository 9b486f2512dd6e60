"""What a radiograph bundle says of every image of a data folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.evaluation.bundles import Network
from models.evaluation.class_scores import ClassScores, gathered, probabilities_of, unfamiliarity_of
from models.evaluation.pictures import Unreadable, read_grey, read_indices
from models.evaluation.problems import Problems
from models.evaluation.radiographs import Radiograph
from service.domain import codes
from service.domain.manifest import Manifest
from service.prepare import cxr

Tick = Any
Item = tuple[Radiograph, tuple[int, int], NDArray[np.bool_] | None]


def score_radiographs(
    network: Network, images: Sequence[Radiograph], problems: Problems, tick: Tick = lambda: None,
) -> ClassScores:
    """Run a bundle over radiographs, prepared as the service does. Unreadable images are noted and left out."""
    manifest = network.manifest
    kept, probabilities, evidence, unfamiliarity = [], [], [], []
    for (image, shape, lung), answer in network.over(_prepared(images, manifest, problems, tick)):
        scores = probabilities_of(answer, manifest)
        kept.append(image)
        probabilities.append(scores)
        evidence.append(_evidence(answer, scores, shape, lung, manifest))
        unfamiliarity.append(unfamiliarity_of(answer))
    return gathered(manifest, kept, probabilities, evidence, unfamiliarity)


def _prepared(
    images: Sequence[Radiograph], manifest: Manifest, problems: Problems, tick: Tick,
) -> Iterator[tuple[Item, NDArray[np.float32]]]:
    for image in images:
        tick()
        try:
            grey = read_grey(image.path)
        except Unreadable as error:
            problems.skip(image.name, str(error))
            continue
        lung = None
        if image.lung_mask is not None:
            try:
                lung = read_indices(image.lung_mask, grey.shape) > 0
            except Unreadable as error:
                problems.skip(image.name, f"lung mask left out: {error}")
        tensor = cxr.image_tensor(grey, manifest.parameters, manifest.steps)
        yield (image, (grey.shape[0], grey.shape[1]), lung), tensor[0, 0]


def _evidence(
    answer: dict[str, NDArray[Any]], scores: NDArray[np.float64], shape: tuple[int, int],
    lung: NDArray[np.bool_] | None, manifest: Manifest,
) -> tuple[float, float]:
    """Return the share of the most probable finding's saliency that lies in the lungs, and the lungs' share."""
    findings = [o for o in manifest.outputs if o.code is not None and o.code != codes.NO_FINDING]
    if lung is None or not findings or "activation" not in answer or "saliency_floor" not in manifest.parameters:
        return float("nan"), float("nan")
    likely = max(findings, key=lambda o: scores[o.index])
    saliency = cxr.saliency_on_source(answer["activation"][likely.index], *shape, manifest.parameters)
    total = float(saliency.sum())
    return (float(saliency[lung].sum()) / total if total else float("nan")), float(lung.mean())
