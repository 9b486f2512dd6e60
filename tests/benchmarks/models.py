"""What a bundle costs the service beside the plain cost of its network: python -m tests.benchmarks.models [--quick]

Each row is a ratio of rounds that follow each other: preparing, the network and the read-out of its output, over the
network alone in ONNX Runtime, on the same images, with the same file, threads and batches. Wall time, and processor
time, which is what remains to be trusted when others use the machine. Decoding of pixels is told apart.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
from pydicom import dcmread

from service.domain.manifest import Manifest
from service.domain.study import CtVolume, Kind, RadiographImage, VolumeGeometry
from service.errors import UnusableStudy
from service.infer.catalogue import Catalogue
from service.infer.ct import assess_ct
from service.infer.ct_pattern import classify_ct
from service.infer.cxr import CxrTransform, assess_cxr
from service.infer.engine import Engine
from service.infer.fields import FieldsTransform, find_fields
from service.infer.quality import judge
from service.infer.reading import CtTransform
from service.prepare import ct, cxr
from service.prepare.codestream import FrameShape, decode_frame
from service.prepare.display import to_grey
from service.prepare.hounsfield import to_hu
from service.prepare.pixels import decode

STUDIES = Path(__file__).parents[2] / "service" / "demo" / "studies"
MODELS = Path(__file__).parents[2] / "models"
LIMITS = {Kind.CT: 1.35, Kind.CXR: 1.25}
AIM_S = 6.0
BATCH = 4
SYNTAXES: dict[str, tuple[str, Callable[..., bytes]]] = {
    "JPEG-LS": ("1.2.840.10008.1.2.4.80", imagecodecs.jpegls_encode),
    "JPEG, lossless": ("1.2.840.10008.1.2.4.70", imagecodecs.ljpeg_encode),
    "JPEG 2000": ("1.2.840.10008.1.2.4.90", partial(imagecodecs.jpeg2k_encode, codecformat="j2k", reversible=True, level=0)),
}
tell = partial(print, flush=True)


@dataclass(frozen=True)
class Row:
    """One comparison. count: images or slices in a run."""

    told: str
    unit: str
    count: int
    limit: float
    plain: Callable[[], object]
    whole: Callable[[], object]


@dataclass(frozen=True)
class Cost:
    """Seconds by the clock and of the processor."""

    wall_s: float
    cpu_s: float

    @classmethod
    def of(cls, run: Callable[[], object]) -> Cost:
        """Measure one run."""
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        return cls(time.perf_counter() - wall, time.process_time() - cpu)


def compare(row: Row, rounds: int) -> tuple[float, float]:
    """Print one row; returns the medians of (whole wall seconds, ratio)."""
    row.plain(), row.whole()
    found = []
    for number in range(rounds):
        runs = (row.plain, row.whole) if number % 2 == 0 else (row.whole, row.plain)
        costs = [Cost.of(run) for run in runs]
        found.append(tuple(costs if number % 2 == 0 else reversed(costs)))
    walls = [whole.wall_s / plain.wall_s for plain, whole in found]
    cpus = [whole.cpu_s / plain.cpu_s for plain, whole in found]
    ms = [1000 * statistics.median(c) / row.count for c in zip(
        *((p.wall_s, w.wall_s, p.cpu_s, w.cpu_s) for p, w in found), strict=True)]
    ratio = statistics.median(walls)
    tell(f"{row.told:<46} {ms[0]:7.2f} {ms[1]:7.2f} ms a {row.unit:<5} {ratio:5.2f} [{min(walls):.2f}-{max(walls):.2f}]"
         f"   processor {ms[2]:7.2f} {ms[3]:7.2f} {statistics.median(cpus):5.2f}   limit {row.limit}")
    return statistics.median(w.wall_s for _, w in found), ratio


def volume_of(folder: Path, slices: int) -> CtVolume:
    """Read a CT series, one plane after the other, and stretch it to a number of slices of the same height in all."""
    headers = [(dcmread(path, stop_before_pixels=True), path) for path in sorted(folder.rglob("*.dcm"))]
    series = sorted((h for h in headers if h[0].Modality == "CT"), key=lambda h: float(h[0].ImagePositionPatient[2]))
    if len(series) < 2:
        raise SystemExit(f"{folder} holds no CT series")
    planes = [to_hu(decode(path), float(h.RescaleSlope), float(h.RescaleIntercept)) for h, path in series]
    first, last = series[0][0], series[-1][0]
    height_mm = float(last.ImagePositionPatient[2]) - float(first.ImagePositionPatient[2])
    chosen = np.rint(np.linspace(0, len(planes) - 1, slices)).astype(int)
    hu = np.stack([planes[k] for k in chosen])
    spacing_mm = (height_mm / (slices - 1), *(float(s) for s in first.PixelSpacing))
    positions = tuple(spacing_mm[0] * k for k in range(slices))
    geometry = VolumeGeometry(positions, spacing_mm, tuple(float(v) for v in first.ImageOrientationPatient), (0, 0, 1),
                              *hu.shape[1:], first.FrameOfReferenceUID)
    return CtVolume(hu, geometry)


def ct_row(manifest: Manifest, engine: Engine, volume: CtVolume, callers: int) -> Row:
    """A segmentation or a classifier over a whole volume."""
    to_tensor = partial(ct.slice_tensor, parameters=manifest.parameters, steps=manifest.steps)
    tensor = to_tensor(volume.hu)
    batch = engine.batch(manifest.name)
    firsts = range(0, len(tensor), batch)

    def plain() -> None:
        engine.spread(manifest.name, lambda run, k: run({"slices": tensor[k:k + batch]}), firsts)

    def whole() -> None:
        if manifest.task == "ct-segmentation":
            assess_ct(volume, engine, manifest, CtTransform(to_tensor, ct.restore))
        else:
            classify_ct(volume, engine, manifest, to_tensor)

    told = f"{manifest.name}, {len(tensor)} slices, {callers} x 1 thread"
    return Row(told, "slice", len(tensor), LIMITS[Kind.CT], plain, whole)


def cxr_row(manifest: Manifest, engine: Engine, images: Sequence[RadiographImage], told: str) -> Row:
    """A radiograph bundle, one image at a time."""
    parameters = manifest.parameters
    to_tensor = partial(cxr.image_tensor, parameters=parameters, steps=manifest.steps)
    tensors = [to_tensor(image.grey) for image in images]
    scored = CxrTransform(to_tensor, partial(cxr.saliency_on_source, parameters=parameters))
    fields = FieldsTransform(to_tensor, partial(cxr.restore, parameters=parameters))

    def plain() -> None:
        for tensor in tensors:
            engine.run(manifest.name, {"image": tensor})

    def look(image: RadiographImage) -> None:
        if manifest.task == "cxr-quality":
            judge(image, engine, manifest, to_tensor)
        elif manifest.task == "cxr-segmentation":
            find_fields(image, engine, manifest, fields)
        else:
            assess_cxr([image], engine, manifest, scored)

    def whole() -> None:
        for image in images:
            try:
                look(image)
            except UnusableStudy:  # that is an answer as well, and costs as much
                continue

    return Row(f"{manifest.name}, {told}", "image", len(images), LIMITS[Kind.CXR], plain, whole)


def radiographs(large: bool) -> list[RadiographImage]:
    """The demonstration's radiographs as displayed; large: each as from a detector of 2048 x 2500 pixels."""
    images = [to_grey(path)[0] for path in sorted((STUDIES / "cxr").rglob("*.dcm"))]
    if not large:
        return images
    return [RadiographImage(i.sop_instance_uid, cv2.resize(i.grey, (2048, 2500))) for i in images[:2]]


