"""One ONNX Runtime session in a process of a Ray cluster."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from service.infer.networks import Feed
from service.infer.session import Place, takes_any
from service.infer.sizes import in_batches


class RaySession:
    """A session that a Ray actor holds.

    model: the ONNX file's content; gpu: of the node; cpus: threads it may use; images: on a GPU it is always run on so many
    at once, 0: on as many as there are.
    """

    def __init__(self, model: bytes, gpu: bool, cpus: float, images: int = 0) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = max(1, int(cpus)), 1
        options.log_severity_level = 3  # errors only
        if gpu and hasattr(onnxruntime, "preload_dlls"):
            onnxruntime.preload_dlls()
        place = Place(0 if gpu else None, options.intra_op_num_threads)  # Ray shows the process its own GPU only
        self._session = onnxruntime.InferenceSession(bytes(model), options, providers=place.providers())
        self._names = [o.name for o in self._session.get_outputs()]
        self._images = images if takes_any(self._session) else 0

    def warm(self) -> str:
        """Run once on zeros, unless the input has a free axis besides the first; return the provider in use."""
        inputs = self._session.get_inputs()
        if all(isinstance(n, int) for i in inputs for n in i.shape[1:]):
            self.run({i.name: np.zeros([1, *i.shape[1:]], np.float32) for i in inputs})
        return str(self._session.get_providers()[0])

    def run(self, feed: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the network: tensors by input name to tensors by output name."""
        return in_batches(self._run, feed, self._images) if self._images else self._run(feed)

    def _run(self, feed: Feed) -> dict[str, NDArray[Any]]:
        return dict(zip(self._names, self._session.run(self._names, dict(feed)), strict=True))
