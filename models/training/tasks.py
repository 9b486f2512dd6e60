"""How each bundle is trained: the parts that `train` and `export` put together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.training import both, ct_train, lung_fields, quality
from models.training.features import Prepared
from models.training.splits import Names

Recipe = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """One bundle's training.

    train: recipe, data, folder of the run and fold (None: everything) to weights; network: recipe and weights to a
    network in evaluation mode; names: what is trained on and what is held out; prepared: what a fold trains on, as it is.
    """

    train: Callable[[Recipe, Path, Path, int | None], Path]
    network: Callable[[Recipe, Path], nn.Module]
    names: Callable[[Recipe, Path, int | None], tuple[Names, Names]]
    prepared: Callable[[Recipe, Path, int | None], list[Prepared]]


def loaded(make: Callable[[], nn.Module]) -> Callable[[Recipe, Path], nn.Module]:
    """Return a function that makes a network and reads its weights."""

    def network(_recipe: Recipe, weights: Path) -> nn.Module:
        """Read the weights into a new network."""
        made = make()
        made.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        return made.eval()

    return network


BOTH = Task(both.train, both.network, both.names, both.prepared)
TASKS = {
    "ct-lung-infection": Task(ct_train.train, loaded(ct_train.network_for), ct_train.names, ct_train.prepared),
    "ct-pattern": BOTH,
    "cxr-findings": BOTH,
    "cxr-lungs": Task(lung_fields.train, loaded(lung_fields.network_for), lung_fields.names, lung_fields.prepared),
    "cxr-pattern": BOTH,
    "cxr-quality": Task(quality.train, loaded(quality.network_for), quality.names, quality.prepared),
}
"""Every bundle that can be trained here."""
