"""Making the int8 and the fp16 file of a network out of model.onnx, with the tools of ONNX Runtime."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.transformers.float16 import convert_float_to_float16

from models.training.folding import folded

OPERATORS = (
    "Conv", "Gemm", "Add", "Concat", "Resize", "Relu", "Clip", "MaxPool", "AveragePool", "GlobalAveragePool", "Pad",
)
"""What is computed in 8 bits where a convolution comes after it; what reads the last features, means and deviations of
channels, softmax and scalings stay in single precision: numbers of many sizes, side by side, have no range in common."""


@dataclass(frozen=True)
class Recipe:
    """One way to int8. ends: the first and last convolutions, too; depthwise: those, too; percentile: of the values of
    an activation that its range holds on either side, 0 for all."""

    name: str
    ends: bool = True
    depthwise: bool = True
    percentile: float = 0.0


RECIPES = (
    Recipe("every layer"),
    Recipe("without the first and last layers", ends=False),
    Recipe("without the first, last and depthwise layers", ends=False, depthwise=False),
    Recipe("without the first and last layers, 99.99 % ranges", ends=False, percentile=99.99),
)
"""The ways that are tried, in this order, until one holds its figures and is faster."""


class _Tensors(CalibrationDataReader):
    """Feeds prepared tensors to the calibration, one at a time."""

    def __init__(self, name: str, tensors: NDArray[np.float32]) -> None:
        self._feeds: Iterator[dict[str, Any]] = iter([{name: tensor[np.newaxis]} for tensor in tensors])

    def get_next(self) -> dict[str, Any] | None:
        return next(self._feeds, None)


def to_int8(source: Path, target: Path, tensors: NDArray[np.float32], recipe: Recipe) -> None:
    """Write the int8 file: static, quantise-dequantise nodes, weights signed and per channel, activations unsigned.

    tensors: (n, 1, h, w) float32, prepared as the service does; their ranges become those of the activations.
    """
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.onnx"
        folded(source, plain)
        model = onnx.load(str(plain))
        inputs = [i.name for i in model.graph.input]
        percentile = {"CalibPercentile": recipe.percentile} if recipe.percentile else {}
        quantize_static(
            str(plain), str(target), _Tensors(inputs[0], tensors), quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(OPERATORS), per_channel=True, activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8, nodes_to_exclude=_left_out(model, recipe),
            calibrate_method=CalibrationMethod.Percentile if recipe.percentile else CalibrationMethod.MinMax,
            extra_options=percentile)


def to_fp16(source: Path, target: Path) -> None:
    """Write the fp16 file; inputs and outputs stay float32."""
    onnx.save(convert_float_to_float16(onnx.load(str(source)), keep_io_types=True), str(target))


def _left_out(model: onnx.ModelProto, recipe: Recipe) -> list[str]:
    convolutions = [n for n in model.graph.node if n.op_type == "Conv"]
    readout = [n.name for n in _after_the_last(model) if n.op_type in OPERATORS]
    ends = [] if recipe.ends else [n.name for n in _first_and_last(model, convolutions)]
    groups = {n.name: a.i for n in convolutions for a in n.attribute if a.name == "group"}
    depthwise = [] if recipe.depthwise else [name for name, group in groups.items() if group > 1]
    return sorted({*readout, *ends, *depthwise})


def _after_the_last(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Return the nodes from which no way leads to a convolution, but for the activation of one, which is part of it."""
    leads: dict[str, bool] = {}  # by tensor: whether a convolution lies downstream
    made_by = {name: node.op_type for node in model.graph.node for name in node.output}
    found = []
    for node in reversed(model.graph.node):
        on = node.op_type == "Conv" or any(leads.get(name, False) for name in node.output)
        for name in node.input:
            leads[name] = leads.get(name, False) or on
        activates = node.op_type in ("Relu", "Clip") and made_by.get(node.input[0]) == "Conv"
        if not on and not activates:
            found.append(node)
    return found


def _first_and_last(model: onnx.ModelProto, convolutions: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Return the convolutions that no other comes before, or after, on any path of the graph."""
    made_by = {name: node for node in model.graph.node for name in node.output}
    before: dict[str, bool] = {}  # by tensor: whether a convolution lies upstream
    for node in model.graph.node:  # in topological order
        upstream = any(before.get(name, False) for name in node.input)
        for name in node.output:
            before[name] = upstream or node.op_type == "Conv"
    first = [n for n in convolutions if not any(before.get(name, False) for name in n.input)]
    last, seen = [], set()
    waiting = [o.name for o in model.graph.output]
    while waiting:
        node = made_by.get(waiting.pop())
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        if node.op_type == "Conv":
            last.append(node)
        else:
            waiting.extend(node.input)
    return [*first, *last]
