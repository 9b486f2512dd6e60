"""A session that fails or hangs is replaced; one on a GPU by one on the CPU; memory is bounded; GPUs are as placed."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from service.domain.manifest import InvalidManifest, Manifest, Placement, read_manifest
from service.domain.variant import Variant
from service.errors import EngineUnavailable
from service.infer.catalogue import Catalogue
from service.infer.engine import CPU, CUDA, Engine, Limits, Standing
from service.infer.guard import Guard, Hung
from service.infer.placing import gpu_for, to_drop
from service.infer.session import TENSORRT, Loaded, Place
from service.metrics import Metrics
from tests.tiny_bundles import _bundle, _outputs, brightness_cxr, threshold_ct

FEED = {"slices": np.full((1, 1, 4, 4), -850, np.float32)}


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, 0)


class Faulty:
    """A real session in which the next runs fail; gpu: it says that it runs on one; before: called before each run."""

    def __init__(self, session: Any, failures: list[Exception], gpu: bool = False,
                 before: Callable[[], object] = lambda: None) -> None:
        self._session, self._failures, self._gpu, self._before = session, failures, gpu, before

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def get_providers(self) -> list[str]:
        return [CUDA, CPU] if self._gpu else [CPU]

    def run_with_iobinding(self, binding: Any, options: Any) -> None:
        self._before()
        if self._failures:
            raise self._failures.pop()
        self._session.run_with_iobinding(binding, options)


class Maker:
    """Makes sessions, and counts them by place."""

    def __init__(self, *failures: Exception) -> None:
        self.failures, self.places = list(failures), list[Place]()
        self.before: Callable[[], object] = lambda: None

    def __call__(self, manifest: Manifest, variant: Variant, place: Place) -> Loaded:
        made = Loaded.of(manifest, variant, replace(place, gpu=None))
        self.places.append(place)
        gpu = place.gpu is not None
        return Loaded(manifest.name, variant, place, Faulty(made.session, self.failures, gpu, self.before),
                      made.need_bytes)


def counted(metrics: Metrics, cause: str) -> float:
    labels = {"bundle": "tiny-ct", "cause": cause}
    return metrics.registry.get_sample_value("firstlook_sessions_replaced_total", labels) or 0.0


def test_session_that_failed_is_replaced_and_the_job_that_is_tried_again_runs(tmp_path: Path) -> None:
    threshold_ct(tmp_path)
    metrics, make = Metrics(), Maker(RuntimeError("broken"))
    engine = Engine(Catalogue.load(tmp_path), "cpu", 1, metrics, make=make)
    with pytest.raises(EngineUnavailable, match="did not run"):
        engine.run("tiny-ct", FEED)
    assert engine.run("tiny-ct", FEED)["probabilities"][0, 1, 0, 0] == 1
    assert len(make.places) == 2 and counted(metrics, "failed") == 1


def test_wrong_tensors_are_no_reason_to_replace_a_session(tmp_path: Path) -> None:
    threshold_ct(tmp_path)
    make = Maker()
    engine = Engine(Catalogue.load(tmp_path), "cpu", 1, make=make)
    for feed in ({}, {"slices": FEED["slices"].astype(np.float64)}, {"other": FEED["slices"]}):
        with pytest.raises(EngineUnavailable):
            engine.run("tiny-ct", feed)
    engine.run("tiny-ct", FEED)
    assert len(make.places) == 1


def test_bundle_whose_session_failed_on_a_gpu_runs_on_the_cpu_at_once_and_later_on_the_gpu_again(tmp_path: Path) -> None:
    threshold_ct(tmp_path)
    metrics, make = Metrics(), Maker(RuntimeError("out of memory"))
    engine = Engine(Catalogue.load(tmp_path), "auto", 1, metrics, limits=Limits(cpu_for_s=0.3), make=make,
                    available=[CUDA, CPU])
    assert engine.run("tiny-ct", FEED)["probabilities"][0, 1, 0, 0] == 1
    assert engine.providers() == {"tiny-ct": CPU} and [p.gpu for p in make.places] == [0, None]
    told = metrics.registry.get_sample_value
    labels = {"bundle": "tiny-ct", "version": "1.0.0"}
    assert told("firstlook_engine_info", labels | {"provider": CUDA}) == 0
    assert told("firstlook_engine_info", labels | {"provider": CPU}) == 1
    deadline = threading.Event()
    for _ in range(200):
        engine.run("tiny-ct", FEED)
        if engine.providers() == {"tiny-ct": CUDA}:
            break
        deadline.wait(0.05)
    assert [p.gpu for p in make.places] == [0, None, 0]


def test_callers_of_spread_share_the_batches_of_a_gpu(tmp_path: Path) -> None:
    threshold_ct(tmp_path)
    metrics = Metrics()
    engine = Engine(Catalogue.load(tmp_path), "auto", 2, metrics, limits=Limits(batch_wait_s=5.0),
                    standing=lambda: Standing(2, 60.0), make=Maker(), available=[CUDA, CPU])
    assert engine.batch("tiny-ct") == 32
    half = {"slices": np.repeat(FEED["slices"], 16, axis=0)}
    found = engine.spread("tiny-ct", lambda run, item: run(half)["probabilities"], [1, 2])
    assert [f.shape[0] for f in found] == [16, 16]
    assert metrics.registry.get_sample_value("firstlook_inference_batch_images_sum", {"bundle": "tiny-ct"}) == 32
    assert metrics.registry.get_sample_value("firstlook_inference_batch_images_count", {"bundle": "tiny-ct"}) == 1


def endless(folder: Path) -> Manifest:
    """Make a bundle whose network counts to 2**60 where a pixel is over 0, and is through at once where none is."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Add", ["was", "small"], ["now"])], "body",
        [helper.make_tensor_value_info("step", TensorProto.INT64, []),
         helper.make_tensor_value_info("go", TensorProto.BOOL, []),
         helper.make_tensor_value_info("was", TensorProto.FLOAT, ["n", 1, "h", "w"])],
        [helper.make_tensor_value_info("on", TensorProto.BOOL, []),
         helper.make_tensor_value_info("now", TensorProto.FLOAT, ["n", 1, "h", "w"])],
        [helper.make_tensor("small", TensorProto.FLOAT, [], [1e-9])])
    graph = helper.make_graph(
        [helper.make_node("ReduceMax", ["image"], ["top"], keepdims=0), helper.make_node("Greater", ["top", "zero"], ["go"]),
         helper.make_node("Loop", ["many", "go", "image"], ["probabilities"], body=body)],
        "endless", [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, "h", "w"])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 1, "h", "w"])],
        [helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0]),
         helper.make_tensor("many", TensorProto.INT64, [], [2**60])])
    assert isinstance(graph, onnx.GraphProto)
    return _bundle(folder / "tiny-ct", graph, "cxr-classification", _outputs(("pneumonia", "PNEUMONIA", 0.5, None)))


