"""The networks on a Ray cluster: actors on its nodes hold the sessions, and work is handed to one as it becomes free.

So nothing is queued before a session: what is most urgent when one becomes free goes next, and the order of the queue is
kept. What a session takes of a node is in the manifest (`Placement`). The ONNX file travels to the node; nodes need this
package and ONNX Runtime, and no models folder.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service import logs
from service.domain.finding import BundleIdentity
from service.domain.manifest import Manifest
from service.domain.variant import Precision, Use, Variant
from service.errors import EngineUnavailable, Reason
from service.infer.catalogue import Catalogue, identity
from service.infer.networks import Feed, Item, Result, Run, side_by_side
from service.infer.processor import multiplies_bytes
from service.infer.ray_session import RaySession
from service.infer.session import CUDA
from service.infer.sizes import SIZES
from service.infer.slots import Slots
from service.metrics import Metrics

_log = logs.get("engine.ray")
_CPU_BATCH = 4
_LAST = 1000  # behind the looks
_REACHED_S = 5.0
_AGAIN_S, _LONGEST_AGAIN_S = 1.0, 30.0
_TRIES = 3  # of one chunk, each on another session


@dataclass(frozen=True)
class Cluster:
    """Which cluster, and how it is used.

    address: as Ray takes it, "HOST:PORT" on a node of the cluster, "ray://HOST:PORT" from outside; sessions: of each
    bundle, as far as the nodes have room; timeout_s: longest time that one chunk may take, and that a first session may.
    """

    address: str
    sessions: int = 2
    timeout_s: float = 60.0


@dataclass
class _Bundle:
    """The sessions of one bundle. live: those that were asked for and did not fail."""

    manifest: Manifest
    variant: Variant
    gpus: float
    model: Any
    slots: Slots[Any] = field(default_factory=Slots)
    live: set[Any] = field(default_factory=set)
    provider: str = ""
    has_worked: bool = False


class RayEngine:
    """Runs bundles on the sessions of a cluster; see `networks.Networks`.

    device: "auto" (GPUs where the cluster has any), "cpu" or "cuda"; precision, give_way: as of `engine.Engine`; rank: of
    the caller's look, 0 the most urgent. A session that is lost with its node, or hangs, is replaced, and its chunk is
    given to another.  Raises: EngineUnavailable when Ray is not installed, the cluster does not answer, or device is
    "cuda" and it has no GPU.
    """

    def __init__(self, catalogue: Catalogue, cluster: Cluster, device: str = "auto", metrics: Metrics | None = None,
                 precision: str = "auto", give_way: Callable[[], None] = lambda: None,
                 rank: Callable[[], int] = lambda: 0) -> None:
        self._catalogue, self._cluster, self._metrics = catalogue, cluster, metrics
        self._precision = None if precision == "auto" else Precision(precision)
        self._give_way, self._rank = give_way, rank
        self._ray, self._errors = _connected(cluster.address)
        has_gpus = self._ray.cluster_resources().get("GPU", 0) > 0
        if device == "cuda" and not has_gpus:
            raise _failed(f"device is cuda, but the cluster at {cluster.address} has no GPU")
        self._on_gpus = has_gpus and device != "cpu"
        self._bundles: dict[str, _Bundle] = {}
        self._lock, self._closed = threading.Lock(), threading.Event()

    def warm(self, bundle_name: str) -> None:
        """Wait until a bundle has a session that has run once."""
        bundle = self._of(bundle_name)
        slot = bundle.slots.take(_LAST, self._cluster.timeout_s)
        if slot is None:
            raise self._no_session(bundle)
        bundle.slots.give(slot)

    def run(self, bundle_name: str, feed: Feed) -> dict[str, NDArray[Any]]:
        """Run a bundle's network on the next free session."""
        self._give_way()
        return self._run(self._used(bundle_name), feed)

    def spread(self, bundle_name: str, work: Callable[[Run, Item], Result], items: Iterable[Item]) -> list[Result]:
        """Do some work for each item; as many at once as there are sessions, and one more that is being prepared."""
        bundle = self._used(bundle_name)

        def chunk(item: Item) -> Result:
            self._give_way()
            return work(partial(self._run, bundle), item)

        return side_by_side(self._cluster.sessions + 1, chunk, items)

    def batch(self, bundle_name: str) -> int:
        """Return how many images at once pay in `spread`."""
        bundle = self._of(bundle_name)
        return max(SIZES[bundle.manifest.kind]) if bundle.gpus else _CPU_BATCH

    def identity(self, bundle_name: str) -> BundleIdentity:
        """Return who speaks when this bundle speaks here."""
        bundle = self._of(bundle_name)
        return identity(bundle.manifest, bundle.variant)

    def providers(self) -> dict[str, str]:
        """Return the execution provider in use by each bundle that has run."""
        with self._lock:
            return {name: b.provider for name, b in sorted(self._bundles.items()) if b.provider}

    def close(self) -> None:
        """Give the sessions back to the cluster."""
        self._closed.set()
        with self._lock:
            for bundle in self._bundles.values():
                for actor in tuple(bundle.live):
                    self._ray.kill(actor)
            self._bundles.clear()
        self._ray.shutdown()

    def _of(self, bundle_name: str) -> _Bundle:
        manifest = self._catalogue.get(bundle_name)
        with self._lock:
            if bundle_name not in self._bundles:
                gpus = manifest.placement.gpus if self._on_gpus else 0.0
                variant = manifest.variant_of(self._precision) if self._precision else manifest.variant_for(
                    Use.GPU if gpus else Use.CPU, multiplies_bytes())
                model = self._ray.put(manifest.path_of(variant).read_bytes())
                self._bundles[bundle_name] = made = _Bundle(manifest, variant, gpus, model)
                self._add_session(made)
            return self._bundles[bundle_name]

    def _used(self, bundle_name: str) -> _Bundle:
        """Return a bundle that has work; it is given its further sessions, now that each that is warm has a first one."""
        bundle = self._of(bundle_name)
        with self._lock:
            grows, bundle.has_worked = not bundle.has_worked, True
        for _ in range(self._cluster.sessions - 1 if grows else 0):
            self._add_session(bundle)
        return bundle

    def _add_session(self, bundle: _Bundle) -> None:
        """Ask for one more session; it gets work once it has run."""
        threading.Thread(target=self._bring_up, args=(bundle,), name="session", daemon=True).start()

    def _bring_up(self, bundle: _Bundle) -> None:
        """Wait for a place on the cluster; what fails on the way, as with a node that is just lost, is tried again."""
        wait_s = _AGAIN_S
        while not self._closed.is_set():
            actor = self._asked(bundle)
            try:
                provider = str(self._ray.get(actor.warm.remote()))
            except self._errors as error:
                if self._closed.is_set():
                    return  # whatever is asked of Ray once it is shut down connects it again
                trouble = type(error).__name__
            else:
                if not bundle.gpus or provider == CUDA:
                    self._take_in(bundle, actor, provider)
                    return
                trouble = f"has a GPU and runs on {provider}"
            self._drop(bundle, actor)
            _log.warning("no session yet", extra={"bundle": bundle.manifest.name, "error": trouble})
            self._closed.wait(wait_s)
            wait_s = min(2 * wait_s, _LONGEST_AGAIN_S)

    def _asked(self, bundle: _Bundle) -> Any:
        """Ask the cluster for a session and return it; it may wait for room."""
        cpus = bundle.manifest.placement.cpus
        options = self._ray.remote(RaySession).options(num_cpus=cpus, num_gpus=bundle.gpus, scheduling_strategy="SPREAD")
        images = min(SIZES[bundle.manifest.kind]) if bundle.gpus else 0
        actor = options.remote(bundle.model, bool(bundle.gpus), cpus, images)
        bundle.live.add(actor)
        return actor

    def _take_in(self, bundle: _Bundle, actor: Any, provider: str) -> None:
        bundle.provider = provider
        if self._metrics is not None:
            self._metrics.engine_info.labels(bundle.manifest.name, bundle.manifest.version, provider).set(1)
        _log.info("session", extra={"bundle": bundle.manifest.name, "provider": provider,
                                    "precision": bundle.variant.precision.value})
        bundle.slots.give(actor)

    def _run(self, bundle: _Bundle, feed: Feed) -> dict[str, NDArray[Any]]:
        detail = ""
        for _ in range(_TRIES):
            actor = bundle.slots.take(self._rank(), self._cluster.timeout_s)
            if actor is None:
                raise self._no_session(bundle)
            began = time.perf_counter()
            try:
                out = self._ray.get(actor.run.remote(dict(feed)), timeout=self._cluster.timeout_s)
            except self._ray.exceptions.RayTaskError as error:  # the session lives, and says that the network failed
                bundle.slots.give(actor)
                raise _failed(f"bundle {bundle.manifest.name} did not run ({_cause(error)})") from error
            except self._errors as error:
                detail = type(error).__name__
                self._replace(bundle, actor, detail)
                continue
            bundle.slots.give(actor)
            self._tell(bundle, feed, time.perf_counter() - began)
            return {name: np.array(value) for name, value in out.items()}  # what Ray hands out cannot be written to
        raise _failed(f"bundle {bundle.manifest.name}: {_TRIES} sessions in turn were lost ({detail})")

    def _replace(self, bundle: _Bundle, actor: Any, why: str) -> None:
        _log.warning("a session is lost and replaced", extra={"bundle": bundle.manifest.name, "error": why})
        if self._metrics is not None:
            self._metrics.sessions_lost.labels(bundle.manifest.name).inc()
        self._drop(bundle, actor)
        self._add_session(bundle)

    def _drop(self, bundle: _Bundle, actor: Any) -> None:
        bundle.live.discard(actor)
        self._ray.kill(actor)

    def _no_session(self, bundle: _Bundle) -> EngineUnavailable:
        return _failed(f"no session of {bundle.manifest.name} on the cluster at {self._cluster.address} became free within "
                       f"{self._cluster.timeout_s:g} s; does it have room for {bundle.manifest.placement.cpus:g} CPU"
                       + (f" and {bundle.gpus:g} GPU?" if bundle.gpus else "?"))

    def _tell(self, bundle: _Bundle, feed: Feed, seconds: float) -> None:
        if self._metrics is not None:
            self._metrics.inference_seconds.labels(bundle.manifest.name).observe(seconds)
            self._metrics.batch_images.labels(bundle.manifest.name).observe(max((len(t) for t in feed.values()), default=0))


def _connected(address: str) -> tuple[Any, tuple[type[Exception], ...]]:
    """Return Ray, connected, and what it raises. Raises: EngineUnavailable."""
    try:
        ray: Any = import_module("ray")
    except ImportError as error:
        raise _failed("infer.engine is ray, but Ray is not installed; install the ray extra") from error
    try:
        _require_reachable(address)
        if not ray.is_initialized():
            ray.init(address=address, namespace="firstlook", log_to_driver=False, logging_level="ERROR",
                     configure_logging=False)
    except (ConnectionError, RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
        raise _failed(f"the Ray cluster at {address} does not answer ({type(error).__name__})") from error
    return ray, (ray.exceptions.RayError, ray.exceptions.RaySystemError)


def _require_reachable(address: str) -> None:
    """Connect once, for Ray tries for minutes. Raises: OSError, ValueError."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon:
        socket.create_connection((host, int(port)), _REACHED_S).close()


def _cause(error: Exception) -> str:
    return type(getattr(error, "cause", None) or error).__name__


def _failed(detail: str) -> EngineUnavailable:
    return EngineUnavailable(Reason.ENGINE_FAILED, detail)
