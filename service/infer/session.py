"""One ONNX Runtime session: made for a place, run with bound tensors and within a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from service.domain.manifest import Manifest
from service.domain.variant import Variant
from service.errors import EngineUnavailable, Reason
from service.infer.guard import Guard, Hung
from service.infer.networks import Feed
from service.infer.sizes import in_batches

TENSORRT, CUDA, CPU = "TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"
FOREIGN_ERRORS: tuple[type[Exception], ...] = (
    *(e for e in vars(ort_errors).values() if isinstance(e, type) and issubclass(e, Exception)),
    RuntimeError, ValueError, TypeError, MemoryError,
)
"""What ONNX Runtime raises; each becomes EngineUnavailable."""

_BAD_FEED = (ort_errors.InvalidArgument, ValueError, TypeError)


class Broken(Exception):
    """A session failed or hung, and is not to be used again. cause: failed, hung."""

    def __init__(self, cause: str, detail: str) -> None:
        super().__init__(detail)
        self.cause = cause


@dataclass(frozen=True)
class Place:
    """Where a session is put. gpu: number of a GPU, None: the CPU; threads: of the CPU; memory_bytes: of the GPU that its
    arena may take, 0: no limit; tensorrt: is tried first; cache: folder of what TensorRT has built, "" for none."""

    gpu: int | None
    threads: int
    memory_bytes: int = 0
    tensorrt: bool = False
    cache: str = ""

    def providers(self, half: bool = False) -> list[tuple[str, dict[str, Any]]]:
        """Return the execution providers and their options, the preferred first. half: the file is in half precision."""
        if self.gpu is None:
            return [(CPU, {})]
        cuda: dict[str, Any] = {"device_id": self.gpu, "arena_extend_strategy": "kSameAsRequested",
                                "cudnn_conv_algo_search": "HEURISTIC", "do_copy_in_default_stream": True}
        if self.memory_bytes:
            cuda["gpu_mem_limit"] = self.memory_bytes
        found = [(CUDA, cuda), (CPU, {})]
        if self.tensorrt:
            options: dict[str, Any] = {"device_id": self.gpu, "trt_fp16_enable": half}
            if self.memory_bytes:
                options["trt_max_workspace_size"] = self.memory_bytes
            if self.cache:
                options |= {"trt_engine_cache_enable": True, "trt_engine_cache_path": self.cache}
            found.insert(0, (TENSORRT, options))
        return found


@dataclass(eq=False)
class Loaded:
    """A session, of which file it is, and where.

    images: it is always run on so many at once, 0: on as many as there are; cpu_until: it stands in for one on a GPU until
    then (monotonic seconds).
    """

    bundle_name: str
    variant: Variant
    place: Place
    session: onnxruntime.InferenceSession
    need_bytes: int = 0
    images: int = 0
    cpu_until: float | None = None
    used_at: float = field(default_factory=time.monotonic)
    in_use: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, manifest: Manifest, variant: Variant, place: Place) -> Loaded:
        """Make a session.  Raises: EngineUnavailable when the model cannot be loaded there."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = place.threads, 1
        options.log_severity_level = 3  # errors only
        available = onnxruntime.get_available_providers()
        providers = [(n, o) for n, o in place.providers(variant.precision.value == "fp16") if n in available]
        path = manifest.path_of(variant)
        try:
            session = onnxruntime.InferenceSession(str(path), options, providers=providers)
            return cls(manifest.name, variant, place, session, need_bytes(manifest, variant))
        except FOREIGN_ERRORS as error:
            raise failed(f"bundle {manifest.name} could not be loaded ({type(error).__name__})") from error

    @property
    def provider(self) -> str:
        """The execution provider that it really runs on."""
        provider: str = self.session.get_providers()[0]
        return provider

    @property
    def on_gpu(self) -> bool:
        """Tell whether it really runs on a GPU."""
        return self.provider in (CUDA, TENSORRT)

    def zeros(self) -> dict[str, NDArray[np.float32]] | None:
        """Return an input of zeros; None when an axis besides the first is free."""
        inputs = self.session.get_inputs()
        if not all(isinstance(n, int) for i in inputs for n in i.shape[1:]):
            return None
        return {i.name: np.zeros([1, *i.shape[1:]], np.float32) for i in inputs}

    def run(self, feed: Feed, guard: Guard) -> dict[str, NDArray[Any]]:
        """Run it: tensors by input name to tensors by output name, all bound, so that each is copied once at most.

        Raises: EngineUnavailable for tensors that the model does not take; Broken when it failed or hung.
        """
        if not self.images or not takes_any(self.session):
            return self._run(feed, guard)
        try:
            return in_batches(lambda part: self._run(part, guard), feed, self.images)
        except ValueError as error:
            raise failed(f"bundle {self.bundle_name} did not run ({error})") from error

    def _run(self, feed: Feed, guard: Guard) -> dict[str, NDArray[Any]]:
        options = onnxruntime.RunOptions()
        options.log_severity_level = 4  # what is told to stop says so by its error

        def act() -> dict[str, NDArray[Any]]:
            return self._bound(feed, options)

        def stop() -> None:
            options.terminate = True

        with self._lock:
            self.in_use += 1
        try:
            return guard.run(act, stop)
        except Hung as error:
            raise Broken("hung", f"bundle {self.bundle_name}: {error}") from error
        except _BAD_FEED as error:
            raise failed(f"bundle {self.bundle_name} did not run ({type(error).__name__})") from error
        except FOREIGN_ERRORS as error:
            raise Broken("failed", f"bundle {self.bundle_name} did not run ({type(error).__name__})") from error
        finally:
            with self._lock:
                self.in_use -= 1
                self.used_at = time.monotonic()

    def _bound(self, feed: Feed, options: onnxruntime.RunOptions) -> dict[str, NDArray[Any]]:
        self._require_inputs(feed)
        binding = self.session.io_binding()
        for name, tensor in feed.items():
            binding.bind_cpu_input(name, np.ascontiguousarray(tensor))
        names = [o.name for o in self.session.get_outputs()]
        for name in names:
            binding.bind_output(name)
        self.session.run_with_iobinding(binding, options)
        return dict(zip(names, binding.copy_outputs_to_cpu(), strict=True))

    def _require_inputs(self, feed: Mapping[str, NDArray[Any]]) -> None:
        """Compare names, types and axes with what the model takes, for bound tensors are not all checked.  ValueError."""
        inputs = {i.name: i for i in self.session.get_inputs()}
        if set(feed) != set(inputs):
            raise ValueError(f"inputs {sorted(feed)}; accepted: {sorted(inputs)}")
        for name, tensor in feed.items():
            wanted = inputs[name]
            if wanted.type != _TYPES.get(tensor.dtype.name) or len(tensor.shape) != len(wanted.shape) or any(
                    isinstance(n, int) and n != have for n, have in zip(wanted.shape, tensor.shape, strict=True)):
                raise ValueError(f"{name} is {tensor.dtype} {tensor.shape}; accepted: {wanted.type} {wanted.shape}")


_TYPES = {"float32": "tensor(float)", "float16": "tensor(float16)", "float64": "tensor(double)", "int64": "tensor(int64)",
          "int32": "tensor(int32)", "uint8": "tensor(uint8)", "int8": "tensor(int8)", "bool": "tensor(bool)"}
_OF_ITS_FILE = 4
"""Memory that a session takes, in sizes of its file, where the manifest does not say: weights, their packed copy, arena."""


def takes_any(session: onnxruntime.InferenceSession) -> bool:
    """Tell whether a network takes any number of images at once: the first axis of its input is free."""
    return not isinstance(session.get_inputs()[0].shape[0], int)


def need_bytes(manifest: Manifest, variant: Variant) -> int:
    """Return the memory that a session of a bundle takes: as its manifest says, else an estimate."""
    return manifest.placement.memory_bytes or _OF_ITS_FILE * manifest.path_of(variant).stat().st_size


def failed(detail: str) -> EngineUnavailable:
    """Return the error of an engine."""
    return EngineUnavailable(Reason.ENGINE_FAILED, detail)
