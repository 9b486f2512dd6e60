"""What a lung-field bundle marks on the radiographs of a data folder that have a lung mask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.evaluation.bootstrap import Estimator, ratio
from models.evaluation.bundles import Network
from models.evaluation.class_scores import unfamiliarity_of
from models.evaluation.figures import Question
from models.evaluation.pictures import Unreadable, read_grey, read_indices
from models.evaluation.problems import Problems
from models.evaluation.radiographs import RADIOGRAPHS, SUBGROUPS, Radiograph
from service.domain.manifest import Manifest
from service.errors import EngineUnavailable, Reason
from service.prepare import cxr

Tick = Any
Item = tuple[Radiograph, NDArray[np.bool_]]
LOW_DICE = 0.9


@dataclass(frozen=True, eq=False)
class LungScores:
    """pixels: (n, 3), of what was found, what is true, and both, on the image's own grid."""

    manifest: Manifest
    images: list[Radiograph]
    pixels: NDArray[np.float64]
    unfamiliarity: NDArray[np.float64]

    @property
    def names(self) -> list[str]:
        """The name of each image."""
        return [i.name for i in self.images]

    @property
    def groups(self) -> NDArray[np.str_]:
        """What each image may not be torn apart from: (n,)."""
        return np.array([i.group for i in self.images], dtype=str)

    @property
    def dice(self) -> NDArray[np.float64]:
        """2 |a and b| / (|a| + |b|) of each image: (n,)."""
        found, true, both = self.pixels.T
        return 2.0 * both / np.maximum(found + true, 1.0)

    @property
    def iou(self) -> NDArray[np.float64]:
        """|a and b| / |a or b| of each image: (n,)."""
        found, true, both = self.pixels.T
        return both / np.maximum(found + true - both, 1.0)


def score_lungs(
    network: Network, images: Sequence[Radiograph], problems: Problems, tick: Tick = lambda: None,
) -> LungScores:
    """Run a bundle over radiographs that have a lung mask. Unreadable images and masks are noted and left out.

    The last output is the lungs; a pixel is lung where its probability is the largest.
    """
    kept, pixels, unfamiliarity = [], [], []
    for (image, lung), answer in network.over(_prepared(images, network.manifest, problems, tick)):
        probabilities = answer.get("probabilities")
        if probabilities is None or probabilities.ndim != 3 or len(probabilities) != len(network.manifest.outputs):
            raise EngineUnavailable(
                Reason.ENGINE_FAILED, f"the output of {network.manifest.name} does not fit its manifest")
        found = cxr.restore(probabilities, lung.shape[0], lung.shape[1], network.manifest.parameters).argmax(axis=0) > 0
        kept.append(image)
        pixels.append([int(found.sum()), int(lung.sum()), int((found & lung).sum())])
        unfamiliarity.append(unfamiliarity_of(answer))
    return LungScores(network.manifest, kept, np.array(pixels, float).reshape(len(kept), 3),
                      np.array(unfamiliarity, float).reshape(len(kept)))


def lung_questions(scores: LungScores) -> list[Question]:
    """Ask for Dice and IoU: over all, within each source, and in each subgroup."""
    everything = np.arange(len(scores.images))
    questions = _of(scores, "all", everything)
    for trait in ("source", *SUBGROUPS):
        values = np.array([i.traits.get(trait, "") for i in scores.images], dtype=str)
        for value in sorted(set(values)):
            questions += _of(scores, f"{trait} {value or 'unknown'}", np.flatnonzero(values == value))
    return questions


def _of(scores: LungScores, subset: str, places: NDArray[np.intp]) -> list[Question]:
    def ask(name: str, estimator: Estimator, share: bool = False) -> Question:
        return Question(RADIOGRAPHS, subset, name, "", estimator, places, scores.groups[places], share)

    found, true, _ = scores.pixels[places].T
    return [
        ask("lung Dice, mean of images", ratio(scores.dice[places])),
        ask("lung IoU, mean of images", ratio(scores.iou[places])),
        ask(f"images with a lung Dice under {LOW_DICE}", ratio(scores.dice[places] < LOW_DICE), share=True),
        ask("area found / true area", ratio(found, true)),
    ]


def _prepared(
    images: Sequence[Radiograph], manifest: Manifest, problems: Problems, tick: Tick,
) -> Iterator[tuple[Item, NDArray[np.float32]]]:
    for image in images:
        tick()
        try:
            grey = read_grey(image.path)
            if image.lung_mask is None:
                raise Unreadable("missing mask")
            lung = read_indices(image.lung_mask, grey.shape) > 0
        except Unreadable as error:
            problems.skip(image.name, str(error))
            continue
        yield (image, lung), cxr.image_tensor(grey, manifest.parameters, manifest.steps)[0, 0]
