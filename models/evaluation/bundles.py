"""Finding a bundle and running its network."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from service.domain.manifest import InvalidManifest, Manifest, read_manifest
from service.domain.variant import Precision, Use, Variant
from service.infer.catalogue import Catalogue
from service.infer.engine import Engine
from service.infer.golden import INPUT

BATCH = 8
Item = TypeVar("Item")
Plane = NDArray[np.float32]


def find_bundle(name: str, models: Path) -> Manifest:
    """Read the manifest of a bundle by its name in `models`, or by the path of its folder.

    NAME:int8, NAME:fp16 and NAME:fp32 ask for one of its ONNX files; else it is the one named for a CPU.
    Raises: InvalidManifest.
    """
    name, _, precision = name.rpartition(":") if name.rpartition(":")[2] in set(Precision) else (name, "", "")
    here = Path(name)
    if (here / "manifest.toml").is_file():
        manifest = read_manifest(here.resolve())
    elif (models / name / "manifest.toml").is_file():
        manifest = read_manifest((models / name).resolve())
    else:
        known = ", ".join(sorted(p.parent.name for p in models.glob("*/manifest.toml"))) or "none"
        raise InvalidManifest(f"{name}: no such bundle; in {models}: {known}; a path to a bundle's folder will do as well")
    if not precision:
        return manifest
    variant = manifest.variant_of(Precision(precision))
    if variant.precision != precision:
        raise InvalidManifest(f"{name} has no {precision} file; it has {', '.join(v.precision for v in manifest.variants)}")
    return with_file(manifest, variant)


def with_file(manifest: Manifest, variant: Variant) -> Manifest:
    """Return the bundle as if it had only this ONNX file for a CPU."""
    return replace(manifest, others=() if variant.precision is Precision.FP32 else (replace(variant, use=Use.CPU),))


class Network:
    """One bundle's network on the CPU, by the ONNX file that its manifest names for a CPU; times in seconds."""

    def __init__(self, manifest: Manifest, threads: int = 0) -> None:
        self.manifest = manifest
        self.variant = manifest.variant_for(Use.CPU)
        self._engine = Engine(Catalogue({manifest.name: manifest}), "cpu", threads, eight_bits=lambda: True)
        self._input = INPUT[manifest.task]

    def run(self, tensor: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Run (n, 1, h, w) and return the outputs by name. Raises: EngineUnavailable."""
        return self._engine.run(self.manifest.name, {self._input: tensor})

    def over(self, items: Iterable[tuple[Item, Plane]]) -> Iterator[tuple[Item, dict[str, NDArray[Any]]]]:
        """Yield (item, outputs of its plane, without the first axis), run in batches of planes of one size."""
        for _, same in groupby(items, key=lambda pair: pair[1].shape):
            waiting: list[tuple[Item, Plane]] = []
            for pair in same:
                waiting.append(pair)
                if len(waiting) == BATCH:
                    yield from self._batch(waiting)
                    waiting = []
            if waiting:
                yield from self._batch(waiting)

    def _batch(self, waiting: list[tuple[Item, Plane]]) -> Iterator[tuple[Item, dict[str, NDArray[Any]]]]:
        outputs = self.run(np.stack([plane for _, plane in waiting])[:, np.newaxis])
        for place, (item, _) in enumerate(waiting):
            yield item, {name: value[place] for name, value in outputs.items()}

    def seconds(self, tensor: NDArray[np.float32]) -> float:
        """Return how long one run takes, in seconds."""
        started = time.perf_counter()
        self.run(tensor)
        return time.perf_counter() - started
