"""Where a training run stands, kept on disk so that a broken run goes on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn


@dataclass(eq=False)
class Standing:
    """Everything a run needs to go on. averaged: a moving average of the network, which is what is shipped."""

    network: nn.Module
    averaged: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler

    @torch.no_grad()
    def average(self, decay: float, step: int) -> None:
        """Move the average towards the network; faster in the first steps, when the average means little."""
        decay = min(decay, (1.0 + step) / (10.0 + step))
        for kept, new in zip(self.averaged.state_dict().values(), self.network.state_dict().values(), strict=True):
            if kept.dtype.is_floating_point:
                kept.lerp_(new, 1.0 - decay)
            else:
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
