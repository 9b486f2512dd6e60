"""ONNX Runtime sessions, one for each bundle, kept warm and shared by every thread."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from service import logs
from service.domain.manifest import Manifest
from service.errors import EngineUnavailable, Reason
from service.infer.catalogue import Catalogue
from service.metrics import Metrics

_log = logs.get("engine")

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"

FOREIGN_ERRORS: tuple[type[Exception], ...] = (
    *(e for e in vars(ort_errors).values() if isinstance(e, type) and issubclass(e, Exception)),
    RuntimeError, ValueError, TypeError, MemoryError,
)
"""What ONNX Runtime raises; each becomes EngineUnavailable."""


class Engine:
    """Runs bundles. Safe to call from several threads; a session is made at the first use of its bundle, or by `warm`.

    device: "auto" (CUDA where a session really gets it, else CPU), "cpu" or "cuda"; threads: CPU threads of a session,
    0 for all cores.
    Raises: EngineUnavailable for "cuda" when this ONNX Runtime was built without CUDA.
    """

    def __init__(self, catalogue: Catalogue, device: str = "auto", threads: int = 0,
                 metrics: Metrics | None = None) -> None:
        self._catalogue, self._device, self._metrics = catalogue, device, metrics
        self._threads = threads or os.cpu_count() or 1
        self._sessions: dict[str, onnxruntime.InferenceSession] = {}
        self._lock = threading.Lock()
        available = onnxruntime.get_available_providers()
        if device == "cuda" and CUDA not in available:
            raise _failed(f"device is cuda, but ONNX Runtime has only {', '.join(available)}; "
                          "install the gpu extra or set infer.device to auto or cpu")
        self._wanted = [CUDA, CPU] if device != "cpu" and CUDA in available else [CPU]
        if CUDA in self._wanted and hasattr(onnxruntime, "preload_dlls"):
            onnxruntime.preload_dlls()

    def warm(self, bundle_name: str) -> None:
        """Load a bundle's session and run it once on zeros, so that the first study does not wait.

        A model whose input has a free axis besides the first is only loaded.
        Raises: UnusableStudy(NO_MODEL); EngineUnavailable when the model cannot be loaded or run, or when device is
        "cuda" and the session fell back to the CPU.
        """
        session = self._session(bundle_name)
        started = time.perf_counter()
        inputs = session.get_inputs()
        if all(isinstance(n, int) for i in inputs for n in i.shape[1:]):
            self.run(bundle_name, {i.name: np.zeros([1, *i.shape[1:]], np.float32) for i in inputs})
        _log.info("warm", extra={"bundle": bundle_name, "provider": session.get_providers()[0],
                                 "seconds": round(time.perf_counter() - started, 3)})

    def run(self, bundle_name: str, feed: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run a bundle's model on tensors by input name; returns the tensors by output name.

        Raises: UnusableStudy(NO_MODEL); EngineUnavailable when it cannot be loaded or run.
        """
        session = self._session(bundle_name)
        names = [o.name for o in session.get_outputs()]
        try:
            values = session.run(names, dict(feed))
        except FOREIGN_ERRORS as error:
            raise _failed(f"bundle {bundle_name} did not run ({type(error).__name__})") from error
        return dict(zip(names, values, strict=True))

    def providers(self) -> dict[str, str]:
        """Return the execution provider in use by each loaded bundle."""
        with self._lock:
            return {name: session.get_providers()[0] for name, session in sorted(self._sessions.items())}

    def _session(self, bundle_name: str) -> onnxruntime.InferenceSession:
        manifest = self._catalogue.get(bundle_name)
        with self._lock:
            if bundle_name not in self._sessions:
                self._sessions[bundle_name] = self._load(manifest)
            return self._sessions[bundle_name]

    def _load(self, manifest: Manifest) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self._threads, 1
        options.log_severity_level = 3  # errors only
        try:
            session = onnxruntime.InferenceSession(str(manifest.model_path), options, providers=self._wanted)
        except FOREIGN_ERRORS as error:
            raise _failed(f"bundle {manifest.name} could not be loaded ({type(error).__name__})") from error
        self._record(manifest, session.get_providers()[0])
        return session

    def _record(self, manifest: Manifest, provider: str) -> None:
        """Make the provider visible; a session may fall back to the CPU without an error."""
        fell_back = CUDA in self._wanted and provider != CUDA
        if fell_back and self._device == "cuda":
            raise _failed(f"device is cuda, but the session of {manifest.name} runs on {provider}; check driver, CUDA "
                          "and cuDNN")
        level = _log.warning if fell_back else _log.info
        level("session", extra={"bundle": manifest.name, "provider": provider, "threads": self._threads,
                                "fell_back": fell_back})
        if self._metrics is not None:
            self._metrics.engine_info.labels(manifest.name, manifest.version, provider).set(1)


def _failed(detail: str) -> EngineUnavailable:
    return EngineUnavailable(Reason.ENGINE_FAILED, detail)
