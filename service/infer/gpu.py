"""What the GPUs of this machine are doing, by NVIDIA's management library where it is installed."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from service import logs

_log = logs.get("gpu")
LIBRARY = "pynvml"


@dataclass(frozen=True)
class GpuUse:
    """One GPU: its number on this machine, its memory in use and in all, and how busy it is, 0 to 1."""

    name: str
    used_bytes: int
    size_bytes: int
    busy: float


class Gpus:
    """The GPUs of this machine; none where the library, the driver or the hardware is missing."""

    def __init__(self, library: ModuleType | Any | None = None) -> None:
        self._library = _load() if library is None else library
        self._handles: list[tuple[str, Any]] = []
        if self._library is None:
            return
        try:
            self._library.nvmlInit()
            count = self._library.nvmlDeviceGetCount()
            self._handles = [(str(n), self._library.nvmlDeviceGetHandleByIndex(n)) for n in range(count)]
        except self._library.NVMLError as error:
            _log.info("no GPU is watched", extra={"because": type(error).__name__})

    def read(self) -> Sequence[GpuUse]:
        """Return what each GPU does now; one that does not answer, or does not tell, is left out."""
        return [use for name, handle in self._handles if (use := self._read(name, handle)) is not None]

    def _read(self, name: str, handle: Any) -> GpuUse | None:
        library: Any = self._library
        try:
            memory = library.nvmlDeviceGetMemoryInfo(handle)
            busy = library.nvmlDeviceGetUtilizationRates(handle).gpu / 100
        except library.NVMLError:
            return None
        return GpuUse(name, int(memory.used), int(memory.total), float(busy))


def _load() -> ModuleType | None:
    try:
        return importlib.import_module(LIBRARY)
    except ImportError:
        return None
