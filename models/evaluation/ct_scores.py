"""What a CT bundle says of every slice of a data folder, as counts of pixels on the slice's own grid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.evaluation.bundles import Network
from models.evaluation.pictures import Unreadable
from models.evaluation.problems import Problems
from models.evaluation.slices import CtSlice, read_slice
from service.domain.manifest import InvalidManifest, Manifest
from service.errors import EngineUnavailable, Reason
from service.infer.ct import study_probability
from service.prepare import ct

COUNTS = ("lung_found", "lung_true", "lung_both", "infection_found", "infection_true", "infection_both")
Tick = Any
Item = tuple[CtSlice, NDArray[np.uint8] | None, tuple[int, int]]


@dataclass(frozen=True, eq=False)
class CtScores:
    """counts: (n, 6) pixels in the order of COUNTS; lung holds its infection; true counts of slices by class are 0."""

    manifest: Manifest
    slices: list[CtSlice]
    counts: NDArray[np.float64]

    @property
    def names(self) -> list[str]:
        """The name of each slice."""
        return [s.name for s in self.slices]

    def pixels(self, name: str) -> NDArray[np.float64]:
        """Return one column of the counts: (n,)."""
        return self.counts[:, COUNTS.index(name)]

    @property
    def parts(self) -> NDArray[np.str_]:
        """The part of the data that each slice is of: (n,)."""
        return np.array([s.part for s in self.slices], dtype=str)

    @property
    def groups(self) -> NDArray[np.str_]:
        """The case or paper of each slice: (n,)."""
        return np.array([f"{s.part} {s.group}" for s in self.slices], dtype=str)

    @property
    def sick(self) -> NDArray[np.bool_]:
        """Whether the slice shows infection, by its mask or its class: (n,)."""
        by_mask = self.pixels("infection_true") > 0
        return np.array([m if s.sick is None else s.sick for s, m in zip(self.slices, by_mask, strict=True)], dtype=bool)

    @property
    def fraction(self) -> NDArray[np.float64]:
        """The share of the found lung that is called infected: (n,), 0 where no lung was found."""
        return self.pixels("infection_found") / np.maximum(self.pixels("lung_found"), 1.0)

    @property
    def flagged(self) -> NDArray[np.bool_] | None:
        """Whether the manifest's curve puts the slice at or over a finding's threshold: (n,); None without a curve."""
        thresholds = [o.threshold for o in self.manifest.outputs if o.code is not None]
        try:
            probabilities = [study_probability(float(f), self.manifest.parameters) for f in self.fraction]
        except InvalidManifest:
            return None
        return np.array(probabilities) >= min(thresholds) if thresholds else None


def score_slices(
    network: Network, slices: Sequence[CtSlice], problems: Problems, tick: Tick = lambda: None,
) -> CtScores:
    """Run a bundle over slices; the most probable class of each pixel counts. Unreadable slices are noted and left out.

    These are the network's own masks: the service's read-out needs a whole volume.
    """
    kept, counts = [], []
    for (item, labels, shape), answer in network.over(_prepared(slices, network.manifest, problems, tick)):
        probabilities = answer.get("probabilities")
        if probabilities is None or probabilities.ndim != 3 or len(probabilities) != 3:
            raise EngineUnavailable(Reason.ENGINE_FAILED, f"the output of {network.manifest.name} does not fit its manifest")
        kept.append(item)
        counts.append(_count(ct.restore(probabilities, *shape), labels))
    return CtScores(network.manifest, kept, np.array(counts, float).reshape(len(kept), len(COUNTS)))


def _prepared(
    slices: Sequence[CtSlice], manifest: Manifest, problems: Problems, tick: Tick,
) -> Iterator[tuple[Item, NDArray[np.float32]]]:
    for item in slices:
        tick()
        try:
            plane, labels, shape = read_slice(item, manifest)
        except Unreadable as error:
            problems.skip(item.name, str(error))
            continue
        yield (item, labels, shape), plane


def _count(probabilities: NDArray[np.float32], labels: NDArray[np.uint8] | None) -> list[int]:
    found = probabilities.argmax(axis=0)
    wanted = np.zeros(found.shape, np.uint8) if labels is None else labels
    numbers = []
    for least in (1, 2):
        one, other = found >= least, wanted >= least
        numbers += [int(one.sum()), int(other.sum()), int((one & other).sum())]
    return numbers
