"""ONNX Runtime sessions of the bundles, kept warm and shared by every thread."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from service import logs
from service.domain.finding import BundleIdentity
from service.domain.manifest import Manifest
from service.domain.study import Kind
from service.domain.variant import Precision, Use, Variant
from service.errors import EngineUnavailable, Reason
from service.infer.catalogue import Catalogue, identity
from service.infer.networks import Feed, Item, Result, Run
from service.metrics import Metrics

_log = logs.get("engine")

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"

_CPU_BATCH, _GPU_BATCH = 4, 32

FOREIGN_ERRORS: tuple[type[Exception], ...] = (
    *(e for e in vars(ort_errors).values() if isinstance(e, type) and issubclass(e, Exception)),
    RuntimeError, ValueError, TypeError, MemoryError,
)
"""What ONNX Runtime raises; each becomes EngineUnavailable."""


class Engine:
    """Runs bundles. Safe to call from several threads; a session is made at the first use of its bundle, or by `warm`.

    device: "auto" (CUDA where a session really gets it, else CPU), "cpu" or "cuda"; threads: CPU threads in all, 0 for
    all cores; precision: which of a bundle's ONNX files is used, "auto" for the one that its manifest names for the
    device; model.onnx where there is no such file. give_way: called before each chunk of work, in the caller's context;
    it returns when nothing more urgent is under way.
    Raises: EngineUnavailable for "cuda" when this ONNX Runtime was built without CUDA.
    """

    def __init__(self, catalogue: Catalogue, device: str = "auto", threads: int = 0,
                 metrics: Metrics | None = None, precision: str = "auto",
                 give_way: Callable[[], None] = lambda: None) -> None:
        self._catalogue, self._device, self._metrics, self._give_way = catalogue, device, metrics, give_way
        self._precision = None if precision == "auto" else Precision(precision)
        self._threads = threads or os.cpu_count() or 1
        self._loaded: dict[tuple[str, int], _Loaded] = {}
        self._lock = threading.Lock()
        available = onnxruntime.get_available_providers()
        if device == "cuda" and CUDA not in available:
            raise _failed(f"device is cuda, but ONNX Runtime has only {', '.join(available)}; "
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
        inputs = loaded.session.get_inputs()
        if all(isinstance(n, int) for i in inputs for n in i.shape[1:]):
            _run(loaded, {i.name: np.zeros([1, *i.shape[1:]], np.float32) for i in inputs})
        _log.info("warm", extra={"bundle": bundle_name, "provider": loaded.provider,
                                 "seconds": round(time.perf_counter() - started, 3)})

    def run(self, bundle_name: str, feed: Feed) -> dict[str, NDArray[Any]]:
        """Run a bundle's model on tensors by input name, with every thread; returns the tensors by output name.

        Raises: UnusableStudy(NO_MODEL); EngineUnavailable when it cannot be loaded or run.
        """
        self._give_way()
        return self._run(self._load(bundle_name, self._threads), feed)

    def _run(self, loaded: _Loaded, feed: Feed) -> dict[str, NDArray[Any]]:
        """Run a session, and tell the metrics how many images it was given and how long it took."""
        began = time.perf_counter()
        out = _run(loaded, feed)
        if self._metrics is not None:
            self._metrics.inference_seconds.labels(loaded.bundle_name).observe(time.perf_counter() - began)
            self._metrics.batch_images.labels(loaded.bundle_name).observe(max((len(t) for t in feed.values()), default=0))
        return out

    def spread(self, bundle_name: str, work: Callable[[Run, Item], Result], items: Iterable[Item]) -> list[Result]:
        """Do some work with a bundle for each of many items, several at once; returns the results in order.

        work: is given a function that runs the model, and an item; what it does before and after goes on beside the
        network of others. On a CPU this is faster than `run`: as many callers as threads, one thread each.
        Raises: what `run` and `work` raise; the items that were not begun are left.
        """
        loaded = self._load(bundle_name, 1)

        def chunk(item: Item) -> Result:
            self._give_way()
            return work(partial(self._run, loaded), item)

        with ThreadPoolExecutor(max(self._threads, 2 if loaded.provider == CUDA else 1), "infer") as pool:
            waiting = [pool.submit(copy_context().run, chunk, item) for item in items]
            try:
                return [done.result() for done in waiting]
            finally:
                pool.shutdown(cancel_futures=True)

    def batch(self, bundle_name: str) -> int:
        """Return how many images at once pay in `spread`: a few on a CPU, more on a GPU.  Raises: as `run`."""
        return _GPU_BATCH if self._any(bundle_name).provider == CUDA else _CPU_BATCH

    def identity(self, bundle_name: str) -> BundleIdentity:
        """Return who speaks when this bundle speaks here: the digest is that of the ONNX file in use.

        Raises: as `run`.
        """
        return identity(self._catalogue.get(bundle_name), self._any(bundle_name).variant)

    def providers(self) -> dict[str, str]:
        """Return the execution provider in use by each loaded bundle."""
        with self._lock:
            return {name: loaded.provider for (name, _), loaded in sorted(self._loaded.items())}

    def close(self) -> None:
        """Let go of the sessions."""
        with self._lock:
            self._loaded.clear()

    def _any(self, bundle_name: str) -> _Loaded:
        """Return a session of a bundle: one that is loaded, else that for `spread` where there are slices, or for `run`."""
        with self._lock:
            found = next((one for (name, _), one in self._loaded.items() if name == bundle_name), None)
        slices = self._catalogue.get(bundle_name).kind is Kind.CT
        return found or self._load(bundle_name, 1 if slices else self._threads)

    def _load(self, bundle_name: str, threads: int) -> _Loaded:
        manifest = self._catalogue.get(bundle_name)
        with self._lock:
            key = bundle_name, threads
            if key not in self._loaded:
                self._loaded[key] = self._made(manifest, threads)
            return self._loaded[key]

    def _made(self, manifest: Manifest, threads: int) -> _Loaded:
        """Make a session: on CUDA where it is wanted and works, else on the CPU, each with the file that is for it."""
        loaded = self._session(manifest, Use.GPU if self._cuda else Use.CPU, threads)
        fell_back = self._cuda and loaded.provider != CUDA  # without an error: ONNX Runtime only logs one
        if fell_back and self._device == "cuda":
            raise _failed(f"device is cuda, but the session of {manifest.name} runs on {loaded.provider}; check driver, "
                          "CUDA and cuDNN")
        if fell_back:
            loaded = self._session(manifest, Use.CPU, threads)
        level = _log.warning if fell_back else _log.info
        level("session", extra={"bundle": manifest.name, "provider": loaded.provider, "threads": threads,
                                "fell_back": fell_back, "precision": loaded.variant.precision.value})
        if self._metrics is not None:
            self._metrics.engine_info.labels(manifest.name, manifest.version, loaded.provider).set(1)
        return loaded

    def _session(self, manifest: Manifest, use: Use, threads: int) -> _Loaded:
        variant = manifest.variant_of(self._precision) if self._precision else manifest.variant_for(use)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3  # errors only
        providers = [CUDA, CPU] if use is Use.GPU else [CPU]
        try:
            session = onnxruntime.InferenceSession(str(manifest.path_of(variant)), options, providers=providers)
        except FOREIGN_ERRORS as error:
            raise _failed(f"bundle {manifest.name} could not be loaded ({type(error).__name__})") from error
        return _Loaded(manifest.name, variant, session)


@dataclass(frozen=True, eq=False)
class _Loaded:
    """A session, and of which file it is."""

    bundle_name: str
    variant: Variant
    session: onnxruntime.InferenceSession

    @property
    def provider(self) -> str:
        provider: str = self.session.get_providers()[0]
        return provider


def _run(loaded: _Loaded, feed: Feed) -> dict[str, NDArray[Any]]:
    names = [o.name for o in loaded.session.get_outputs()]
    try:
        values = loaded.session.run(names, dict(feed))
    except FOREIGN_ERRORS as error:
        raise _failed(f"bundle {loaded.bundle_name} did not run ({type(error).__name__})") from error
    return dict(zip(names, values, strict=True))


def _failed(detail: str) -> EngineUnavailable:
    return EngineUnavailable(Reason.ENGINE_FAILED, detail)
