"""What a radiograph bundle says of every image of a data folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.evaluation.bundles import Network
from models.evaluation.pictures import Unreadable, read_grey, read_indices
from models.evaluation.problems import Problems
from models.evaluation.radiographs import Radiograph
from service.domain import codes
from service.domain.manifest import Manifest
from service.errors import EngineUnavailable, Reason
from service.prepare import cxr

Tick = Any
Item = tuple[Radiograph, tuple[int, int], NDArray[np.bool_] | None]


@dataclass(frozen=True, eq=False)
class CxrScores:
    """probabilities: (n, k); labels: (n, k), 1, 0 or -1 where not labelled; groups: (n,); evidence: (n, 2), the share of
    the saliency inside the lungs and of the image that is lung, not a number where there is no lung mask."""

    manifest: Manifest
    images: list[Radiograph]
    probabilities: NDArray[np.float64]
    labels: NDArray[np.int8]
    groups: NDArray[np.str_]
    evidence: NDArray[np.float64]

    @property
    def abnormal(self) -> list[int]:
        """Places of the outputs that are findings."""
        return [o.index for o in self.manifest.outputs if o.code is not None and o.code != codes.NO_FINDING]

    @property
    def flagged(self) -> NDArray[np.bool_]:
        """Which outputs are at or over their threshold: (n, k)."""
        return self.probabilities >= np.array([o.threshold for o in by_index(self.manifest)])

    @property
    def truth(self) -> NDArray[np.int64]:
        """The one class that is labelled 1: (n,); -1 where none or several are."""
        positive = self.labels == 1
        return np.where(positive.sum(axis=1) == 1, positive.argmax(axis=1), -1)

    def trait(self, name: str) -> NDArray[np.str_]:
        """Return a trait of each image, such as its sex: (n,)."""
        return np.array([i.traits[name] for i in self.images], dtype=str)


def by_index(manifest: Manifest) -> list[Any]:
    """Return the outputs in the order of the tensor."""
    return sorted(manifest.outputs, key=lambda o: o.index)


def score_radiographs(
    network: Network, images: Sequence[Radiograph], problems: Problems, tick: Tick = lambda: None,
) -> CxrScores:
    """Run a bundle over radiographs, prepared as the service does. Unreadable images are noted and left out."""
    manifest = network.manifest
    outputs = by_index(manifest)
    place_of = [manifest.outputs.index(o) for o in outputs]
    kept, probabilities, evidence = [], [], []
    for (image, shape, lung), answer in network.over(_prepared(images, manifest, problems, tick)):
        scores = np.asarray(answer.get("probabilities"), dtype=float)
        if scores.shape != (len(outputs),) or not np.isfinite(scores).all():
            raise EngineUnavailable(Reason.ENGINE_FAILED, f"the output of {manifest.name} does not fit its manifest")
        kept.append(image)
        probabilities.append(scores)
        evidence.append(_evidence(answer, scores, shape, lung, manifest))
    labels = [[-1 if i.labels[p] is None else int(bool(i.labels[p])) for p in place_of] for i in kept]
    return CxrScores(
        manifest, kept, np.array(probabilities).reshape(len(kept), len(outputs)),
        np.array(labels, np.int8).reshape(len(kept), len(outputs)), np.array([i.group for i in kept], dtype=str),
        np.array(evidence, float).reshape(len(kept), 2),
    )


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
