"""Batches on a GPU always have one of a few sizes: what is missing is filled up, and cut off from what is answered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from service.domain.manifest import Manifest
from service.domain.study import Kind
from service.domain.variant import Variant
from service.errors import EngineUnavailable
from service.infer.catalogue import Catalogue
from service.infer.engine import CPU, CUDA, Engine
from service.infer.guard import Guard
from service.infer.ray_session import RaySession
from service.infer.session import Loaded, Place
from service.infer.sizes import SIZES, in_batches, size_for
from tests.tiny_bundles import brightness_cxr, threshold_ct
from tests.unit.test_infer_faults import Maker


class Noting(Maker):
    """Makes sessions that say they run on a GPU, and notes with which shapes each is run."""

    def __init__(self, *failures: Exception) -> None:
        super().__init__(*failures)
        self.shapes: dict[int, list[tuple[int, ...]]] = {}

    def __call__(self, manifest: Manifest, variant: Variant, place: Place) -> Loaded:
        made = super().__call__(manifest, variant, place)
        bound, shapes = made._bound, self.shapes.setdefault(len(self.places) - 1, [])

        def noted(feed: Any, options: Any) -> Any:
            shapes.append(next(iter(feed.values())).shape)
            return bound(feed, options)

        made._bound = noted  # type: ignore[method-assign]
        return made


def slices(count: int) -> dict[str, np.ndarray]:
    return {"slices": np.random.default_rng(count).uniform(-1000, 100, (count, 1, 4, 4)).astype(np.float32)}


@pytest.mark.parametrize("count", [1, 12, 32, 40])
def test_slices_are_run_by_32_on_a_gpu_and_answered_as_on_the_cpu(count: int, tmp_path: Path) -> None:
    threshold_ct(tmp_path)
    make, catalogue = Noting(), Catalogue.load(tmp_path)
    gpu, cpu = Engine(catalogue, "auto", 2, make=make, available=[CUDA, CPU]), Engine(catalogue, "cpu", 2)
    feed = slices(count)
    found, wanted = gpu.run("tiny-ct", feed), cpu.run("tiny-ct", feed)
    assert make.shapes == {0: [(32, 1, 4, 4)] * (1 if count <= 32 else 2)}
    assert found.keys() == wanted.keys() and len(found["probabilities"]) == count
    for name, values in wanted.items():
        np.testing.assert_array_equal(found[name], values)


def test_run_and_spread_share_the_session_of_a_size(tmp_path: Path) -> None:
    threshold_ct(tmp_path)
    make = Noting()
    engine = Engine(Catalogue.load(tmp_path), "auto", 2, make=make, available=[CUDA, CPU])
    engine.spread("tiny-ct", lambda run, item: run(slices(item)), [32, 7])
    engine.run("tiny-ct", slices(3))
    assert make.shapes == {0: [(32, 1, 4, 4)] * 3}


def test_radiographs_have_a_session_for_one_and_one_for_several_and_both_are_warm(tmp_path: Path) -> None:
    brightness_cxr(tmp_path)
    make = Noting()
    engine = Engine(Catalogue.load(tmp_path), "auto", 2, make=make, available=[CUDA, CPU])
    engine.warm("tiny-cxr")
    assert len(make.places) == len(SIZES[Kind.CXR]) == 2
    side = engine._loaded["tiny-cxr", 0, 1].session.get_inputs()[0].shape[2:]
    for count in (1, 3, 1, 8):
        engine.run("tiny-cxr", {"image": np.zeros((count, 1, *(s if isinstance(s, int) else 6 for s in side)), np.float32)})
    run = {number: [shape[0] for shape in shapes] for number, shapes in make.shapes.items()}
    assert sorted({*sizes} for sizes in run.values()) == [{1}, {8}] and len(make.places) == 2


def test_bundle_that_failed_on_a_gpu_leaves_it_with_every_session(tmp_path: Path) -> None:
    brightness_cxr(tmp_path)
    make = Noting()
    engine = Engine(Catalogue.load(tmp_path), "auto", 2, make=make, available=[CUDA, CPU])
    image = np.zeros((1, 1, 6, 6), np.float32)
    for count in (1, 2):
        engine.run("tiny-cxr", {"image": np.repeat(image, count, axis=0)})
    make.failures.append(RuntimeError("out of memory"))
    for count in (2, 1):
        assert len(engine.run("tiny-cxr", {"image": np.repeat(image, count, axis=0)})["probabilities"]) == count
    assert engine.providers() == {"tiny-cxr": CPU} and [p.gpu for p in make.places] == [0, 0, None]
    assert list(engine._loaded) == [("tiny-cxr", 2, 0)]


def test_network_that_takes_one_image_only_is_not_filled_up(tmp_path: Path) -> None:
    manifest = threshold_ct(tmp_path)
    model = onnx.load(str(manifest.model_path))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, str(manifest.model_path))
    one = Loaded.of(manifest, manifest.variants[0], Place(None, 1))
    one.images = 32
    assert len(one.run(slices(1), Guard(0.0))["probabilities"]) == 1
    with pytest.raises(EngineUnavailable):
        one.run(slices(2), Guard(0.0))


def test_session_of_a_cluster_fills_up_as_well(tmp_path: Path) -> None:
    model = threshold_ct(tmp_path).model_path.read_bytes()
    feed = slices(5)
    for name, values in RaySession(model, False, 1).run(feed).items():
        np.testing.assert_array_equal(RaySession(model, False, 1, images=32).run(feed)[name], values)


def test_what_has_no_row_for_each_image_is_left_as_it_is_or_refused() -> None:
    def run(feed: Any) -> dict[str, np.ndarray]:
        return {"rows": feed["x"] * 2, "whole": np.zeros((3, 3))}

    found = in_batches(run, {"x": np.arange(2.0)}, 4)
    assert found["rows"].tolist() == [0, 2] and found["whole"].shape == (3, 3)
    with pytest.raises(ValueError, match="the output whole has no row for each image"):
        in_batches(run, {"x": np.arange(5.0)}, 4)


def test_size_is_the_smallest_that_holds_all() -> None:
    assert [size_for((1, 8), n) for n in (0, 1, 2, 8, 9)] == [1, 1, 8, 8, 8]
