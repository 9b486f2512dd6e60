"""What a classifier says of every image: probabilities beside labels, with the traits that figures are split by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from service.domain import codes
from service.domain.manifest import Manifest, Output
from service.errors import EngineUnavailable, Reason
from service.infer.ct_pattern import class_probability

MOST_EXCESS = 0.5


class Image(Protocol):
    """One image that was scored. part: of the data; labels: one for each output, in the manifest's order."""

    @property
    def part(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def group(self) -> str: ...
    @property
    def labels(self) -> tuple[bool | None, ...]: ...
    @property
    def traits(self) -> dict[str, str]: ...


@dataclass(frozen=True, eq=False)
class ClassScores:
    """probabilities: (n, k); evidence: (n, 2), the share of the saliency inside the lungs and of the image that is lung,
    not a number where there is no lung mask; unfamiliarity: (n,), not a number where the network gives none."""

    manifest: Manifest
    images: list[Any]
    probabilities: NDArray[np.float64]
    evidence: NDArray[np.float64]
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
    def parts(self) -> NDArray[np.str_]:
        """The part of the data that each image is of: (n,)."""
        return np.array([i.part for i in self.images], dtype=str)

    @property
    def labels(self) -> NDArray[np.int8]:
        """1, 0, or -1 where not labelled, in the order of the tensor: (n, k)."""
        places = [self.manifest.outputs.index(o) for o in by_index(self.manifest)]
        rows = [[-1 if i.labels[p] is None else int(bool(i.labels[p])) for p in places] for i in self.images]
        return np.array(rows, np.int8).reshape(len(self.images), len(places))

    @property
    def independent(self) -> bool:
        """Whether each probability stands alone, as of findings that occur together; else the classes exclude each other.

        It is what `independent` of the manifest's parameters says, or else whether the sums are far from 1.
        """
        declared = self.manifest.parameters.get("independent")
        if isinstance(declared, bool):
            return declared
        return bool((np.abs(self.probabilities.sum(axis=1) - 1.0) > MOST_EXCESS).any())

    @property
    def abnormal(self) -> list[int]:
        """Places of the outputs that are findings."""
        return [o.index for o in self.manifest.outputs if o.code is not None and o.code != codes.NO_FINDING]

    @property
    def normal(self) -> int | None:
        """The place of the output "no finding", None where there is none."""
        return next((o.index for o in self.manifest.outputs if o.code == codes.NO_FINDING), None)

    @property
    def flagged(self) -> NDArray[np.bool_]:
        """Which outputs are at or over their threshold: (n, k); a CT slice as if it were the whole study."""
        outputs, found = by_index(self.manifest), self.probabilities
        if self.manifest.task == "ct-classification":
            found = np.array([[class_probability(float(p[o.index]), o.name, self.manifest.parameters) for o in outputs]
                              for p in self.probabilities]).reshape(self.probabilities.shape)
        return found >= np.array([o.threshold for o in outputs])

    @property
    def truth(self) -> NDArray[np.int64]:
        """The one class that is labelled 1: (n,); -1 where none or several are."""
        positive = self.labels == 1
        return np.where(positive.sum(axis=1) == 1, positive.argmax(axis=1), -1)

    def trait(self, name: str) -> NDArray[np.str_]:
        """Return a trait of each image, such as its sex: (n,), empty where unknown."""
        return np.array([i.traits.get(name, "") for i in self.images], dtype=str)


def by_index(manifest: Manifest) -> list[Output]:
    """Return the outputs in the order of the tensor."""
    return sorted(manifest.outputs, key=lambda o: o.index)


def probabilities_of(answer: Mapping[str, NDArray[Any]], manifest: Manifest) -> NDArray[np.float64]:
    """Return an image's probabilities: (k,). Raises: EngineUnavailable when they do not fit the manifest."""
    found = np.asarray(answer.get("probabilities"), dtype=float)
    if found.shape != (len(manifest.outputs),) or not np.isfinite(found).all():
        raise EngineUnavailable(Reason.ENGINE_FAILED, f"the output of {manifest.name} does not fit its manifest")
    return found


def unfamiliarity_of(answer: Mapping[str, NDArray[Any]]) -> float:
    """Return how unlike its training images the network takes an image to be; not a number where it does not say."""
    return float(np.asarray(answer["unfamiliarity"]).reshape(-1)[0]) if "unfamiliarity" in answer else float("nan")


def gathered(
    manifest: Manifest, images: list[Any], probabilities: list[NDArray[np.float64]], evidence: list[tuple[float, float]],
    unfamiliarity: list[float],
) -> ClassScores:
    """Put the answers of all images together."""
    return ClassScores(
        manifest, images, np.array(probabilities, float).reshape(len(images), len(manifest.outputs)),
        np.array(evidence, float).reshape(len(images), 2), np.array(unfamiliarity, float).reshape(len(images)),
    )
