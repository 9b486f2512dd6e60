"""Bundles whose network is a rule that can be worked out by hand, so that a test knows what must come out."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from service.domain.manifest import Manifest, read_manifest

OPSET = 17


def threshold_ct(folder: Path, name: str = "tiny-ct", **parameters: Any) -> Manifest:
    """Make a CT bundle that reads raw HU: lung is -950 to -500, infection -500 to 0, all else background.

    Unfamiliarity is the mean of |HU| / 1000."""
    nodes = [
        *_between("slices", "lung", -950.0, -500.0), *_between("slices", "infection", -500.0, 0.0),
        helper.make_node("Add", ["lung", "infection"], ["either"]),
        helper.make_node("Sub", ["one", "either"], ["background"]),
        helper.make_node("Concat", ["background", "lung", "infection"], ["probabilities"], axis=1),
        helper.make_node("Abs", ["slices"], ["size"]), helper.make_node("Mul", ["size", "kilo"], ["share"]),
        helper.make_node("ReduceMean", ["share"], ["unfamiliarity"], axes=[1, 2, 3], keepdims=0),
    ]
    limits = {"lung_low": -950.0, "lung_high": -500.0, "infection_low": -500.0, "infection_high": 0.0, "one": 1.0,
              "kilo": 0.001}
    graph = helper.make_graph(
        nodes, name, [_tensor("slices", ["n", 1, "h", "w"])],
        [_tensor("probabilities", ["n", 3, "h", "w"]), _tensor("unfamiliarity", ["n"])],
        [numpy_helper.from_array(np.array(v, np.float32), k) for k, v in limits.items()])
    tables = {"min_infection_ml": 0.05, **parameters}
    lines = "\n".join(f"{k} = {v}" for k, v in tables.items())
    return _bundle(folder / name, graph, "ct-segmentation", (
        f"[parameters]\n{lines}\n"
        'study_probability = { feature = "infected_fraction", intercept = -4.0, slope = 200.0 }\n'
        + _outputs(("background", None, 0.5, None), ("lung", None, 0.5, None),
                   ("infection", "OPACITY", 0.5, "urgent"))))


def brightness_cxr(folder: Path, name: str = "tiny-cxr", channels: int = 1) -> Manifest:
    """Make a radiograph bundle: the mean of the image is the score of pneumonia, a quarter of it that of the pattern
    of COVID-19, the rest that of no finding; the activation of pneumonia is the image, of the other its half."""
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "axis"], ["pneumonia"]),
        helper.make_node("Mul", ["pneumonia", "quarter"], ["covid"]),
        helper.make_node("Sub", ["one", "pneumonia"], ["none"]),
        helper.make_node("Concat", ["none", "pneumonia", "covid"], ["probabilities"], axis=1),
        helper.make_node("ReduceMean", ["image"], ["grey"], axes=[1], keepdims=1),
        helper.make_node("Mul", ["grey", "zero"], ["nowhere"]),
        helper.make_node("Mul", ["grey", "half"], ["faint"]),
        helper.make_node("Concat", ["nowhere", "grey", "faint"], ["activation"], axis=1),
    ]
    constants = {"one": 1.0, "quarter": 0.25, "half": 0.5, "zero": 0.0}
    graph = helper.make_graph(
        nodes, name, [_tensor("image", ["n", channels, "h", "w"])],
        [_tensor("probabilities", ["n", 3]), _tensor("activation", ["n", 3, "h", "w"])],
        [*(numpy_helper.from_array(np.array(v, np.float32), k) for k, v in constants.items()),
         numpy_helper.from_array(np.array([1], np.int64), "axis")])
    parameters = "[parameters]\nmargin_fraction = 0.0\nsaliency_floor = 0.001\n"
    return _bundle(folder / name, graph, "cxr-classification", parameters + _outputs(
        ("no_finding", "NO_FINDING", 0.5, None), ("pneumonia", "PNEUMONIA", 0.5, "urgent"),
        ("covid19", "COVID_19_PNEUMONIA", 0.2, "stat")))


def spot_cxr(folder: Path, name: str = "tiny-findings", most_unfamiliarity: float = 0.0) -> Manifest:
    """Make a multi-label radiograph bundle: the brightest pixel is the score of a mass, and the eighth power of the image
    its evidence; effusion has a tenth of the mean; no finding the rest of the mass. Unfamiliarity is the mean."""
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("ReduceMax", ["image"], ["most"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Unsqueeze", ["most", "axis"], ["mass"]),
        helper.make_node("Unsqueeze", ["mean", "axis"], ["means"]),
        helper.make_node("Mul", ["means", "tenth"], ["effusion"]),
        helper.make_node("Sub", ["one", "mass"], ["none"]),
        helper.make_node("Concat", ["none", "effusion", "mass"], ["probabilities"], axis=1),
        helper.make_node("Pow", ["image", "eight"], ["spot"]),
        helper.make_node("Mul", ["image", "zero"], ["nowhere"]),
        helper.make_node("Concat", ["nowhere", "nowhere", "spot"], ["activation"], axis=1),
        helper.make_node("Identity", ["mean"], ["unfamiliarity"]),
    ]
    graph = helper.make_graph(
        nodes, name, [_tensor("image", ["n", 1, "h", "w"])],
        [_tensor("probabilities", ["n", 3]), _tensor("activation", ["n", 3, "h", "w"]), _tensor("unfamiliarity", ["n"])],
        _constants(one=1.0, tenth=0.1, zero=0.0, eight=8.0, axis=[1]))
    return _bundle(folder / name, graph, "cxr-classification", (
        "[parameters]\nmargin_fraction = 0.0\nsaliency_floor = 0.001\n"
        f"[accepts]\nmost_unfamiliarity = {most_unfamiliarity}\n"
        + _outputs(("no_finding", "NO_FINDING", 0.5, None), ("effusion", "PLEURAL_EFFUSION", 0.5, None),
                   ("mass", "MASS", 0.95, "urgent"))))


def dark_lungs(folder: Path, name: str = "tiny-lungs", most_unfamiliarity: float = 0.0) -> Manifest:
    """Make a bundle of lung fields: lung is what is darker than 0.45. Unfamiliarity is the mean of the image."""
    nodes = [
        helper.make_node("Less", ["image", "limit"], ["dark"]),
        helper.make_node("Cast", ["dark"], ["lung"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["one", "lung"], ["background"]),
        helper.make_node("Concat", ["background", "lung"], ["probabilities"], axis=1),
        helper.make_node("ReduceMean", ["image"], ["unfamiliarity"], axes=[1, 2, 3], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes, name, [_tensor("image", ["n", 1, "h", "w"])],
        [_tensor("probabilities", ["n", 2, "h", "w"]), _tensor("unfamiliarity", ["n"])], _constants(limit=0.45, one=1.0))
    return _bundle(folder / name, graph, "cxr-segmentation", (
        f"[parameters]\nmargin_fraction = 0.0\n[accepts]\nmost_unfamiliarity = {most_unfamiliarity}\n"
        + _outputs(("background", None, 0.5, None), ("lung", None, 0.5, None))))


QUALITY = ("frontal", "lateral", "other", "inverted", "rotated_90", "rotated_180", "rotated_270", "clipped", "child")
BAND_PX = 28


def band_gate(folder: Path, name: str = "tiny-gate", **rules: str) -> Manifest:
    """Make a quality bundle that reads its nine scores from nine bands of 28 columns in the top 16 rows of the image.

    All thresholds are 0.9, that of frontal 0.5. rules: of `parameters.gate`; by default frontal is required, clipped and
    child are noted, and all else is refused."""
    nodes = [
        helper.make_node("AveragePool", ["image"], ["blocks"], kernel_shape=[16, BAND_PX], strides=[16, BAND_PX]),
        helper.make_node("Slice", ["blocks", "begin", "end", "axes"], ["top"]),
        helper.make_node("Reshape", ["top", "shape"], ["probabilities"]),
    ]
    graph = helper.make_graph(
        nodes, name, [_tensor("image", ["n", 1, "h", "w"])], [_tensor("probabilities", ["n", len(QUALITY)])],
        _constants(begin=[0, 0], end=[1, len(QUALITY)], axes=[2, 3], shape=[-1, len(QUALITY)]))
    usual = {k: "note" if k in ("clipped", "child") else "refuse" for k in QUALITY} | {"frontal": "require"}
    lines = "\n".join(f'{k} = "{v}"' for k, v in (rules or usual).items())
    outputs = _outputs(*((k, None, 0.5 if k == "frontal" else 0.9, None) for k in QUALITY))
    return _bundle(folder / name, graph, "cxr-quality", f"[parameters.gate]\n{lines}\n{outputs}")


def density_ct(folder: Path, name: str = "tiny-pattern", most_unfamiliarity: float = 0.0, aggregate: str = "share = 0.3",
               curve: str = "") -> Manifest:
    """Make a CT classifier of slices that reads raw HU: COVID-19 is the share of pixels at -500 to 0, other the share
    above 200, normal the rest. Unfamiliarity is the mean of (HU + 1024) / 1000."""
    nodes = [
        *_between("slices", "soft", -500.0, 0.0), *_between("slices", "hard", 200.0, 4000.0),
        helper.make_node("ReduceMean", ["soft"], ["covid"], axes=[2, 3], keepdims=0),
        helper.make_node("ReduceMean", ["hard"], ["other"], axes=[2, 3], keepdims=0),
        helper.make_node("Add", ["covid", "other"], ["either"]), helper.make_node("Sub", ["one", "either"], ["normal"]),
        helper.make_node("Concat", ["covid", "other", "normal"], ["probabilities"], axis=1),
        helper.make_node("Mul", ["soft", "zero"], ["nowhere"]),
        helper.make_node("Concat", ["soft", "hard", "nowhere"], ["activation"], axis=1),
        helper.make_node("ReduceMean", ["slices"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Add", ["mean", "air"], ["above"]), helper.make_node("Mul", ["above", "kilo"], ["unfamiliarity"]),
    ]
    graph = helper.make_graph(
        nodes, name, [_tensor("slices", ["n", 1, "h", "w"])],
        [_tensor("probabilities", ["n", 3]), _tensor("activation", ["n", 3, "h", "w"]), _tensor("unfamiliarity", ["n"])],
        _constants(soft_low=-500.0, soft_high=0.0, hard_low=200.0, hard_high=4000.0, one=1.0, zero=0.0, air=1024.0,
                   kilo=0.001))
    return _bundle(folder / name, graph, "ct-classification", (
        f'[parameters]\nside_px = 128\nwindow_hu = [-1100, 1000]\n{curve}\n'
        f'[parameters.aggregate]\nrule = "mean_of_top"\n{aggregate}\n'
        f"[accepts]\nmost_unfamiliarity = {most_unfamiliarity}\n"
        + _outputs(("covid19", "COVID_19_PNEUMONIA", 0.01, "stat"), ("other_abnormal", "PNEUMONIA", 0.5, "urgent"),
                   ("normal", "NO_FINDING", 0.5, None))))


def _constants(**values: float | list[int]) -> list[onnx.TensorProto]:
    return [numpy_helper.from_array(np.array(v, np.int64 if isinstance(v, list) else np.float32), k)
            for k, v in values.items()]


def _between(source: str, name: str, low: float, high: float) -> list[onnx.NodeProto]:
    return [
        helper.make_node("Greater", [source, f"{name}_low"], [f"{name}_above"]),
        helper.make_node("LessOrEqual", [source, f"{name}_high"], [f"{name}_below"]),
        helper.make_node("And", [f"{name}_above", f"{name}_below"], [f"{name}_both"]),
        helper.make_node("Cast", [f"{name}_both"], [name], to=TensorProto.FLOAT),
    ]


def _tensor(name: str, shape: list[Any]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _outputs(*rows: tuple[str, str | None, float, str | None]) -> str:
    text = ""
    for index, (name, code, threshold, urgency) in enumerate(rows):
        text += f'[[outputs]]\nname = "{name}"\nindex = {index}\nthreshold = {threshold}\n'
        text += f'code = "{code}"\n' if code else ""
        text += f'urgency = "{urgency}"\n' if urgency else ""
    return text


def _bundle(folder: Path, graph: onnx.GraphProto, task: str, rest: str) -> Manifest:
    folder.mkdir(parents=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
    onnx.checker.check_model(model)
    content = model.SerializeToString()
    (folder / "model.onnx").write_bytes(content)
    (folder / "manifest.toml").write_text(
        f'name = "{folder.name}"\nversion = "1.0.0"\ntitle = "A rule for tests"\ntask = "{task}"\n'
        f'sha256 = "{hashlib.sha256(content).hexdigest()}"\nlimitations = ["for tests only"]\n'
        f'[input]\nsteps = []\n{rest}', encoding="utf-8")
    return read_manifest(folder)
