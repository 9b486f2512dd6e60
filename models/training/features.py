"""Frozen features: how strongly each channel of the ImageNet backbone answers, and how much that varies over the image.

A few thousand images are too few to train a backbone on two cores, and enough to train what reads a good one. The
features are computed once, of each image as it is and of some varied copies, and kept on disk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from models.training.loop import load_pretrained
from models.training.nets import EfficientNetLite0
from models.training.onnx_file import Runner, write

STAGES = {0: 16, 2: 24, 4: 40, 7: 80, 10: 112, 14: 192}
"""Blocks whose channels are read, after those of the stem (32)."""
WIDTHS = (32, *STAGES.values())
CHANNELS = sum(WIDTHS)
QUARTERS = 4
STATISTICS = (2 + QUARTERS) * CHANNELS


class Statistics(nn.Module):
    """(n, 1, s, s) grey in 0..1 to statistics (n, 2976) and channels (n, 496, s / 32, s / 32); s a multiple of 64.

    The statistics are the mean of each channel over the image, its standard deviation, and its mean over each quarter
    of the image (top left, top right, bottom left, bottom right), 496 numbers each.
    """

    def __init__(self) -> None:
        super().__init__()
        self.backbone = EfficientNetLite0()
        load_pretrained(self.backbone)
        self.backbone.requires_grad_(False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        values = self.backbone.stem(image)
        stages = [values]
        for place, block in enumerate(self.backbone._blocks[:max(STAGES) + 1]):
            values = block(values)
            if place in STAGES:
                stages.append(values)
        means = [stage.mean(dim=(2, 3)) for stage in stages]
        squares = [(stage * stage).mean(dim=(2, 3)) for stage in stages]
        spreads = [(q - m * m).clamp(min=0.0).sqrt() for q, m in zip(squares, means, strict=True)]
        places = int(values.shape[2])
        channels = torch.cat([functional.avg_pool2d(s, int(s.shape[2]) // places) for s in stages], dim=1)
        quarters = functional.avg_pool2d(channels, places // 2).flatten(2).transpose(1, 2).flatten(1)
        return torch.cat([*means, *spreads, quarters], dim=1), channels


@dataclass(frozen=True, eq=False)
class Prepared:
    """One thing to look at. key: what tells it from every other, also over runs; tensor: makes its (1, 1, s, s) input."""

    key: str
    tensor: Callable[[], NDArray[np.float32]]


def statistics_of(items: Sequence[Prepared], folder: Path, side_px: int, show: Callable[[int], None]) -> NDArray[np.float32]:
    """Return the statistics (n, 2976) of every item; those that `folder` already holds are read from there."""
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / f"statistics-{side_px}.onnx"
    if not model.exists():
        write(Statistics(), torch.rand(1, 1, side_px, side_px), ["image"], ["statistics", "pooled"], model)
    kept_path = folder / "statistics.npz"
    kept: dict[str, NDArray[np.float32]] = {}
    if kept_path.exists():
        with np.load(kept_path) as arrays:
            kept = dict(zip(arrays["keys"].tolist(), arrays["values"], strict=True))
    run, keys = Runner(model, threads=1), [hashlib.sha256(i.key.encode()).hexdigest() for i in items]
    for place, (key, item) in enumerate(zip(keys, items, strict=True)):
        if key not in kept:
            kept[key] = run.session.run(["statistics"], {run.input: item.tensor()})[0][0]
        show(place + 1)
        if place + 1 == len(items) or (place + 1) % 2000 == 0:
            part = folder / "part.npz"
            np.savez(part, keys=np.array(list(kept)), values=np.stack(list(kept.values())))
            part.rename(kept_path)
    return np.stack([kept[key] for key in keys])
