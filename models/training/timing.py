"""How long each ONNX file of a bundle takes for one input on two threads of a CPU, in turns; the card tells it.

`python -m models.training.timing models/NAME ...` writes `milliseconds` of model.onnx, and `milliseconds_by_file`, into
figures.json, and the first into the manifest.
"""

from __future__ import annotations

import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import onnxruntime

from models.training import toml_text
from models.training.figures_file import add_figures
from service.domain.manifest import Manifest, read_manifest
from service.infer.golden import INPUT, golden_cases

ROUNDS, THREADS = 20, 2


def milliseconds(manifest: Manifest) -> dict[str, float]:
    """Return the shortest time of each file over the rounds, by precision, ms; the input: of the first golden case."""
    name = INPUT[manifest.task]
    with np.load(golden_cases(manifest)[0]) as case:
        feed = {name: case[name][:1]}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = THREADS, 1, 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # else they wait at each other's expense
    sessions = {v.precision.value: onnxruntime.InferenceSession(
        str(manifest.path_of(v)), options, providers=["CPUExecutionProvider"]) for v in manifest.variants}
    best = dict.fromkeys(sessions, float("inf"))
    for _ in range(ROUNDS):
        for precision, session in sessions.items():
            started = time.perf_counter()
            session.run(None, feed)
            best[precision] = min(best[precision], 1000.0 * (time.perf_counter() - started))
    return best


def write(folder: Path) -> dict[str, float]:
    """Measure a bundle and write the times into it."""
    found = milliseconds(read_manifest(folder))
    add_figures(folder, {"milliseconds": found["fp32"], "milliseconds_by_file": found})
    path = folder / "manifest.toml"
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    table.setdefault("figures", {})["milliseconds"] = found["fp32"]
    path.write_text(toml_text.dumps(table), encoding="utf-8")
    return found


if __name__ == "__main__":
    for given in sys.argv[1:]:
        told = ", ".join(f"{name} {ms:.1f} ms" for name, ms in write(Path(given).resolve()).items())
        print(f"{given}: {told}")
