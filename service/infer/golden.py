"""Does a bundle's network fit its task, and does it still answer as it did when the bundle was made?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from service.domain.manifest import InvalidManifest, Manifest
from service.domain.variant import Precision, Variant
from service.infer.engine import CPU, FOREIGN_ERRORS

SOURCE = {
    "ct-segmentation": "hu", "ct-classification": "hu", "cxr-classification": "grey", "cxr-quality": "grey",
    "cxr-segmentation": "grey",
}
"""The array of a golden case that holds the source image: (n, y, x) in HU, or (y, x) uint8 as displayed."""

INPUT = {task: "slices" if source == "hu" else "image" for task, source in SOURCE.items()}
OUTPUTS = {
    "ct-segmentation": ("probabilities",), "ct-classification": ("probabilities", "activation"),
    "cxr-classification": ("probabilities", "activation"), "cxr-quality": ("probabilities",),
    "cxr-segmentation": ("probabilities",),
}
CLASSES = {"ct-segmentation": "background, lung, infection", "cxr-segmentation": "background, lung"}
"""The outputs that a segmentation must have."""

Prepare = Callable[[Manifest, Mapping[str, NDArray[Any]]], NDArray[np.float32]]
"""From a golden case's source to the tensor; handed in so that this package does not import the preparing one."""

_CANNOT_RUN: tuple[type[Exception], ...] = (InvalidManifest, *FOREIGN_ERRORS)
_PREPARED_ATOL = 1e-5
MEAN_TOLERANCE = {Precision.FP16: 0.005, Precision.INT8: 0.03}
"""How far another precision may be from model.onnx on a golden case: the mean difference, of the largest value."""
_ANSWER_ATOL, _ANSWER_RTOL = 5e-3, 1e-3  # stored in half precision, other kernels on other machines


def shape_problems(manifest: Manifest) -> list[str]:
    """Compare the inputs and outputs of each ONNX file with what the task needs; returns what does not fit.

    The input is (n, 1, h, w) with n free and h, w those of the parameters or free; `probabilities` has one channel for
    each output of the manifest, and so has `activation`, which classifiers have as well; `unfamiliarity` is one number
    for each image, and must be there when the manifest sets a limit for it.
    """
    return [problem for variant in manifest.variants for problem in _of(variant, _shape_problems(manifest, variant))]


def _shape_problems(manifest: Manifest, variant: Variant) -> list[str]:
    session = _session(manifest, variant)
    if isinstance(session, str):
        return [session]
    return [*_input_problems(manifest, session), *_output_problems(manifest, session)]


def golden_cases(manifest: Manifest) -> list[Path]:
    """Return the golden cases of a bundle in order of name."""
    return sorted((manifest.folder / "golden").glob("*.npz"))


def golden_problems(manifest: Manifest, prepare: Prepare) -> list[str]:
    """Reproduce every golden case with every ONNX file: prepare its source, run the network; returns what differs.

    The stored answers are those of model.onnx, which must agree value by value. Another precision must agree on the
    whole: the mean difference of an output may be MEAN_TOLERANCE of its largest stored value.
    """
    cases = golden_cases(manifest)
    if not cases:
        return ["no golden case (golden/*.npz)"]
    problems = []
    for variant in manifest.variants:
        session = _session(manifest, variant)
        problems += _of(variant, [session] if isinstance(session, str) else [
            f"{path.name}: {text}" for path in cases
            for text in _case_problems(manifest, path, session, prepare, variant.precision)])
    return problems


def _of(variant: Variant, problems: list[str]) -> list[str]:
    """Name the file of what was found, where it is not model.onnx."""
    named = variant.precision is Precision.FP32
    return [text if named or text.startswith(variant.file_name) else f"{variant.file_name}: {text}" for text in problems]


def _session(manifest: Manifest, variant: Variant) -> onnxruntime.InferenceSession | str:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(manifest.path_of(variant)), options, providers=[CPU])
    except FOREIGN_ERRORS as error:
        return f"{variant.file_name} cannot be loaded ({type(error).__name__})"


