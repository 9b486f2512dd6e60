"""A TorchScript file, such as the model.ts of a MONAI bundle, as an ONNX file."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from models.training.onnx_file import Runner, write

MOST_DIFFERENCE = 1e-3


class WrongScript(ValueError):
    """A TorchScript file that cannot be used; the text says why."""


def write_onnx(path: Path, size_px: tuple[int, int], target: Path, names: Sequence[str]) -> None:
    """Write a script that gives one tensor as ONNX. size_px: rows, columns of an example; names: of input and output.

    Raises: WrongScript, also when the ONNX file does not answer as the script does.
    """
    size = f"{size_px[0]} x {size_px[1]}"
    example = torch.rand(2, 1, *size_px, generator=torch.Generator().manual_seed(0))
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # torch on the end of its TorchScript, and on the signature of a loaded script
            script = torch.jit.load(str(path), map_location="cpu").eval()
            expected = script(example)
            write(script, example, [names[0]], [names[1]], target)
    except (RuntimeError, ValueError, TypeError, torch.onnx.errors.OnnxExporterError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WrongScript(f"{path}: cannot be turned into ONNX for an image of {size}: {first}") from error
    if not isinstance(expected, torch.Tensor):
        raise WrongScript(f"{path}: gives a {type(expected).__name__} for an image of {size}; needed: one tensor")
    apart = float(np.abs(Runner(target, 1)(example.numpy())[0] - expected.numpy()).max())
    if not apart <= MOST_DIFFERENCE * max(float(expected.abs().max()), 1.0):
        raise WrongScript(f"{path}: its ONNX file answers differently, by up to {apart:.3g}")
