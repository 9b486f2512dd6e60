"""Where a training run stands, kept on disk so that a broken run goes on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(eq=False)
class Standing:
    """Everything a run needs to go on. averaged: a moving average of the network, which is what is shipped."""

    network: nn.Module
    averaged: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler

    @cached_property
    def pairs(self) -> list[tuple[Tensor, Tensor]]:
        """Every tensor of the average beside the network's."""
        return list(zip(self.averaged.state_dict().values(), self.network.state_dict().values(), strict=True))

    @torch.no_grad()
    def average(self, decay: float, step: int) -> None:
        """Move the average towards the network; faster in the first steps, when the average means little."""
        decay = min(decay, (1.0 + step) / (10.0 + step))
        moved = [pair for pair in self.pairs if pair[0].dtype.is_floating_point]
        torch._foreach_lerp_([kept for kept, _ in moved], [new for _, new in moved], 1.0 - decay)
        for kept, new in self.pairs:
            if not kept.dtype.is_floating_point:
                kept.copy_(new)


def save_standing(folder: Path, standing: Standing, steps_done: int) -> None:
    """Write `progress.pt` (to go on) and `weights.pt` (the average), each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    state: dict[str, Any] = {
        "steps_done": steps_done, "network": standing.network.state_dict(),
        "averaged": standing.averaged.state_dict(), "optimizer": standing.optimizer.state_dict(),
        "schedule": standing.schedule.state_dict(),
    }
    for name, content in (("progress.pt", state), ("weights.pt", standing.averaged.state_dict())):
        part = folder / f"{name}.part"
        torch.save(content, part)
        part.rename(folder / name)


def load_standing(folder: Path, standing: Standing) -> int:
    """Read `progress.pt` back into the run and return how many steps are done: 0 when there is none."""
    path = folder / "progress.pt"
    if not path.exists():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    standing.network.load_state_dict(state["network"])
    standing.averaged.load_state_dict(state["averaged"])
    standing.optimizer.load_state_dict(state["optimizer"])
    standing.schedule.load_state_dict(state["schedule"])
    return int(state["steps_done"])
