"""ONNX Runtime sessions of the bundles, kept warm, shared by every thread, and replaced where they fail."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import onnxruntime
from numpy.typing import NDArray

from service import logs
from service.domain.finding import BundleIdentity
from service.domain.manifest import Manifest
from service.domain.study import Kind
from service.domain.variant import Precision, Use, Variant
from service.infer.batching import Batcher
from service.infer.catalogue import Catalogue, identity
from service.infer.guard import Guard
from service.infer.networks import Feed, Item, Result, Run, side_by_side
from service.infer.placing import gpu_for, to_drop
from service.infer.processor import multiplies_bytes
from service.infer.session import CPU, CUDA, FOREIGN_ERRORS, Broken, Loaded, Place, failed
from service.infer.sizes import SIZES, size_for
from service.metrics import Metrics

__all__ = ["CPU", "CUDA", "FOREIGN_ERRORS", "Engine", "Limits", "Standing"]

_log = logs.get("engine")
_CPU_BATCH = 4
_GPU_WAIT_S = 0.005
_NICENESS = 10  # of a thread that does nothing but run a network over slices; one that runs Python would hold up all others


Make = Callable[[Manifest, Variant, Place], Loaded]
Key = tuple[str, int, int]
"""Bundle, threads and images of a session: on the CPU (name, threads, 0), on a GPU (name, 0, images)."""


@dataclass(frozen=True)
class Limits:
    """What bounds the sessions.

    run_s: one run may take so long, seconds, 0: any time; memory_bytes: of the sessions on one device, 0: any; gpus: numbers
    of those that may be used; batch_wait_s: so long a batch waits for more, None: on a GPU only; cpu_for_s: a bundle whose
    session failed on a GPU runs on the CPU for so long; tensorrt: is tried first on a GPU; cache: folder of what it built.
    """

    run_s: float = 0.0
    memory_bytes: int = 0
    gpus: tuple[int, ...] = (0,)
    batch_wait_s: float | None = None
    cpu_for_s: float = 300.0
    tensorrt: bool = False
    cache: str = ""


@dataclass(frozen=True)
class Standing:
    """For whom the caller works: rank of the urgency, 0 goes first; patience_s: how long it may wait for others."""

    rank: int = 0
    patience_s: float = 0.0


class Engine:
    """Runs bundles. Safe to call from several threads; a session is made at the first use of its bundle, or by `warm`.

    device: "auto" (CUDA where a session really gets it, else CPU), "cpu" or "cuda"; threads: CPU threads in all, 0 for
    all cores; precision: which of a bundle's ONNX files is used, "auto" for the one that its manifest names for the
    device; model.onnx where there is no such file. give_way: called before each chunk of work, in the caller's context;
    it returns when nothing more urgent is under way. limits: of time and memory. standing: tells for whom a caller works.
    make: makes a session for a place; available: the execution providers there are, None: those of this ONNX Runtime;
    eight_bits: whether an int8 file is right for this processor, where it is not asked for.
    A session that fails or hangs is replaced by a new one at the next use; one on a GPU by one on the CPU, at once. On a GPU
    a bundle has a session for each size of batch (`sizes.SIZES`), and these are filled up.
    Raises: EngineUnavailable for "cuda" when this ONNX Runtime was built without CUDA.
    """

    def __init__(self, catalogue: Catalogue, device: str = "auto", threads: int = 0,
                 metrics: Metrics | None = None, precision: str = "auto",
                 give_way: Callable[[], None] = lambda: None, limits: Limits | None = None,
                 standing: Callable[[], Standing] = Standing, make: Make = Loaded.of,
                 available: Collection[str] | None = None,
                 eight_bits: Callable[[], bool] = multiplies_bytes) -> None:
        self._catalogue, self._device, self._metrics, self._give_way = catalogue, device, metrics, give_way
        self._precision = None if precision == "auto" else Precision(precision)
        self._threads = threads or os.cpu_count() or 1
        self._limits, self._standing = limits or Limits(), standing
        self._guard, self._behind = Guard(self._limits.run_s), Guard(self._limits.run_s, niceness=_NICENESS)
        self._loaded: dict[Key, Loaded] = {}
        self._batchers: dict[tuple[str, int], Batcher] = {}
        self._gpu_locks = {gpu: threading.Lock() for gpu in self._limits.gpus}
        self._cpu_until: dict[str, float] = {}
        self._lock = threading.Lock()
        self._make, self._eight_bits = make, eight_bits
        available = onnxruntime.get_available_providers() if available is None else available
        if device == "cuda" and CUDA not in available:
            raise failed(f"device is cuda, but ONNX Runtime has only {', '.join(available)}; "
                         "install the gpu extra or set infer.device to auto or cpu")
        self._cuda = device != "cpu" and CUDA in available
        if self._cuda and hasattr(onnxruntime, "preload_dlls"):
            onnxruntime.preload_dlls()

    def warm(self, bundle_name: str) -> None:
        """Load a bundle's session and run it once on zeros, so that the first study does not wait.

        A model whose input has a free axis besides the first is only loaded.
        Raises: UnusableStudy(NO_MODEL); EngineUnavailable when the model cannot be loaded or run, or when device is
        "cuda" and the session fell back to the CPU.
        """
        started = time.perf_counter()
        loaded = self._any(bundle_name)
        sizes = SIZES[self._catalogue.get(bundle_name).kind] if loaded.on_gpu else ()
        for one in [self._load(bundle_name, 1, size) for size in sizes] or [loaded]:
            feed = one.zeros()
            try:
                if feed is not None:
                    one.run(feed, Guard(0.0))
            except Broken as error:
                raise failed(str(error)) from error
        _log.info("warm", extra={"bundle": bundle_name, "provider": loaded.provider,
                                 "seconds": round(time.perf_counter() - started, 3)})

    def run(self, bundle_name: str, feed: Feed) -> dict[str, NDArray[Any]]:
        """Run a bundle's model on tensors by input name, with every thread; returns the tensors by output name.

        What others ask of the same model meanwhile is run in one batch with it.
        Raises: UnusableStudy(NO_MODEL); EngineUnavailable when it cannot be loaded or run.
        """
        self._give_way()
        return self._batched(bundle_name, self._threads, feed)

    def spread(self, bundle_name: str, work: Callable[[Run, Item], Result], items: Iterable[Item]) -> list[Result]:
        """Do some work with a bundle for each of many items, several at once; returns the results in order.

        work: is given a function that runs the model, and an item; what it does before and after goes on beside the
        network of others. On a CPU this is faster than `run`: as many callers as threads, one thread each. On a GPU all
        callers share one session, and their items its batches.
        Raises: what `run` and `work` raise; the items that were not begun are left.
        """
        on_gpu = self._load(bundle_name, 1, self._most(bundle_name)).on_gpu
        guard = self._behind if self._standing().rank else self._guard  # nothing goes before what stands first
        run: Run = (partial(self._batched, bundle_name, 1) if on_gpu
                    else partial(self._once, bundle_name, 1, guard=guard))

        def chunk(item: Item) -> Result:
            self._give_way()
            return work(run, item)

        return side_by_side(max(self._threads, 2 if on_gpu else 1), chunk, items)

    def batch(self, bundle_name: str) -> int:
        """Return how many images at once pay in `spread`: a few on a CPU, more on a GPU.  Raises: as `run`."""
        return self._most(bundle_name) if self._any(bundle_name).on_gpu else _CPU_BATCH

    def identity(self, bundle_name: str) -> BundleIdentity:
        """Return who speaks when this bundle speaks here: the digest is that of the ONNX file in use.

        Raises: as `run`.
        """
        return identity(self._catalogue.get(bundle_name), self._any(bundle_name).variant)

    def providers(self) -> dict[str, str]:
        """Return the execution provider in use by each loaded bundle."""
        with self._lock:
            return {key[0]: loaded.provider for key, loaded in sorted(self._loaded.items())}

    def close(self) -> None:
        """Let go of the sessions."""
        with self._lock:
            self._loaded.clear()

    def _batched(self, bundle_name: str, threads: int, feed: Feed) -> dict[str, NDArray[Any]]:
        """Run with what others ask of the same session."""
        on_gpu = self._load(bundle_name, threads, _images(feed)).on_gpu
        with self._lock:
            batcher = self._batchers.get((bundle_name, threads))
            if batcher is None:
                usual_s, most = (_GPU_WAIT_S, self._most(bundle_name)) if on_gpu else (0.0, _CPU_BATCH)
                wait_s = usual_s if self._limits.batch_wait_s is None else self._limits.batch_wait_s
                batcher = Batcher(partial(self._once, bundle_name, threads), most, wait_s)
                self._batchers[bundle_name, threads] = batcher
        here = self._standing()
        return batcher.run(feed, here.rank, here.patience_s)

    def _once(self, bundle_name: str, threads: int, feed: Feed, guard: Guard | None = None) -> dict[str, NDArray[Any]]:
        """Run a session, replace it where it breaks, and tell the metrics how many images it had and how long it took."""
        loaded = self._load(bundle_name, threads, _images(feed))
        began = time.perf_counter()
        try:
            out = self._through(loaded, feed, guard or self._guard)
        except Broken as error:
            self._replace(loaded, error)
            if not loaded.on_gpu:
                raise failed(str(error)) from error
            out = self._again(bundle_name, threads, feed)
        if self._metrics is not None:
            self._metrics.inference_seconds.labels(bundle_name).observe(time.perf_counter() - began)
            self._metrics.batch_images.labels(bundle_name).observe(_images(feed))
        return out

    def _again(self, bundle_name: str, threads: int, feed: Feed) -> dict[str, NDArray[Any]]:
        """Run on the CPU what has failed on a GPU."""
        try:
            return self._through(self._load(bundle_name, threads, _images(feed)), feed, self._guard)
        except Broken as error:
            raise failed(str(error)) from error

    def _through(self, loaded: Loaded, feed: Feed, guard: Guard) -> dict[str, NDArray[Any]]:
        """Run a session; on one GPU one after the other, for side by side all are slower than that."""
        if loaded.place.gpu is None:
            return loaded.run(feed, guard)
        with self._gpu_locks[loaded.place.gpu]:
            return loaded.run(feed, guard)

    def _replace(self, loaded: Loaded, error: Broken) -> None:
        """Let go of a session that broke; on a GPU, of all of its bundle there, which then runs on the CPU for a while."""
        with self._lock:
            self._loaded = {key: one for key, one in self._loaded.items() if one is not loaded and not (
                loaded.on_gpu and one.on_gpu and one.bundle_name == loaded.bundle_name)}
            if loaded.on_gpu:
                self._cpu_until[loaded.bundle_name] = time.monotonic() + self._limits.cpu_for_s
        _log.error("session replaced", extra={"bundle": loaded.bundle_name, "provider": loaded.provider,
                                              "cause": error.cause, "detail": str(error)})
        if self._metrics is not None:
            self._metrics.sessions_replaced.labels(loaded.bundle_name, error.cause).inc()
            self._metrics.engine_info.labels(loaded.bundle_name, self._catalogue.get(loaded.bundle_name).version,
                                             loaded.provider).set(0)

    def _most(self, bundle_name: str) -> int:
        """Return the largest batch of a bundle on a GPU."""
        return max(SIZES[self._catalogue.get(bundle_name).kind])

    def _any(self, bundle_name: str) -> Loaded:
        """Return a session of a bundle: one that is loaded, else that for `spread` where there are slices, or for `run`."""
        with self._lock:
            found = next((one for key, one in self._loaded.items() if key[0] == bundle_name), None)
        slices = self._catalogue.get(bundle_name).kind is Kind.CT
        return found or self._load(bundle_name, 1 if slices else self._threads, 1)

    def _load(self, bundle_name: str, threads: int, images: int) -> Loaded:
        """Return the session for a batch of so many images: on a GPU that for its size, else that for so many threads."""
        manifest = self._catalogue.get(bundle_name)
        there, here = (bundle_name, 0, size_for(SIZES[manifest.kind], images)), (bundle_name, threads, 0)
        with self._lock:
            found = self._loaded.get(here)
            if found is not None and found.cpu_until is not None and time.monotonic() >= found.cpu_until:
                del self._loaded[here]  # the GPU is tried again
                found = None
            if found is None and self._wants_gpu(bundle_name):
                found = self._loaded.get(there)
            if found is None:
                found = self._made(manifest, threads)
                found.images = there[2] if found.on_gpu else 0
                self._loaded[there if found.on_gpu else here] = found
            return found

    def _wants_gpu(self, bundle_name: str) -> bool:
        """Tell whether a bundle is to run on a GPU now: there is one, and the bundle has not just failed there."""
        return self._cuda and time.monotonic() >= self._cpu_until.get(bundle_name, 0.0)

    def _made(self, manifest: Manifest, threads: int) -> Loaded:
        """Make a session: on CUDA where it is wanted and works, else on the CPU, each with the file that is for it."""
        wanted = self._wants_gpu(manifest.name)
        stands_in = self._cuda and not wanted
        loaded = self._session(manifest, Use.GPU if wanted else Use.CPU, threads)
        fell_back = wanted and not loaded.on_gpu  # without an error: ONNX Runtime only logs one
        if fell_back and self._device == "cuda":
            raise failed(f"device is cuda, but the session of {manifest.name} runs on {loaded.provider}; check driver, "
                         "CUDA and cuDNN")
        if fell_back:
            loaded = self._session(manifest, Use.CPU, threads)
        loaded.cpu_until = self._cpu_until[manifest.name] if stands_in else None
        level = _log.warning if fell_back or stands_in else _log.info
        level("session", extra={"bundle": manifest.name, "provider": loaded.provider, "threads": threads,
                                "fell_back": fell_back or stands_in, "precision": loaded.variant.precision.value})
        if self._metrics is not None:
            self._metrics.engine_info.labels(manifest.name, manifest.version, loaded.provider).set(1)
        return loaded

    def _session(self, manifest: Manifest, use: Use, threads: int) -> Loaded:
        """Make a session for a place, after others have made room where memory is bounded."""
        variant = (manifest.variant_of(self._precision) if self._precision
                   else manifest.variant_for(use, self._eight_bits()))
        gpu = gpu_for(manifest, self._limits.gpus, self._loaded.values()) if use is Use.GPU else None
        for key in to_drop(manifest, variant, gpu, self._loaded, self._limits.memory_bytes):
            _log.info("session dropped", extra={"bundle": key[0], "for": manifest.name})
            del self._loaded[key]
        arena = manifest.placement.memory_bytes or self._limits.memory_bytes
        return self._make(manifest, variant, Place(gpu, threads, arena, self._limits.tensorrt, self._limits.cache))


def _images(feed: Feed) -> int:
    return max((len(tensor) for tensor in feed.values()), default=0)
