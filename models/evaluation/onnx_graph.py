"""Changing somebody's ONNX graph so that it fits a task: names, the range of its input, the last function of its output."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx

LAST = {"probabilities": "", "softmax": "Softmax", "sigmoid": "Sigmoid"}
"""What may be done to an output that is not yet a probability, by the recipe's word."""

UNIT = (0.0, 1.0)


class Refused(ValueError):
    """A model that cannot become a bundle as it is; the text says what to change."""


def changed(model: Path, table: Mapping[str, Any], rename: Mapping[str, str], given: str, target: Path) -> None:
    """Write `model` to `target`, changed as a recipe asks.

    rename: graph names to new ones; table: the recipe's `[graph]`, with `input_range` = [low, high], which the prepared
    image's `input_from` ([0, 1] if not given, HU where the steps leave it so) becomes, and `output`, one of LAST; given:
    the name of the input.
    Raises: Refused, also where something is to be changed and the package onnx is not installed.
    """
    known = {"input_from": UNIT, "input_range": UNIT, "output": "probabilities"}
    if unknown := sorted(set(table) - set(known)):
        raise Refused(f"[graph] {unknown[0]!r} is unknown; accepted: {', '.join(known)}")
    before, after, last = {**known, **table}.values()
    if last not in LAST:
        raise Refused(f"[graph] output is {last!r}; accepted: {', '.join(LAST)}")
    for key, interval in (("input_from", before), ("input_range", after)):
        if not _is_range(interval):
            raise Refused(f"[graph] {key} is {interval!r}; accepted: [low, high], low below high")
    if not model.is_file():
        raise Refused(f"{model}: no such file")
    scale = (after[1] - after[0]) / (before[1] - before[0])
    offset = after[0] - before[0] * scale
    if not rename and (scale, offset) == (1.0, 0.0) and not LAST[last]:
        target.write_bytes(model.read_bytes())
        return
    loaded = _load(model)
    renamed(loaded.graph, rename)
    if (scale, offset) != (1.0, 0.0):
        _scaled(loaded.graph, given, scale, offset)
    if LAST[last]:
        _finished(loaded.graph, LAST[last])
    target.write_bytes(loaded.SerializeToString())


def renamed(graph: onnx.GraphProto, rename: Mapping[str, str]) -> None:
    """Give inputs and outputs of a graph other names. Raises: Refused for a name that is neither."""
    known = {value.name for value in (*graph.input, *graph.output)}
    if unknown := sorted(set(rename) - known):
        raise Refused(f"[rename] {unknown[0]!r} is neither input nor output; the graph has: {', '.join(sorted(known))}")
    for value in (*graph.input, *graph.output):
        value.name = rename.get(value.name, value.name)
    for node in graph.node:
        node.input[:] = [rename.get(name, name) for name in node.input]
        node.output[:] = [rename.get(name, name) for name in node.output]


def _scaled(graph: onnx.GraphProto, given: str, scale: float, offset: float) -> None:
    """Put offset + scale * x before the graph."""
    from onnx import helper, numpy_helper

    if given not in {value.name for value in graph.input}:
        raise Refused(f"[graph] input_range needs an input {given!r}; [rename] gives it that name")
    for node in graph.node:
        node.input[:] = [f"{given}_in_range" if name == given else name for name in node.input]
    graph.initializer.extend([numpy_helper.from_array(np.array(scale, np.float32), "range_scale"),
                              numpy_helper.from_array(np.array(offset, np.float32), "range_offset")])
    for node in (helper.make_node("Add", ["range_scaled", "range_offset"], [f"{given}_in_range"]),
                 helper.make_node("Mul", [given, "range_scale"], ["range_scaled"])):
        graph.node.insert(0, node)


def _finished(graph: onnx.GraphProto, function: str) -> None:
    """Put a softmax over the classes, or a sigmoid, behind the output `probabilities`."""
    from onnx import helper

    if "probabilities" not in {value.name for value in graph.output}:
        raise Refused("[graph] output needs an output 'probabilities'; [rename] gives it that name")
    for node in graph.node:
        node.input[:] = ["raw_scores" if name == "probabilities" else name for name in node.input]
        node.output[:] = ["raw_scores" if name == "probabilities" else name for name in node.output]
    axis = {"axis": 1} if function == "Softmax" else {}
    graph.node.append(helper.make_node(function, ["raw_scores"], ["probabilities"], **axis))


def _load(model: Path) -> onnx.ModelProto:
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise Refused("[rename] and [graph] need the package onnx (requirements/dev.lock or train.lock); without it the "
                      "graph must fit as it is") from error
    try:
        return onnx.load(str(model))
    except (DecodeError, OSError, ValueError) as error:
        raise Refused(f"{model}: not an ONNX file") from error


def _is_range(value: Any) -> bool:
    numbers = isinstance(value, (list, tuple)) and len(value) == 2 and all(
        isinstance(v, (int, float)) and not isinstance(v, bool) for v in value)
    return bool(numbers and value[0] < value[1])
