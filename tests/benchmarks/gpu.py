"""What a GPU gains, and what share of the time is the network's own: python -m tests.benchmarks.gpu [--quick]

For each bundle, the file that its manifest names for a GPU: the network alone, by batch, beside model.onnx on the CPU of
the same machine; then the whole serving of a CT, with the share of it that the network needs. Skipped, with a reason,
where ONNX Runtime has no CUDA device.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime

from service.domain.manifest import Manifest
from service.domain.study import CtVolume, Kind
from service.errors import EngineUnavailable
from service.infer.catalogue import Catalogue
from service.infer.engine import CUDA, Engine
from service.infer.golden import INPUT
from service.infer.sizes import SIZES
from service.prepare import ct
from tests.benchmarks.models import MODELS, STUDIES, Cost, ct_row, tell, volume_of


def why_not(catalogue: Catalogue) -> str:
    """Say why there is nothing to measure here; empty when a session really runs on CUDA."""
    if CUDA not in onnxruntime.get_available_providers():
        return f"this ONNX Runtime has only {', '.join(onnxruntime.get_available_providers())}"
    if not len(catalogue):
        return "no bundle"
    try:
        Engine(catalogue, "cuda").identity(next(iter(catalogue)).name)
    except EngineUnavailable as error:
        return error.detail
    return ""


def median_ms(run: Callable[[], object], rounds: int) -> float:
    """Return the median of some rounds after a first one, milliseconds."""
    run()
    return 1000 * statistics.median(Cost.of(run).wall_s for _ in range(rounds))


def network(manifest: Manifest, engines: dict[str, Engine], rounds: int) -> None:
    """Print the network alone on zeros, milliseconds an image, by device and by the sizes of batch that a GPU is given."""
    p = manifest.parameters
    rows, columns = (p["side_px"], p["side_px"]) if "side_px" in p else (p["rows_px"], p["columns_px"])
    for device, engine in engines.items():
        times = []
        for batch in SIZES[manifest.kind]:
            feed = {INPUT[manifest.task]: np.zeros((batch, 1, rows, columns), np.float32)}
            times.append(median_ms(partial(engine.run, manifest.name, feed), rounds) / batch)
        digest = engine.identity(manifest.name).digest
        precision = next(v.precision for v in manifest.variants if v.sha256 == digest)
        said = ", ".join(f"batch {batch}: {ms:.2f}" for batch, ms in zip(SIZES[manifest.kind], times, strict=True))
        tell(f"{manifest.name}, {device}, {precision}: {said} ms an image")


def whole_ct(manifest: Manifest, engine: Engine, volume: CtVolume, rounds: int) -> None:
    """Print the serving of a CT and the network's own share of it."""
    row = ct_row(manifest, engine, volume, 1)
    row.plain(), row.whole()
    plain, whole = (statistics.median(Cost.of(run).wall_s for _ in range(rounds)) for run in (row.plain, row.whole))
    prepared = Cost.of(lambda: ct.slice_tensor(volume.hu, manifest.parameters, manifest.steps)).wall_s
    tell(f"{manifest.name}: {row.count} slices in {whole:.2f} s, the network {plain:.2f} s ({100 * plain / whole:.0f} %), "
         f"preparing on one thread {prepared:.2f} s")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure every bundle; 0 also when there is no GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few slices, one round: only to see that it runs")
    parser.add_argument("--models", type=Path, default=MODELS, metavar="DIR", help="the bundles")
    parser.add_argument("--ct", type=Path, default=STUDIES / "ct", metavar="DIR", help="a CT series; default: the demo's")
    asked = parser.parse_args(arguments)
    catalogue = Catalogue.load(asked.models)
    if reason := why_not(catalogue):
        tell(f"skipped: {reason}")
        return 0
    engines = {"cuda": Engine(catalogue, "cuda"), "cpu": Engine(catalogue, "cpu", precision="fp32")}
    rounds, slices = (1, 12) if asked.quick else (20, 300)
    for manifest in catalogue:
        network(manifest, engines, rounds)
        if manifest.kind is Kind.CT:
            whole_ct(manifest, engines["cuda"], volume_of(asked.ct, slices), min(rounds, 5))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
