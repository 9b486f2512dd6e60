"""The networks on a real Ray cluster of two nodes: the same answers as here, and none lost with a node."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.errors import EngineUnavailable
from service.infer.catalogue import Catalogue
from service.infer.engine import Engine
from service.infer.ray_engine import Cluster, RayEngine
from service.metrics import Metrics
from tests.cluster import TwoNodes
from tests.cluster import ray_nodes as ray_nodes
from tests.hospital import tiny_models
from tests.peers import wait_until

pytestmark = pytest.mark.alone
SLICES = [np.random.default_rng(n).uniform(-1000, 200, (4, 1, 32, 32)).astype(np.float32) for n in range(24)]


def place(models: Path, bundle: str, **placement: float) -> None:
    """Write what a session of a bundle takes into its manifest."""
    file = models / bundle / "manifest.toml"
    file.write_text(file.read_text() + "\n[placement]\n" + "\n".join(f"{k} = {v}" for k, v in placement.items()))


def both_are_free(engine: RayEngine) -> None:
    """Wait until two sessions have nothing to do."""
    slots = engine._bundles["tiny-ct"].slots
    wait_until(lambda: len(slots._free) == 2, 60)


def masks(run: Any, slices: np.ndarray) -> np.ndarray:
    """Return what the network makes of a few slices."""
    return np.asarray(run({"slices": slices})["probabilities"])


def test_a_cluster_answers_as_this_machine_and_survives_the_loss_of_a_node(tmp_path: Path, ray_nodes: TwoNodes) -> None:
    place(models := tiny_models(tmp_path / "models"), "tiny-ct", cpus=2)  # one session fills a node
    catalogue, metrics = Catalogue.load(models), Metrics()
    here = Engine(catalogue, "cpu", 1)
    there = RayEngine(catalogue, Cluster(ray_nodes.address, sessions=2, timeout_s=60), metrics=metrics)
    there.warm("tiny-ct")
    assert there.identity("tiny-ct") == here.identity("tiny-ct")
    assert there.providers() == {"tiny-ct": "CPUExecutionProvider"} and there.batch("tiny-ct") == 4
    wanted = here.spread("tiny-ct", masks, SLICES)
    one = there.run("tiny-ct", {"slices": SLICES[0]})["probabilities"]
    assert np.array_equal(one, wanted[0]) and one.flags.writeable
    for got, want in zip(there.spread("tiny-ct", masks, SLICES), wanted, strict=True):
        assert np.array_equal(got, want)

    both_are_free(there)
    begun, lost = threading.Event(), threading.Event()

    def slowly(run: Any, slices: np.ndarray) -> np.ndarray:
        begun.set()
        assert lost.wait(60)
        return masks(run, slices)

    def lose() -> None:
        assert begun.wait(60)
        ray_nodes.lose_second()
        lost.set()

    (loser := threading.Thread(target=lose)).start()
    for got, want in zip(there.spread("tiny-ct", slowly, SLICES), wanted, strict=True):
        assert np.array_equal(got, want)
    loser.join(60)
    counted = metrics.registry.get_sample_value
    assert counted("firstlook_engine_sessions_lost_total", {"bundle": "tiny-ct"}) == 1
    ray_nodes.add_another()  # the session that was lost comes back there
    both_are_free(there)
    there.close()


def test_what_has_no_room_or_fails_says_so(tmp_path: Path, ray_nodes: TwoNodes) -> None:
    place(models := tiny_models(tmp_path / "models"), "tiny-ct", cpus=64)
    with pytest.raises(EngineUnavailable, match="has no GPU"):
        RayEngine(Catalogue.load(models), Cluster(ray_nodes.address), "cuda")
    engine = RayEngine(Catalogue.load(models), Cluster(ray_nodes.address, sessions=1, timeout_s=3))
    with pytest.raises(EngineUnavailable, match=r"no session of tiny-ct .* room for 64 CPU"):
        engine.warm("tiny-ct")
    for _ in range(20):  # a node may need longer than those three seconds to begin a process
        with suppress(EngineUnavailable):
            engine.warm("tiny-cxr")
            break
    with pytest.raises(EngineUnavailable, match=r"tiny-cxr did not run \(ValueError\)"):
        engine.run("tiny-cxr", {"picture": SLICES[0]})
    assert engine.run("tiny-cxr", {"image": SLICES[0]})["probabilities"].shape == (4, 3)  # the session lives on
    engine.close()


def test_no_cluster_is_said_at_once(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray (the extra ray) is not installed")
    with pytest.raises(EngineUnavailable, match=r"the Ray cluster at 127\.0\.0\.1:1 does not answer"):
        RayEngine(Catalogue.load(tiny_models(tmp_path / "models")), Cluster("127.0.0.1:1"))