def test_run_that_hangs_is_stopped_its_session_replaced_and_the_next_one_runs(tmp_path: Path) -> None:
    endless(tmp_path)
    metrics, make = Metrics(), Maker()
    engine = Engine(Catalogue.load(tmp_path), "cpu", 1, metrics, limits=Limits(run_s=1.0), make=make)
    image = np.zeros((1, 1, 2, 2), np.float32)
    assert engine.run("tiny-ct", {"image": image})["probabilities"].shape == image.shape
    with pytest.raises(EngineUnavailable, match="no answer within 1 s"):
        engine.run("tiny-ct", {"image": image + 1})
    assert engine.run("tiny-ct", {"image": image})["probabilities"].shape == image.shape
    assert len(make.places) == 2 and counted(metrics, "hung") == 1


def test_work_that_does_not_stop_when_told_is_left_behind_and_others_go_on() -> None:
    guard, never, told = Guard(0.1, grace_s=0.1), threading.Event(), threading.Event()
    with pytest.raises(Hung):
        guard.run(lambda: never.wait(60), told.set)
    assert told.is_set() and guard.run(lambda: 7, told.clear) == 7
    with pytest.raises(KeyError):
        guard.run(lambda: {}["a"], told.clear)
    never.set()


@pytest.mark.skipif(sys.platform != "linux", reason="only there a thread has a priority of its own")
def test_runs_of_a_nice_guard_step_back_and_neither_the_caller_nor_other_guards_do() -> None:
    nice, plain, before = Guard(30.0, niceness=10), Guard(30.0), niceness()
    for _ in range(2):
        assert nice.run(niceness, lambda: None) == max(before, 10)
        assert plain.run(niceness, lambda: None) == niceness() == before


