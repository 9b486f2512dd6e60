"""Bundles of the further tasks whose network is a rule that can be worked out by hand: brightness, place by place."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from service.domain.manifest import Manifest, read_manifest

Row = tuple[str, str | None, float]
NIH = (("no_finding", "NO_FINDING", 0.5), ("Effusion", "PLEURAL_EFFUSION", 0.5), ("mass", "MASS", 0.5),
       ("pneumonia", "PNEUMONIA", 0.5))
GATE = (("frontal", None, 0.5), ("lateral", None, 0.5), ("other", None, 0.5), ("inverted", None, 0.5),
        ("rotated_90", None, 0.5), ("rotated_180", None, 0.5), ("rotated_270", None, 0.5), ("clipped", None, 0.5),
        ("child", None, 0.5))


def linear(
    folder: Path, task: str, outputs: Sequence[Row], slopes: Sequence[float], offsets: Sequence[float], name: str,
    rest: str = "", unfamiliar: bool = False,
) -> Manifest:
    """Make a bundle whose probability k is offsets[k] + slopes[k] * the mean of the image, within 0..1.

    The activation k is the image times slopes[k]; `unfamiliarity` is the mean. rest: further lines of [parameters].
    """
    given = "slices" if task.startswith("ct") else "image"
    nodes = [
        helper.make_node("ReduceMean", [given], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("Mul", ["mean", "slopes"], ["sloped"]), helper.make_node("Add", ["sloped", "offsets"], ["raw"]),
        helper.make_node("Clip", ["raw", "zero", "one"], ["probabilities"]),
        helper.make_node("Mul", [given, "planes"], ["activation"]),
        helper.make_node("Squeeze", ["mean", "second"], ["unfamiliarity"]),
    ]
    constants = {
        "slopes": np.array([slopes], np.float32), "offsets": np.array([offsets], np.float32),
        "zero": np.float32(0), "one": np.float32(1), "planes": np.array(slopes, np.float32).reshape(1, -1, 1, 1),
        "second": np.array([1], np.int64),
    }
    k = len(outputs)
    answers = [_tensor("probabilities", ["n", k]), _tensor("activation", ["n", k, "h", "w"])]
    answers += [_tensor("unfamiliarity", ["n"])] if unfamiliar else []
    return _written(folder / name, given, nodes if unfamiliar else nodes[:-1], constants, answers, task, outputs, rest)


def findings(folder: Path, slopes: Sequence[float] = (-1, 1, 0, -1), offsets: Sequence[float] = (1, 0, 0.5, 1),
             name: str = "tiny-findings") -> Manifest:
    """Make a multi-label bundle: effusion grows with brightness, mass is 0.5, pneumonia and no finding fall with it."""
    return linear(folder, "cxr-classification", NIH, slopes, offsets, name, "independent = true\n")


def gate(folder: Path, name: str = "tiny-gate") -> Manifest:
    """Make a quality bundle: bright images are frontal, dark ones inverted and other; a very bright one is a child."""
    slopes, offsets = (1, 0, -1, -1, 0, 0, 0, 0, 1), (0, 0, 1, 1, 0, 0, 0, 0, -0.4)
    rules = "gate = { frontal = \"require\", inverted = \"refuse\", child = \"note\" }\n"
    return linear(folder, "cxr-quality", GATE, slopes, offsets, name, rules)


def covid_slices(folder: Path, name: str = "tiny-slices") -> Manifest:
    """Make a slice classifier: the brightness is the probability of COVID-19, the rest is shared by the others."""
    rows = (("covid19", "COVID_19_PNEUMONIA", 0.5), ("other_abnormal", "OPACITY", 0.5), ("normal", "NO_FINDING", 0.5))
    return linear(folder, "ct-classification", rows, (1, -0.75, -0.25), (0, 0.75, 0.25), name,
                  "aggregate = { rule = \"mean_of_top\", share = 0.5 }\n")


def lung_fields(folder: Path, name: str = "tiny-lungs") -> Manifest:
    """Make a lung-field bundle: a pixel brighter than 0.5 is lung."""
    nodes = [
        helper.make_node("Greater", ["image", "half"], ["bright"]),
        helper.make_node("Cast", ["bright"], ["lung"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["one", "lung"], ["background"]),
        helper.make_node("Concat", ["background", "lung"], ["probabilities"], axis=1),
    ]
    constants = {"half": np.float32(0.5), "one": np.float32(1)}
    rows = (("background", None, 0.5), ("lung", None, 0.5))
    return _written(folder / name, "image", nodes, constants, [_tensor("probabilities", ["n", 2, "h", "w"])],
                    "cxr-segmentation", rows, "")


def _tensor(name: str, shape: list[Any]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _written(
    folder: Path, given: str, nodes: list[onnx.NodeProto], constants: dict[str, Any],
    answers: list[onnx.ValueInfoProto], task: str, outputs: Sequence[Row], rest: str,
) -> Manifest:
    tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    graph = helper.make_graph(nodes, folder.name, [_tensor(given, ["n", 1, "h", "w"])], answers, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    content = model.SerializeToString()
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(content)
    table = "".join(f'[[outputs]]\nname = "{n}"\nindex = {k}\nthreshold = {t}\n' + (f'code = "{c}"\n' if c else "")
                    for k, (n, c, t) in enumerate(outputs))
    (folder / "manifest.toml").write_text(
        f'name = "{folder.name}"\nversion = "1.0.0"\ntitle = "A rule for tests"\ntask = "{task}"\n'
        f'sha256 = "{hashlib.sha256(content).hexdigest()}"\nlimitations = ["for tests only"]\n'
        f"[input]\nsteps = []\n[parameters]\nmargin_fraction = 0.0\nsaliency_floor = 0.001\n{rest}{table}",
        encoding="utf-8")
    return read_manifest(folder)
