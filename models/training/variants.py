"""`firstlook models optimise BUNDLE --data DIR`: an int8 file for the CPU and a fp16 file for a GPU, where they pay.

Both are made from model.onnx, int8 calibrated on training images that went through the bundle's own steps. Every main
figure, and for a classifier what its thresholds find, is measured with each file on the same images. A file is adopted in
the manifest only if no figure falls by more than 0.005 (a share: by more than that or one image; the part of healthy lung
called infected may rise by 0.05 percent points), if it gives the golden cases again and, for int8, if it is faster on this
CPU in the same run. Everything is written to figures.json.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import sys
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from models.evaluation import tasks
from models.evaluation.bundles import Network, find_bundle, with_file
from models.evaluation.evaluate import Request, drawn, limited
from models.evaluation.held_out import CannotTell, held_out_of, kept
from models.evaluation.problems import Problems
from models.evaluation.slices import PAPERS
from models.training import toml_text
from models.training.figures_file import add_figures
from models.training.guarded import AT_THRESHOLD, MOST_FALL, Figures, main_figures
from models.training.quantise import RECIPES, to_fp16, to_int8
from service.domain.manifest import InvalidManifest, Manifest, read_manifest
from service.domain.study import Kind
from service.domain.variant import Precision, Use, Variant
from service.errors import FirstlookError
from service.infer.golden import INPUT, golden_cases, golden_problems
from service.verify import prepare

tell = partial(print, flush=True)
LEAST_SPEED_UP = 1.05
ROUNDS = 15
Timer = Callable[[Manifest, Variant, NDArray[np.float32]], float]


@dataclass(frozen=True)
class Trial:
    """One file that was made. times_faster: model.onnx over this file, paired rounds; None where it is not asked."""

    made_by: str
    sha256: str
    bytes: int
    figures: Mapping[str, float]
    times_faster: float | None
    adopted: bool
    why: str


class Recorder(Network):
    """A network that keeps every tensor that it is given."""

    def __init__(self, manifest: Manifest, threads: int = 0) -> None:
        super().__init__(manifest, threads)
        self.tensors: list[NDArray[np.float32]] = []

    def run(self, tensor: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Run, and keep the tensor."""
        self.tensors.extend(tensor)
        return super().run(tensor)


def optimise(
    manifest: Manifest, data: Path, calibrate: int = 64, limit: int = 0, seed: int = 0, timer: Timer | None = None,
) -> dict[str, Any]:
    """Make, measure and adopt; returns what is written to figures.json under "variants".

    calibrate: training images for the ranges; limit: the most images of each part that figures are measured on, 0 for
    all; timer: how many times as fast a file is, default `times_faster`. The manifest and figures.json are written again.
    Raises: InvalidManifest; CannotTell; EngineUnavailable.
    """
    alone = replace(manifest, others=())
    training, unseen, note = _split(alone, Request(data, limit, seed))
    recorder = Recorder(alone)
    chosen = drawn(training, Request(data, calibrate, seed))
    tasks.of(alone).score(recorder, chosen, Problems())
    tensors = np.stack(recorder.tensors[:calibrate])
    tell(f"{manifest.name}: {len(tensors)} tensors to calibrate with, {len(unseen)} images to measure on")
    base = main_figures(alone, unseen)
    tell(f"  fp32: {_words(base.values)}")
    found: dict[str, Any] = {"fp32": dict(base.values), "images": len(unseen), "note": note,
                             "calibration_images": [i.name for i in chosen]}
    int8, tried = _int8(alone, unseen, tensors, base, timer or times_faster)
    found["int8"] = [_plain(t) for t in tried]
    fp16 = _fp16(alone, unseen, base)
    found["fp16"] = _plain(fp16)
    others = [Variant(Precision.INT8, int8.sha256, Use.CPU)] if int8 else []
    others += [Variant(Precision.FP16, fp16.sha256, Use.GPU)] if fp16.adopted else []
    _write(manifest, others, found)
    return found


def times_faster(manifest: Manifest, variant: Variant, tensors: NDArray[np.float32]) -> float:
    """Return the time of model.onnx over that of another file, the median of paired rounds, as the service runs them.

    Slices of a CT: as many callers as cores, one thread each; radiographs: one at a time on all cores.
    """
    cores = os.cpu_count() or 1
    callers, threads = (cores, 1) if manifest.kind is Kind.CT else (1, cores)
    sessions = [_session(manifest.path_of(v), threads) for v in (manifest.variants[0], variant)]
    size = 4 if manifest.kind is Kind.CT else 1
    feeds = [{INPUT[manifest.task]: tensors[k:k + size]} for k in range(0, min(len(tensors), 8 * size), size)]
    ratios = []
    with ThreadPoolExecutor(callers) as pool:
        for number in range(ROUNDS + 1):
            times = []
            for session in sessions:
                started = time.perf_counter()
                list(pool.map(lambda feed, session=session: session.run(None, feed), feeds))
                times.append(time.perf_counter() - started)
            if number:  # the first warms up
                ratios.append(times[0] / times[1])
    return statistics.median(ratios)