def _input_problems(manifest: Manifest, session: onnxruntime.InferenceSession) -> list[str]:
    given, name, p = session.get_inputs(), INPUT[manifest.task], manifest.parameters
    if [i.name for i in given] != [name]:
        return [f"inputs are {', '.join(i.name for i in given)}; the task {manifest.task} needs {name}"]
    size = ("side_px", "side_px") if name == "slices" else ("rows_px", "columns_px")
    wanted = (None, 1, p.get(size[0]), p.get(size[1]))
    shape = given[0].shape
    if given[0].type != "tensor(float)" or len(shape) != 4 or any(
            isinstance(n, int) and w is not None and n != w for n, w in zip(shape, wanted, strict=True)):
        return [f"input {name} is {given[0].type} {shape}; needed: float (n, 1, {wanted[2]}, {wanted[3]})"]
    return [f"the first axis of {name} is fixed to {shape[0]}; it must be free"] if isinstance(shape[0], int) else []


def _output_problems(manifest: Manifest, session: onnxruntime.InferenceSession) -> list[str]:
    given, names = {o.name: o for o in session.get_outputs()}, OUTPUTS[manifest.task]
    if missing := [name for name in names if name not in given]:
        return [f"output {missing[0]} is missing; the graph has {', '.join(given)}"]
    problems, classes = [], len(manifest.outputs)
    needed = CLASSES.get(manifest.task, "")
    if needed and classes != needed.count(",") + 1:
        problems.append(f"{classes} outputs in the manifest; this segmentation has {needed}")
    if sorted(o.index for o in manifest.outputs) != list(range(classes)):
        problems.append("the outputs of the manifest are not numbered 0, 1, 2, ...")
    for name in names:
        shape = given[name].shape
        axes = 2 if name == "probabilities" and not needed else 4
        if len(shape) != axes or (isinstance(shape[1], int) and shape[1] != classes):
            problems.append(f"output {name} is {shape}; needed: {axes} axes with {classes} channels")
    if manifest.accepts.most_unfamiliarity and "unfamiliarity" not in given:
        problems.append("accepts.most_unfamiliarity is set, but the graph has no output unfamiliarity")
    if "unfamiliarity" in given and len(given["unfamiliarity"].shape) != 1:
        problems.append(f"output unfamiliarity is {given['unfamiliarity'].shape}; needed: one number for each image")
    return problems


def _case_problems(
    manifest: Manifest, path: Path, session: onnxruntime.InferenceSession, prepare: Prepare,
    precision: Precision,
) -> list[str]:
    try:
        with np.load(path) as arrays:
            case = {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError) as error:
        return [f"cannot be read ({type(error).__name__})"]
    name, names = INPUT[manifest.task], OUTPUTS[manifest.task]
    if missing := [key for key in (SOURCE[manifest.task], name, *names) if key not in case]:
        return [f"the array {missing[0]} is missing"]
    try:
        tensor = prepare(manifest, case)
        found = session.run(list(names), {name: tensor})
    except _CANNOT_RUN as error:
        return [f"cannot be run ({error})"]
    problems = _differs(tensor, case[name], _PREPARED_ATOL, 0.0, "the preparation")
    for key, value in zip(names, found, strict=True):
        if precision is Precision.FP32:
            problems += _differs(value, case[key], _ANSWER_ATOL, _ANSWER_RTOL, key)
        else:
            problems += _differs_on_the_whole(value, case[key], MEAN_TOLERANCE[precision], key)
    return problems


def _differs_on_the_whole(found: NDArray[Any], wanted: NDArray[Any], tolerance: float, what: str) -> list[str]:
    if found.shape != wanted.shape:
        return [f"{what} has the shape {found.shape}, stored is {wanted.shape}"]
    wide = wanted.astype(np.float32)
    mean, largest = float(np.abs(found - wide).mean()), float(np.abs(wide).max(initial=0.0))
    if mean <= tolerance * largest:
        return []
    return [f"{what} differs by {mean:.3g} on the mean; accepted: {tolerance * largest:.3g}"]


def _differs(found: NDArray[Any], wanted: NDArray[Any], atol: float, rtol: float, what: str) -> list[str]:
    if found.shape != wanted.shape:
        return [f"{what} has the shape {found.shape}, stored is {wanted.shape}"]
    wide = wanted.astype(np.float32)
    if np.allclose(found, wide, atol=atol, rtol=rtol):
        return []
    return [f"{what} differs by up to {float(np.abs(found - wide).max()):.3g}"]
