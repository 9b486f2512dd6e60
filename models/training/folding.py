"""Rewriting an ONNX graph so that it computes the same with less: paddings into convolutions, softmax by channel.

`python -m models.training.folding models/NAME ...` does it to the model.onnx of bundles that were exported without.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper
from onnxruntime.quantization.shape_inference import quant_pre_process

from service.domain.manifest import Manifest, read_manifest
from service.infer.golden import INPUT, golden_cases

MOST_MOVED = 1e-3
_SIDES = (2, 3, 6, 7)  # of the pads of a (n, c, h, w) tensor: top, left, bottom, right


def fold(model: onnx.ModelProto) -> None:
    """Rewrite a graph whose constants are initializers, in place: `fold_pads`, then `spread_softmax`."""
    fold_pads(model)
    spread_softmax(model)


def fold_pads(model: onnx.ModelProto) -> int:
    """Let convolutions pad what was padded with zeros just for them; returns how many Pad nodes are gone.

    A Pad of its own makes ONNX Runtime leave its blocked layout and enter it again before every such convolution.
    """
    graph = model.graph
    constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)
    kept = {o.name for o in graph.output}
    folded = []
    for node in graph.node:
        pads, convolutions = _zeros_around(node, constants), readers[node.output[0]]
        if pads and node.output[0] not in kept and all(
                c.op_type == "Conv" and c.input[0] == node.output[0] and _explicit(c) for c in convolutions):
            for convolution in convolutions:
                _pad(convolution, pads)
                convolution.input[0] = node.input[0]
            folded.append(node)
    for node in folded:
        graph.node.remove(node)
    used = {name for node in graph.node for name in node.input} | kept
    for tensor in [t for t in graph.initializer if t.name not in used]:
        graph.initializer.remove(tensor)
    return len(folded)


def spread_softmax(model: onnx.ModelProto) -> int:
    """Write a softmax over the channels of images, the last node, as the operations it is made of; returns how many.

    ONNX Runtime would turn the image so that its channels come last, and turn it back.
    """
    graph, count = model.graph, 0
    kept = {o.name for o in graph.output if len(o.type.tensor_type.shape.dim) == 4}
    for place, node in reversed(list(enumerate(graph.node))):
        axes = [a.i for a in node.attribute if a.name == "axis"]
        if node.op_type != "Softmax" or axes != [1] or node.output[0] not in kept:
            continue
        values, name, axis = node.input[0], node.output[0], f"{node.output[0]} axis"
        graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), axis))
        graph.node.remove(node)
        steps = (("ReduceMax", (values,), "most", {"axes": [1]}), ("Sub", (values, f"{name} most"), "under", {}),
                 ("Exp", (f"{name} under",), "weight", {}), ("ReduceSum", (f"{name} weight", axis), "whole", {}),
                 ("Div", (f"{name} weight", f"{name} whole"), "", {}))
        for k, (operator, inputs, made, attributes) in enumerate(steps):
            graph.node.insert(place + k, helper.make_node(
                operator, list(inputs), [f"{name} {made}" if made else name], f"{name} {operator}", **attributes))
        count += 1
    return count


def _zeros_around(node: onnx.NodeProto, constants: dict[str, np.ndarray]) -> list[int]:
    """Return how many zeros a Pad puts at the top, left, bottom and right; nothing where it does anything else."""
    if node.op_type != "Pad" or len(node.input) > 3 or any(a.name == "mode" and a.s != b"constant" for a in node.attribute):
        return []
    pads = constants.get(node.input[1])
    value = constants.get(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(())
    if pads is None or value is None or value.any() or pads.shape != (8,) or (pads < 0).any():
        return []
    return [] if np.delete(pads, _SIDES).any() else [int(pads[k]) for k in _SIDES]


def _explicit(convolution: onnx.NodeProto) -> bool:
    return all(a.s == b"NOTSET" for a in convolution.attribute if a.name == "auto_pad")


def _pad(convolution: onnx.NodeProto, more: list[int]) -> None:
    given = [list(a.ints) for a in convolution.attribute if a.name == "pads"]
    kept = [a for a in convolution.attribute if a.name != "pads"]
    del convolution.attribute[:]
    pads = [a + b for a, b in zip(given[0] if given else [0] * 4, more, strict=True)]
    convolution.attribute.extend([*kept, helper.make_attribute("pads", pads)])


def folded(source: Path, target: Path) -> None:
    """Write the graph of one ONNX file to another, its constants worked out and folded (`fold`); both may be the same."""
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain.onnx"
        quant_pre_process(source, plain, skip_symbolic_shape=True)
        model = onnx.load(str(plain))
    fold(model)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(target))


def refold(bundle: Path) -> float:
    """Fold the model.onnx of a bundle, and name its sha256 in manifest and reference; returns how far any answer moved.

    Raises: ValueError when an answer to a golden case moves by more than `MOST_MOVED`; nothing is written then. The card and
    the version are left to be renewed.
    """
    manifest = read_manifest(bundle)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "model.onnx"
        folded(manifest.model_path, made)
        moved = max(_moved(manifest, made, case) for case in golden_cases(manifest))
        if moved > MOST_MOVED:
            raise ValueError(f"{manifest.name}: an answer would move by {moved:.2g}; accepted: {MOST_MOVED:g}")
        content = made.read_bytes()
    manifest.model_path.write_bytes(content)
    for name in ("manifest.toml", "reference.json"):
        path = bundle / name
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            path.write_text(text.replace(manifest.sha256, hashlib.sha256(content).hexdigest()), encoding="utf-8")
    return moved


def _moved(manifest: Manifest, made: Path, case: Path) -> float:
    name = INPUT[manifest.task]
    with np.load(case) as arrays:
        tensor = arrays[name]
    before, after = (onnxruntime.InferenceSession(str(p), providers=["CPUExecutionProvider"]).run(None, {name: tensor})
                     for p in (manifest.model_path, made))
    return max(float(np.abs(a - b).max()) for a, b in zip(before, after, strict=True))


if __name__ == "__main__":
    for given in sys.argv[1:]:
        print(f"{given}: an answer moved by {refold(Path(given).resolve()):.2g} at most")
