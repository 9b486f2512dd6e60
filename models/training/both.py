"""Two readers of one image put together: a machine on frozen features, and fine-tuned networks.

The machine reads the texture of the whole image, the networks where something lies; each sees what the other misses. Their
logits are added, the machine's times the recipe's `[machine] weight`, and so are their maps.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from models.training import fine_tune, kernel_train
from models.training.fine_tune import names, prepared
from models.training.kernel_head import FeatureNet

Recipe = dict[str, Any]


class Both(nn.Module):
    """(n, 1, s, s) to (logits (n, k), maps (n, k, s / 32, s / 32), components of the machine).

    What the networks learned to see says little of a picture that is unlike all others; the frozen features say it.
    """

    def __init__(self, machine: FeatureNet, networks: nn.Module, weight: float) -> None:
        super().__init__()
        self.machine, self.networks, self.weight = machine, networks, weight

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See the class."""
        logits, maps, components = self.machine(image)
        more, places, _ = self.networks(image)
        return self.weight * logits + more, self.weight * maps + places, components


def of_machine(recipe: Recipe) -> Recipe:
    """Return the recipe as the machine's training reads it."""
    return recipe | {"training": recipe["machine"]}


def machine_folder(recipe: Recipe, out: Path) -> Path:
    """Return where the machine of a split lies: each bundle has its own, beside the networks that they share."""
    return out.parent / f"machines-{recipe['bundle']['name']}" / out.name


def train(recipe: Recipe, data: Path, out: Path, fold: int | None) -> Path:
    """Train both readers of one split, or of everything; return the weights of the networks."""
    kernel_train.train(of_machine(recipe), data, machine_folder(recipe, out), fold)
    return fine_tune.train(recipe, data, out, fold)


def network(recipe: Recipe, weights: Path) -> Both:
    """Read both."""
    machine = kernel_train.network(of_machine(recipe), machine_folder(recipe, weights.parent) / "weights.pt")
    return Both(machine, fine_tune.network(recipe, weights), recipe["machine"]["weight"]).eval()


__all__ = ["Both", "names", "network", "prepared", "train"]
