"""A Ray cluster of two nodes on this machine, where Ray is installed."""

from __future__ import annotations

import contextlib
import os
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.peers import missing

_ROOM = {"num_cpus": 2, "object_store_memory": 100_000_000, "include_dashboard": False}


@dataclass
class TwoNodes:
    """A cluster whose second node can be lost. address: HOST:PORT; nothing but the first node is at the address."""

    cluster: Any
    second: Any
    address: str

    def lose_second(self) -> None:
        """Kill the processes of the second node, as a power cut would."""
        raylet = self.second.all_processes["raylet"][0].process.pid
        workers = _children(raylet)
        self.cluster.remove_node(self.second, allow_graceful=False)
        for process in workers:  # else they answer for some seconds more
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def add_another(self) -> None:
        """Bring up one more node."""
        self.cluster.add_node(**_ROOM)


def _children(parent: int) -> list[int]:
    """Return the processes that a process has started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if stat.read_text().rpartition(")")[2].split()[1] == str(parent):
                found.append(int(stat.parent.name))
    return found


@contextmanager
def two_nodes() -> Iterator[TwoNodes]:
    """Run a cluster of two nodes with two cores each; skip the test where Ray is not installed."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_DISABLE_MEMORY_MONITOR"] = "1"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import ray
            from ray.cluster_utils import Cluster
        except ImportError:
            missing("Ray (the extra ray)")
        cluster = Cluster(initialize_head=True, head_node_args=_ROOM)
        try:
            second = cluster.add_node(**_ROOM)
            yield TwoNodes(cluster, second, cluster.address)
        finally:
            ray.shutdown()
            cluster.shutdown()


@pytest.fixture
def ray_nodes() -> Iterator[TwoNodes]:
    """A cluster of two nodes."""
    with two_nodes() as nodes:
        yield nodes
