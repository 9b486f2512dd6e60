"""DenseNet-121 (Huang et al. 2017) for one-channel radiographs, with the parameter names that TorchXRayVision saves.

A state dict of such a network becomes an ONNX file that reads 0..1 and gives probabilities and a map for each class. The
network was trained on values of [-1024, 1024]; that scale goes into the file, so no step before it can forget it.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.training.onnx_file import write

GROWTH, BLOCKS, STEM, NARROW = 32, (6, 12, 24, 16), 64, 4
SIDE_PX = 224
HIGHEST = 1024.0
PATHOLOGIES = (
    "Atelectasis", "Consolidation", "Infiltration", "Pneumothorax", "Edema", "Emphysema", "Fibrosis", "Effusion",
    "Pneumonia", "Pleural_Thickening", "Cardiomegaly", "Nodule", "Mass", "Hernia", "Lung Lesion", "Fracture",
    "Lung Opacity", "Enlarged Cardiomediastinum",
)
"""The classes of those weights, in the order of their outputs."""


class WrongWeights(ValueError):
    """A file of weights that is not of this network; the text says what differs."""


class Layer(nn.Module):
    """A layer of a dense block: it adds GROWTH channels to what it is given."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = NARROW * GROWTH
        self.norm1, self.conv1 = nn.BatchNorm2d(channels), nn.Conv2d(channels, inner, 1, bias=False)
        self.norm2, self.conv2 = nn.BatchNorm2d(inner), nn.Conv2d(inner, GROWTH, 3, padding=1, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        """(n, channels, h, w) to (n, channels + GROWTH, h, w)."""
        narrow = self.conv1(torch.relu(self.norm1(image)))
        return torch.cat([image, self.conv2(torch.relu(self.norm2(narrow)))], dim=1)


class Transition(nn.Module):
    """Half the channels, half the size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(channels), nn.Conv2d(channels, channels // 2, 1, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        """(n, channels, h, w) to (n, channels / 2, h / 2, w / 2)."""
        return nn.functional.avg_pool2d(self.conv(torch.relu(self.norm(image))), 2)


class DenseNet121(nn.Module):
    """The network: (n, 1, 224, 224) in [-1024, 1024] to features (n, 1024, 7, 7), and a linear classifier."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        parts: list[tuple[str, nn.Module]] = [
            ("conv0", nn.Conv2d(1, STEM, 7, stride=2, padding=3, bias=False)), ("norm0", nn.BatchNorm2d(STEM)),
            ("relu0", nn.ReLU()), ("pool0", nn.MaxPool2d(3, stride=2, padding=1)),
        ]
        channels = STEM
        for number, layers in enumerate(BLOCKS, 1):
            named = [(f"denselayer{n + 1}", Layer(channels + n * GROWTH)) for n in range(layers)]
            parts.append((f"denseblock{number}", nn.Sequential(OrderedDict(named))))
            channels += layers * GROWTH
            if number < len(BLOCKS):
                parts.append((f"transition{number}", Transition(channels)))
                channels //= 2
        parts.append(("norm5", nn.BatchNorm2d(channels)))
        self.features = nn.Sequential(OrderedDict(parts))
        self.classifier = nn.Linear(channels, classes)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits: (n, classes)."""
        return self.classifier(torch.relu(self.features(image)).mean(dim=(2, 3)))


class Served(nn.Module):
    """The network as a bundle: image (n, 1, 224, 224) in 0..1 to probabilities (n, k) and their maps (n, k, 7, 7).

    thresholds: (k,), an operating point in 0..1 for each class, which becomes 0.5; not a number where there is none. The
    mean of a map is the logit of its class.
    """

    def __init__(self, network: DenseNet121, kept: Sequence[int], thresholds: Tensor) -> None:
        super().__init__()
        self.features = network.features
        rows = torch.tensor(kept)
        self.register_buffer("weight", network.classifier.weight.detach()[rows][:, :, None, None])
        self.register_buffer("bias", network.classifier.bias.detach()[rows])
        self.register_buffer("point", torch.nan_to_num(thresholds, nan=0.5).reshape(1, -1))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        seen = torch.relu(self.features(image * (2 * HIGHEST) - HIGHEST))
        activation = nn.functional.conv2d(seen, self.weight, self.bias)
        given = torch.sigmoid(activation.mean(dim=(2, 3)))
        below, above = given / (2 * self.point), 1 - (1 - given) / (2 * (1 - self.point))
        return torch.where(given < self.point, below, above), activation


def load(path: Path) -> tuple[DenseNet121, Tensor]:
    """Read a state dict; returns the network and its operating points (k,), not a number where it has none.

    Raises: WrongWeights when the file is no state dict, or one of another network.
    """
    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, KeyError, OSError, UnicodeDecodeError) as error:
        raise WrongWeights(f"{path}: not a state dict; write one with torch.save(model.state_dict(), PATH)") from error
    if not isinstance(found, dict) or not isinstance(found.get("classifier.weight"), Tensor):
        raise WrongWeights(f"{path}: no state dict of a DenseNet: classifier.weight is missing")
    points = found.pop("op_threshs", None)
    network = DenseNet121(len(found["classifier.weight"]))
    wanted = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    given = {key: tuple(value.shape) for key, value in found.items() if isinstance(value, Tensor)}
    counters = {key for key in wanted if key.endswith("num_batches_tracked")}
    if wrong := sorted(k for k in {*wanted, *given} - counters if wanted.get(k) != given.get(k)):
        raise WrongWeights(f"{path}: {len(wrong)} parameters differ from those of a DenseNet-121, the first: {wrong[0]} is "
                           f"{given.get(wrong[0], 'missing')}, needed: {wanted.get(wrong[0], 'none of that name')}")
    network.load_state_dict(found, strict=False)
    count = len(found["classifier.weight"])
    return network.eval(), torch.full((count,), torch.nan) if points is None else points.float().reshape(count)


def write_onnx(path: Path, kept: Sequence[int], target: Path) -> None:
    """Turn a state dict into an ONNX file of a bundle; kept: the rows of the classifier, in the order of the outputs.

    Raises: WrongWeights.
    """
    network, points = load(path)
    if outside := [row for row in kept if not 0 <= row < len(points)]:
        raise WrongWeights(f"{path} has classes 0 to {len(points) - 1}; there is no {outside[0]}")
    served = Served(network, kept, points[torch.tensor(kept)])
    write(served, torch.rand(1, 1, SIDE_PX, SIDE_PX), ["image"], ["probabilities", "activation"], target)
