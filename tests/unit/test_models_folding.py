"""Folding rewrites a graph so that it does less and answers the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.training.folding import fold_pads, folded, spread_softmax

pytest.importorskip("sympy")


def network(path: Path, value: float = 0.0, mode: str = "constant", pads: tuple[int, ...] = (0, 0, 0, 1, 0, 0, 2, 1),
            strides: tuple[int, int] = (2, 2)) -> Path:
    """Write a padding, a convolution that pads as well, and a softmax over its three channels."""
    weight = np.random.default_rng(0).normal(size=(3, 1, 3, 3)).astype(np.float32)
    constants = [numpy_helper.from_array(a, n) for a, n in (
        (weight, "w"), (np.array(pads, np.int64), "pads"), (np.array(value, np.float32), "value"))]
    nodes = [helper.make_node("Pad", ["image", "pads", "value"], ["wide"], "pad", mode=mode),
             helper.make_node("Conv", ["wide", "w"], ["logits"], "conv", pads=[1, 0, 0, 1], strides=strides),
             helper.make_node("Softmax", ["logits"], ["probabilities"], "softmax", axis=1)]
    tensors = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s)
               for n, s in (("image", ["n", 1, 9, 8]), ("probabilities", ["n", 3, "h", "w"]))]
    graph = helper.make_graph(nodes, "net", tensors[:1], tensors[1:], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    return path


def answer(path: Path) -> NDArray[np.float32]:
    image = np.random.default_rng(1).normal(size=(2, 1, 9, 8)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found: NDArray[np.float32] = session.run(None, {"image": image})[0]
    return found


def test_what_is_folded_answers_the_same_without_padding_or_softmax(tmp_path: Path) -> None:
    plain = network(tmp_path / "plain.onnx")
    folded(plain, tmp_path / "folded.onnx")
    model = onnx.load(str(tmp_path / "folded.onnx"))
    assert {n.op_type for n in model.graph.node} == {"Conv", "ReduceMax", "Sub", "Exp", "ReduceSum", "Div"}
    assert {t.name for t in model.graph.initializer} == {"w", "probabilities axis"}, "what nobody reads is gone"
    convolution = next(n for n in model.graph.node if n.op_type == "Conv")
    assert [list(a.ints) for a in convolution.attribute if a.name == "pads"] == [[1, 1, 2, 2]]
    assert np.allclose(answer(tmp_path / "folded.onnx"), answer(plain), atol=1e-6)


@pytest.mark.parametrize("changed", [
    {"value": 1.0}, {"mode": "edge"}, {"pads": (0, 0, -1, 1, 0, 0, 2, 1)}, {"pads": (0, 1, 0, 0, 0, 0, 0, 0), "value": 0.0},
])
def test_a_padding_that_a_convolution_cannot_do_stays(tmp_path: Path, changed: dict[str, object]) -> None:
    model = onnx.load(str(network(tmp_path / "plain.onnx", **changed)))  # type: ignore[arg-type]
    assert fold_pads(model) == 0 and model.graph.node[0].op_type == "Pad"


def test_a_padding_that_something_else_reads_stays(tmp_path: Path) -> None:
    model = onnx.load(str(network(tmp_path / "plain.onnx")))
    model.graph.node.append(helper.make_node("Relu", ["wide"], ["also"], "relu"))
    assert fold_pads(model) == 0


def test_a_softmax_of_scores_stays(tmp_path: Path) -> None:
    model = onnx.load(str(network(tmp_path / "plain.onnx")))
    del model.graph.output[0].type.tensor_type.shape.dim[2:]
    assert spread_softmax(model) == 0