@pytest.mark.skipif(sys.platform != "linux", reason="only there a thread has a priority of its own")
@pytest.mark.parametrize(("rank", "steps_back"), [(0, False), (1, True)])
def test_the_network_of_a_ct_steps_back_for_all_others_unless_it_is_the_most_urgent(
        tmp_path: Path, rank: int, steps_back: bool) -> None:
    threshold_ct(tmp_path)
    make, seen = Maker(), list[int]()
    make.before = lambda: seen.append(niceness())
    engine = Engine(Catalogue.load(tmp_path), "cpu", 1, limits=Limits(run_s=30.0), make=make,
                    standing=lambda: Standing(rank))
    engine.spread("tiny-ct", lambda run, k: run(FEED), range(2))
    engine.run("tiny-ct", FEED)
    before = niceness()
    assert seen == [max(before, 10) if steps_back else before] * 2 + [before]


def test_what_was_not_used_for_longest_makes_room_and_what_does_not_fit_is_said(tmp_path: Path) -> None:
    threshold_ct(tmp_path)
    brightness_cxr(tmp_path)
    threshold_ct(tmp_path, "tiny-third")
    catalogue = Catalogue.load(tmp_path)
    need = {m.name: 4 * m.model_path.stat().st_size for m in catalogue}
    most = need["tiny-ct"] + max(need["tiny-third"], need["tiny-cxr"])
    engine = Engine(catalogue, "cpu", 1, limits=Limits(memory_bytes=most))
    for name in ("tiny-ct", "tiny-cxr"):
        engine.warm(name)
    engine.run("tiny-ct", FEED)
    engine.warm("tiny-third")
    assert sorted(engine.providers()) == ["tiny-ct", "tiny-third"]
    with pytest.raises(EngineUnavailable, match=r"takes \d+ bytes, and 100 are all"):
        Engine(catalogue, "cpu", 1, limits=Limits(memory_bytes=100)).warm("tiny-ct")


def test_session_in_use_is_never_dropped(tmp_path: Path) -> None:
    manifest = threshold_ct(tmp_path)
    variant = manifest.variants[0]
    there = {("a", 1): Loaded("a", variant, Place(None, 1), None, 100, in_use=1), ("b", 1): Loaded(
        "b", variant, Place(None, 1), None, 100), ("c", 1): Loaded("c", variant, Place(1, 1), None, 10**9)}
    large = replace(manifest, placement=Placement(memory_bytes=100))
    assert to_drop(large, variant, None, there, 250) == [("b", 1)]
    with pytest.raises(EngineUnavailable):
        to_drop(large, variant, None, there, 150)


def test_bundle_goes_to_a_gpu_that_its_manifest_names_else_to_the_least_taken(tmp_path: Path) -> None:
    manifest = threshold_ct(tmp_path)
    taken = [Loaded("a", manifest.variants[0], Place(0, 1), None, 100)]
    assert gpu_for(manifest, (0, 1), taken) == 1 and gpu_for(manifest, (0, 1), []) == 0
    assert gpu_for(replace(manifest, placement=Placement(devices=(0,))), (0, 1), taken) == 0
    with pytest.raises(EngineUnavailable, match=r"is to run on GPU 2; those in use are 0, 1"):
        gpu_for(replace(manifest, placement=Placement(devices=(2,))), (0, 1), [])


def test_options_of_a_gpu_bound_its_arena_and_half_precision_is_as_the_file_is() -> None:
    assert Place(None, 2).providers() == [(CPU, {})]
    (cuda, options), (last, _) = Place(1, 1, memory_bytes=5000).providers()
    assert (cuda, last, options["device_id"], options["gpu_mem_limit"]) == (CUDA, CPU, 1, 5000)
    assert options["arena_extend_strategy"] == "kSameAsRequested" and "gpu_mem_limit" not in Place(0, 1).providers()[0][1]
    first, built = Place(0, 1, tensorrt=True, cache="/x").providers(half=True)[0]
    assert (first, built["trt_fp16_enable"], built["trt_engine_cache_path"]) == (TENSORRT, True, "/x")


@pytest.mark.parametrize("table", ["devices = [-1]", 'devices = "0"', "memory_bytes = -1", "memory_bytes = 0.5"])
def test_placement_that_cannot_be_is_refused(table: str, tmp_path: Path) -> None:
    folder = threshold_ct(tmp_path).folder
    file = folder / "manifest.toml"
    file.write_text(f"{file.read_text()}\n[placement]\n{table}\n")
    with pytest.raises(InvalidManifest, match=r"placement\.(devices|memory_bytes) is .*accepted"):
        read_manifest(folder)