def _int8(
    manifest: Manifest, images: Sequence[Any], tensors: NDArray[np.float32], base: Figures, timer: Timer,
) -> tuple[Trial | None, list[Trial]]:
    """Try the recipes until one is adopted; the file stays only then."""
    tried: list[Trial] = []
    for recipe in RECIPES:
        path = manifest.folder / Variant(Precision.INT8, "").file_name
        to_int8(manifest.model_path, path, tensors, recipe)
        variant = Variant(Precision.INT8, _digest(path), Use.CPU)
        trial = judged(recipe.name, manifest, variant, base,
                       main_figures(with_file(manifest, variant), images).values, timer(manifest, variant, tensors))
        trial = reproduced(trial, manifest, variant)
        tried.append(trial)
        tell(f"  int8, {recipe.name}: {_words(trial.figures)}; {trial.times_faster:.2f} times as fast; {trial.why}")
        if trial.adopted:
            return trial, tried
        path.unlink()
    return None, tried


def _fp16(manifest: Manifest, images: Sequence[Any], base: Figures) -> Trial:
    path = manifest.folder / Variant(Precision.FP16, "").file_name
    to_fp16(manifest.model_path, path)
    variant = Variant(Precision.FP16, _digest(path), Use.GPU)
    figures = main_figures(with_file(manifest, variant), images).values
    trial = judged("half precision, inputs and outputs float32", manifest, variant, base, figures, None)
    trial = reproduced(trial, manifest, variant)
    tell(f"  fp16: {_words(trial.figures)}; {trial.why}")
    if not trial.adopted:
        path.unlink()
    return trial


def judged(
    made_by: str, manifest: Manifest, variant: Variant, base: Figures, figures: Mapping[str, float], faster: float | None,
) -> Trial:
    """Decide whether a file is adopted; a figure that it lacks has fallen."""
    worst, by, too_much = base.worst(figures)
    if too_much:
        why = f"left out: {worst} gets worse by {by:.4f}"
    elif faster is not None and faster < LEAST_SPEED_UP:
        why = f"left out: not faster by {LEAST_SPEED_UP} on this CPU"
    else:
        why = f"adopted for the {variant.use}: no figure falls by more than {MOST_FALL}, most does {worst}: {by:.4f}"
    return Trial(made_by, variant.sha256, manifest.path_of(variant).stat().st_size, dict(figures), faster,
                 why.startswith("adopted"), why)


def reproduced(trial: Trial, manifest: Manifest, variant: Variant) -> Trial:
    """Leave an adopted file out that does not give the golden cases again, as `firstlook models verify` wants it."""
    cases = golden_cases(manifest) if trial.adopted else []
    problems = golden_problems(replace(manifest, others=(variant,)), prepare) if cases else []
    return replace(trial, adopted=False, why=f"left out: {problems[0]}") if problems else trial


def _split(manifest: Manifest, request: Request) -> tuple[list[Any], list[Any], str]:
    """Return training images, held-out images and a note; where nothing is held out, all images stand for both."""
    masks = manifest.task == "ct-segmentation"  # of pictures of papers there are none
    images = [i for i in tasks.of(manifest).find(request.data, manifest, Problems()) if i.part != PAPERS or not masks]
    if not images:
        raise CannotTell(f"{request.data} holds no image that {manifest.name} could be measured on")
    try:
        unseen = kept(images, held_out_of(manifest), Problems())
        note = "Figures on held-out images, calibration on training images."
    except CannotTell:
        unseen, note = images, "Figures on images that the bundle may have been trained on: none are known to be held out."
    names = {i.name for i in unseen}
    training = [i for i in images if i.name not in names] or images
    expand = tasks.of(manifest).expand
    few = limited(unseen, request)
    return expand(training, request.data, manifest, request.seed), expand(few, request.data, manifest, request.seed), note


def _write(manifest: Manifest, others: Sequence[Variant], found: dict[str, Any]) -> None:
    path = manifest.folder / "manifest.toml"
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    table.pop("variants", None)
    if others:
        table["variants"] = {v.precision.value: {"sha256": v.sha256, "use": v.use.value} for v in others}
    path.write_text(toml_text.dumps(table), encoding="utf-8")
    read_manifest(manifest.folder)
    add_figures(manifest.folder, {"variants": found})


def _session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _plain(trial: Trial) -> dict[str, Any]:
    return {k: v for k, v in vars(trial).items() if v is not None}


def _words(figures: Mapping[str, float]) -> str:
    shown = {n: v for n, v in figures.items() if not any(word in n for word in AT_THRESHOLD)}
    return ", ".join(f"{name} {value:.4f}" for name, value in shown.items())


def main(arguments: list[str] | None = None) -> int:
    """Make and judge the files of one bundle; returns 0 well, 2 wrong usage."""
    parser = argparse.ArgumentParser(prog="firstlook models optimise", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=Path(__file__).parents[1], help=argparse.SUPPRESS)
    parser.add_argument("bundle", help="name, or path of its folder")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="laid out as models/README.md says")
    parser.add_argument("--calibrate", type=int, default=64, metavar="N", help="training images for the ranges of int8 (64)")
    parser.add_argument("--limit", type=int, default=0, metavar="N", help="measure on at most N images of each part")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (0)")
    asked = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    try:
        optimise(find_bundle(asked.bundle, asked.models), asked.data, max(1, asked.calibrate), asked.limit, asked.seed)
    except (InvalidManifest, CannotTell, FirstlookError, OSError) as error:
        print(f"firstlook: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