def callers_against_threads(manifest: Manifest, engine: Engine, volume: CtVolume, rounds: int) -> None:
    """Print the network alone: one session with every thread, beside as many callers with one thread each."""
    tensor = ct.slice_tensor(volume.hu[:48], manifest.parameters, manifest.steps)

    def one() -> None:
        for k in range(0, len(tensor), BATCH):
            engine.run(manifest.name, {"slices": tensor[k:k + BATCH]})

    def many() -> None:
        engine.spread(manifest.name, lambda run, k: run({"slices": tensor[k:k + BATCH]}), range(0, len(tensor), BATCH))

    one(), many()
    ratios = [Cost.of(one).wall_s / Cost.of(many).wall_s for _ in range(rounds)]
    tell(f"{manifest.name}: one session with every thread takes {statistics.median(ratios):.2f} "
         f"[{min(ratios):.2f}-{max(ratios):.2f}] times as long as a caller with one thread on each core")


def decoding(volume: CtVolume, count: int) -> None:
    """Print the time to decode a compressed slice by one thread and by two."""
    stored = [np.ascontiguousarray(plane + 1024).astype(np.uint16) for plane in volume.hu[:count]]
    shape = FrameShape(*stored[0].shape, 1, 2)
    for name, (syntax, encode) in SYNTAXES.items():
        frames = [bytes(encode(plane)) for plane in stored]

        one = partial(decode_frame, transfer_syntax_uid=syntax, expected=shape)
        if not np.array_equal(one(frames[0]), stored[0]):
            raise SystemExit(f"{name} did not decode to what was encoded")
        with ThreadPoolExecutor(2) as pool:
            alone, beside = Cost.of(lambda: list(map(one, frames))), Cost.of(lambda: list(pool.map(one, frames)))  # noqa: B023
        tell(f"decode {name:<15} {1000 * alone.wall_s / count:6.2f} ms a slice, two threads "
             f"{1000 * beside.wall_s / count:6.2f}, {alone.wall_s / beside.wall_s:.2f} times as fast")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run every row and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few slices, one round: only to see that it runs")
    parser.add_argument("--models", type=Path, default=MODELS, metavar="DIR", help="the bundles")
    parser.add_argument("--bundle", action="append", metavar="NAME", help="only this one; may be repeated")
    parser.add_argument("--ct", type=Path, default=STUDIES / "ct", metavar="DIR", help="a CT series; default: the demo's")
    parser.add_argument("--slices", type=int, default=300, help="the series is stretched to so many (300)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1), help="cores to use (2)")
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "int8", "fp16"])
    asked = parser.parse_args(arguments)
    slices, rounds = (12, 1) if asked.quick else (asked.slices, asked.rounds)
    cv2.setNumThreads(asked.threads)
    catalogue = Catalogue.load(asked.models)
    engine = Engine(catalogue, "cpu", asked.threads, precision=asked.precision)
    chosen = [m for m in catalogue if not asked.bundle or m.name in asked.bundle]
    tell(f"{rounds} rounds, {asked.threads} threads; network, whole, ratio whole / network: median [least-most]")
    volume = volume_of(asked.ct, slices) if any(m.kind is Kind.CT for m in chosen) else None
    for manifest in chosen:
        digest = engine.identity(manifest.name).digest
        precision = next(v.precision for v in manifest.variants if v.sha256 == digest)
        if manifest.kind is Kind.CT and volume is not None:
            wall_s, _ = compare(ct_row(manifest, engine, volume, asked.threads), rounds)
            tell(f"  {precision}; {slices} slices: {wall_s:.2f} s (aim for 300: {AIM_S:.0f} s)")
            callers_against_threads(manifest, engine, volume, rounds)
        else:
            for large in (False, True):
                images = radiographs(large)[:1 if asked.quick else None]
                size = " x ".join(str(int(n)) for n in np.median([i.grey.shape for i in images], axis=0))
                compare(cxr_row(manifest, engine, images, f"{precision}, images of about {size}"), 4 * rounds)
    if volume is not None:
        decoding(volume, 4 if asked.quick else 24)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
