"""What a slice classifier says of the CT slices of a data folder: those from papers, by class, and those with masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.evaluation.bundles import Network
from models.evaluation.class_scores import ClassScores, gathered, probabilities_of, unfamiliarity_of
from models.evaluation.pictures import Unreadable
from models.evaluation.problems import Problems
from models.evaluation.slices import LESIONS, LUNGS, PAPERS, CtSlice, read_plane
from service.domain import codes
from service.domain.manifest import Manifest, Output

Tick = Any
COVID, NOT_COVID = "covid", "noncovid"
HEALTHY = "normal"


@dataclass(frozen=True)
class ClassSlice:
    """One slice with the labels that its folder gives; the fields are those of `class_scores.Image`."""

    source: CtSlice
    labels: tuple[bool | None, ...]
    traits: dict[str, str]

    @property
    def part(self) -> str:
        """The part of the data."""
        return self.source.part

    @property
    def name(self) -> str:
        """The path in the data folder."""
        return self.source.name

    @property
    def path(self) -> Path:
        """The file."""
        return self.source.path

    @property
    def group(self) -> str:
        """The case or paper."""
        return f"{self.source.part} {self.source.group}"


def labelled(slices: Sequence[CtSlice], manifest: Manifest) -> list[ClassSlice]:
    """Give every slice the labels that can be told from where it lies; None where they cannot.

    ct_slices/FOLDER: a folder of an output's name is that class and no other; `covid` is the output for COVID-19, and
    `noncovid` only tells that it is not that one. ct_lesions are COVID-19; ct_lungs only not COVID-19, for nothing else
    is known of them.
    """
    return [ClassSlice(s, tuple(_label(s, o, manifest) for o in manifest.outputs), {"source": s.part}) for s in slices]


def _label(item: CtSlice, output: Output, manifest: Manifest) -> bool | None:
    kind = {LESIONS: COVID, LUNGS: NOT_COVID}.get(item.part, item.path.parent.name)
    if kind in {o.name for o in manifest.outputs}:
        return output.name == kind
    if kind == NOT_COVID:
        return False if is_covid(output) else None
    return is_covid(output) if kind == COVID else None


def is_covid(output: Output) -> bool:
    """Tell whether an output is the class COVID-19, by its code or its name."""
    return output.code == codes.COVID_19_PNEUMONIA or output.name.lower().replace("-", "").startswith("covid")


def score_classes(
    network: Network, images: Sequence[ClassSlice], problems: Problems, tick: Tick = lambda: None,
) -> ClassScores:
    """Run a bundle over slices, each for itself. Unreadable slices are noted and left out."""
    kept, probabilities, unfamiliarity = [], [], []
    for image, answer in network.over(_prepared(images, network.manifest, problems, tick)):
        kept.append(image)
        probabilities.append(probabilities_of(answer, network.manifest))
        unfamiliarity.append(unfamiliarity_of(answer))
    nowhere = [(float("nan"), float("nan"))] * len(kept)
    return gathered(network.manifest, kept, probabilities, nowhere, unfamiliarity)


def _prepared(
    images: Sequence[ClassSlice], manifest: Manifest, problems: Problems, tick: Tick,
) -> Iterator[tuple[ClassSlice, NDArray[np.float32]]]:
    for image in images:
        tick()
        try:
            plane = read_plane(image.source, manifest)
        except Unreadable as error:
            problems.skip(image.name, str(error))
            continue
        yield image, plane


def known_parts(scores: ClassScores) -> list[str]:
    """Return the parts at hand in a fixed order."""
    return [part for part in (PAPERS, LESIONS, LUNGS) if (scores.parts == part).any()]
