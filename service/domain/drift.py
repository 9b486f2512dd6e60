"""How far what a bundle is given and what it says have moved from what it was measured on: the population stability index.

An image is measured by what its network gets and answers, the same way when the reference is made and in service.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FILE = "reference.json"
MOST_BINS, LEAST_IN_BIN = 10, 50
LEAST_SHOWN = 0.02  # a slice of which a segmentation marks less than this share is not counted
_EVERY = 4  # each fourth pixel tells enough


class InvalidReference(ValueError):
    """A reference that cannot be used; the text names the file and what is wrong."""


@dataclass(frozen=True)
class Bins:
    """A distribution: counts[0] below edges[0], the last one from the last edge on."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]

    def place(self, value: float) -> int:
        """Return the bin of a value."""
        return bisect_right(self.edges, value)


@dataclass(frozen=True)
class Reference:
    """What a bundle was measured on. digest: of its model.onnx; images: how many; held_out: it was not trained on them;
    bins: by the name of what is measured (`measures`)."""

    digest: str
    images: int
    held_out: bool
    bins: Mapping[str, Bins]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return {"digest": self.digest, "images": self.images, "held_out": self.held_out,
                "bins": {name: {"edges": list(b.edges), "counts": list(b.counts)} for name, b in sorted(self.bins.items())}}


def measures(given: NDArray[Any], answer: Mapping[str, NDArray[Any]],
             outputs: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Measure a few images of one run.

    given: the tensor of the network's input, (n, c, h, w); answer: tensors by output name; outputs: names of the classes
    in the order of the tensor `probabilities`, (n, k) or (n, k, h, w). Returns for each measure (m,): mean, spread (standard
    deviation) and detail (mean difference of neighbours, over the spread) of the input, unfamiliarity where the network
    tells it, and of each class its probability, or its share of the pixels. Of a segmentation only images count of which it
    marks something.
    """
    rows = given[:, :, ::_EVERY, :].astype(np.float32).reshape(len(given), -1, given.shape[-1])
    spread = rows.std(axis=(1, 2), dtype=np.float64)
    found = {
        "input mean": rows.mean(axis=(1, 2), dtype=np.float64), "input spread": spread,
        "input detail": np.abs(np.diff(rows, axis=2)).mean(axis=(1, 2), dtype=np.float64) / np.maximum(spread, 1e-6),
    }
    if "unfamiliarity" in answer:
        found["unfamiliarity"] = np.asarray(answer["unfamiliarity"], np.float64).reshape(len(given))
    scores = np.asarray(answer["probabilities"])
    counts = np.ones(len(given), bool)
    if scores.ndim == 4:
        classes = scores[:, :, ::_EVERY, ::_EVERY].argmax(axis=1)
        shares = np.stack([(classes == k).mean(axis=(1, 2)) for k in range(scores.shape[1])], axis=1)
        scores, counts = shares, shares[:, 0] <= 1 - LEAST_SHOWN
    found |= {f"score {name}": scores[:, k].astype(np.float64) for k, name in enumerate(outputs)}
    return {name: values[counts] for name, values in found.items()}


def bins_of(values: NDArray[np.float64]) -> Bins:
    """Put values into bins of about equal size, ten where there are enough of them, at least two."""
    number = max(2, min(MOST_BINS, len(values) // LEAST_IN_BIN))
    edges = np.unique(np.quantile(values, np.arange(1, number) / number))
    counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
    return Bins(tuple(float(f"{e:.6g}") for e in edges), tuple(int(c) for c in counts))


def stability_index(reference: Sequence[int], counts: Sequence[int]) -> float:
    """Return the population stability index of two distributions over the same bins: the sum of (p - q) ln(p / q).

    Under 0.1 they are alike, over 0.25 they are not. Half an image is added to each bin, so that an empty one is no
    infinity. Chance alone gives about (bins - 1) (1 / images here + 1 / images there).
    """
    p, q = (np.asarray(c, float) + 0.5 for c in (counts, reference))
    p, q = p / p.sum(), q / q.sum()
    return float(((p - q) * np.log(p / q)).sum())


def read_reference(folder: Path) -> Reference | None:
    """Read the reference of a bundle; None where it has none.  Raises: InvalidReference."""
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        bins = {str(name): Bins(tuple(map(float, row["edges"])), tuple(map(int, row["counts"])))
                for name, row in table["bins"].items()}
        made = Reference(str(table["digest"]), int(table["images"]), bool(table["held_out"]), bins)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidReference(f"{path}: not a readable reference; `firstlook models reference` makes one") from error
    for name, one in bins.items():
        if len(one.counts) != len(one.edges) + 1 or list(one.edges) != sorted(one.edges) or sum(one.counts) == 0:
            raise InvalidReference(f"{path}: the bins of {name!r} do not fit together")
    return made
