"""What the processor here can do: 8-bit networks pay, and keep their figures, only where it multiplies bytes exactly."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

_FLAGS = {"avx512_vnni", "avx_vnni", "asimddp", "amx_int8"}
_FILE = Path("/proc/cpuinfo")


@cache
def multiplies_bytes(cpuinfo: Path = _FILE) -> bool:
    """Tell whether dot products of bytes are summed in 32 bits (VNNI, AMX, or the dot product of ARM).

    Without, ONNX Runtime adds products of bytes in 16 bits, which overflow for strong activations; int8 files are measured
    with. Where the system does not say (no /proc), an ARM processor is taken to have it, another one not.
    """
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.machine().lower() in ("arm64", "aarch64")
    return any(_FLAGS & set(line.partition(":")[2].split()) for line in text.splitlines()
               if line.startswith(("flags", "Features")))
