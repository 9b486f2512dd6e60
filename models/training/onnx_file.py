"""Writing a network as ONNX (opset 17, any batch size) and running the file, as the service will."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.training.folding import folded

OPSET = 17


class Unfamiliarity(nn.Module):
    """How far an image lies from what was trained on: features (n, d) to (n,), >= 0, about 1 for a usual image.

    The features' principal components, whitened by the training images (Mahalanobis distance), as root mean square.
    """

    def __init__(self, mean: Tensor, projection: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("projection", projection)

    @classmethod
    def fitted(cls, features: NDArray[np.float32], components: int = 32) -> Unfamiliarity:
        """Fit to the features (n, d) of training images; fewer components where there are few images."""
        components = min(components, max(len(features) // 4, 2))
        mean = features.mean(axis=0)
        _, spread, axes = np.linalg.svd(features - mean, full_matrices=False)
        scale = np.sqrt(len(features)) / np.maximum(spread[:components], 1e-6)
        return cls(torch.from_numpy(mean), torch.from_numpy((axes[:components] * scale[:, None]).T.astype(np.float32)))

    def forward(self, features: Tensor) -> Tensor:
        """See the class."""
        return ((features - self.mean) @ self.projection).square().mean(dim=1).sqrt()


class Segmented(nn.Module):
    """A segmentation network with its softmax: (n, 1, s, s) to probabilities (n, k, s, s) and unfamiliarity (n,).

    offsets: added to the logits of each class before; none where empty.
    """

    def __init__(self, network: nn.Module, unfamiliarity: nn.Module, offsets: Sequence[float] = ()) -> None:
        super().__init__()
        self.network, self.unfamiliarity = network, unfamiliarity
        self.register_buffer("offsets", torch.tensor(list(offsets))[None, :, None, None] if offsets else torch.zeros(()))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        logits, features = self.network(image)
        return (logits + self.offsets).softmax(dim=1), self.unfamiliarity(features)


class Classified(nn.Module):
    """A classification network with its calibration: to probabilities (n, k), maps (n, k, h, w), unfamiliarity (n,).

    softmax: so many of the first outputs are one softmax, every other is a sigmoid; scale and offset: (k,), applied to
    the logits first. The maps of a softmax are centred over its classes,
    so that a positive place speaks for the class against the others.
    """

    def __init__(
        self, network: nn.Module, unfamiliarity: nn.Module, softmax: int, scale: Tensor, offset: Tensor,
    ) -> None:
        super().__init__()
        self.network, self.unfamiliarity, self.softmax = network, unfamiliarity, softmax
        self.register_buffer("scale", scale)
        self.register_buffer("offset", offset)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See the class."""
        logits, maps, features = self.network(image)
        logits = logits * self.scale + self.offset
        maps = maps * self.scale[:, None, None]
        parts, seen = [], []
        if self.softmax:
            parts.append(logits[:, :self.softmax].softmax(dim=1))
            first = maps[:, :self.softmax]
            seen.append(first - first.mean(dim=1, keepdim=True))
        if self.softmax < len(self.scale):
            parts.append(logits[:, self.softmax:].sigmoid())
            seen.append(maps[:, self.softmax:])
        return torch.cat(parts, dim=1), torch.cat(seen, dim=1), self.unfamiliarity(features)


def write(network: nn.Module, example: Tensor, inputs: list[str], outputs: list[str], path: Path) -> str:
    """Export in evaluation mode, fold and check the file, and return its sha256 (hex); the first axis is dynamic."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(
        network.eval(), (example,), str(path), input_names=inputs, output_names=outputs, opset_version=OPSET,
        dynamo=False, dynamic_axes={name: {0: "n"} for name in (*inputs, *outputs)},
    )
    folded(path, path)
    return sha256_of(path)


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Runner:
    """An ONNX file on the CPU. threads: of one operator."""

    def __init__(self, path: Path, threads: int = 2) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name

    def __call__(self, tensor: NDArray[np.float32], batch: int = 8) -> list[NDArray[np.float32]]:
        """Return every output for (n, ...) inputs, run in batches."""
        parts = [
            self.session.run(None, {self.input: tensor[first:first + batch]})
            for first in range(0, len(tensor), batch)
        ]
        return [np.concatenate(column) for column in zip(*parts, strict=True)]

    def milliseconds(self, tensor: NDArray[np.float32], rounds: int = 30) -> float:
        """Return the shortest time of one input of the given batch over the rounds, in ms (others may use the machine)."""
        times = []
        for _ in range(rounds):
            start = time.perf_counter()
            self.session.run(None, {self.input: tensor})
            times.append((time.perf_counter() - start) / len(tensor))
        return min(times) * 1000.0
