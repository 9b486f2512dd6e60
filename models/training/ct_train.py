"""Training of the CT network: cross-entropy and Dice, one-cycle learning rate, a moving average of the weights."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.training.checkpoint import Progress, load_progress, save_progress
from models.training.ct_data import CtSampler, load
from models.training.nets import CT_CLASSES, LungUNet


def loss_of(logits: Tensor, labels: Tensor, dice_weight: float) -> Tensor:
    """Cross-entropy plus soft Dice of lung and infection over the whole batch.

    logits: (n, 3, s, s); labels: (n, s, s) int64. The batch holds infection-free slices, so false alarms cost Dice.
    """
    entropy = functional.cross_entropy(logits, labels)
    probabilities = logits.softmax(dim=1)[:, 1:]
    wanted = functional.one_hot(labels, len(CT_CLASSES)).permute(0, 3, 1, 2)[:, 1:].float()
    common = (probabilities * wanted).sum(dim=(0, 2, 3))
    total = probabilities.sum(dim=(0, 2, 3)) + wanted.sum(dim=(0, 2, 3))
    return entropy + dice_weight * (1.0 - (2.0 * common + 1.0) / (total + 1.0)).mean()


def train(recipe: dict[str, Any], data: Path, out: Path, fold: int) -> Path:
    """Train one split and return the path of the averaged weights; resumes from `out` where a run was broken off."""
    settings = recipe["training"]
    torch.manual_seed(settings["seed"])
    network = LungUNet().to(memory_format=torch.channels_last)
    averaged = copy.deepcopy(network)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=settings["learning_rate"], weight_decay=settings["weight_decay"],
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings["learning_rate"], total_steps=settings["steps"] + 1, pct_start=0.15,
    )
    progress = Progress(network, averaged, optimizer, schedule)
    first = load_progress(out, progress)
    sampler = CtSampler(
        load(data, fold, held_out=False), recipe["parameters"], settings["lung_share"], settings["seed"] + first,
    )
    for step in range(first, settings["steps"]):
        sampler.belly = step >= settings["belly_from_step"]
        grey, labels = sampler.batch(settings["batch"])
        images = torch.from_numpy(grey).contiguous(memory_format=torch.channels_last)
        network.train()
        loss = loss_of(network(images), torch.from_numpy(labels).long(), settings["dice_weight"])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        schedule.step()
        progress.average(settings["average_decay"], step)
        if step % 25 == 0:
            print(f"step {step} loss {loss.item():.4f}", flush=True)
        if step % 100 == 99 or step + 1 == settings["steps"]:
            save_progress(out, progress, step + 1)
    return out / "weights.pt"
