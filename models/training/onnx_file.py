"""Writing a network as ONNX (opset 17, any batch size) and running the file, as the service will."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

OPSET = 17


class Probabilities(nn.Module):
    """The CT network with its softmax: slices (n, 1, s, s) to probabilities (n, 3, s, s)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, slices: Tensor) -> Tensor:
        return self.network(slices).softmax(dim=1)


class ProbabilitiesAndMaps(nn.Module):
    """The radiograph network with its softmax: image (n, 1, h, w) to probabilities (n, 3) and maps (n, 3, h, w)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        logits, maps = self.network(image)
        return logits.softmax(dim=1), maps


def write(network: nn.Module, example: Tensor, inputs: list[str], outputs: list[str], path: Path) -> str:
    """Export in evaluation mode, check the file and return its sha256 (hex); the first axis is dynamic."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(
        network.eval(), (example,), str(path), input_names=inputs, output_names=outputs, opset_version=OPSET,
        dynamo=False, dynamic_axes={name: {0: "n"} for name in (*inputs, *outputs)},
    )
    onnx.checker.check_model(str(path), full_check=True)
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
