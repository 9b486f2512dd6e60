"""What a receiver cannot be faster than, and what one instance costs it: the disk, processor time, system calls."""

from __future__ import annotations

import mmap
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path


def plain_loop(sources: Sequence[Path], folder: Path) -> float:
    """Return the seconds that writing, syncing, renaming and syncing the folder take, file by file, nothing else.

    The files are read before, written as a C program would: one open, one write, two fsync, one rename, one close each.
    """
    contents = [source.read_bytes() for source in sources]
    kept = folder / "plain"
    kept.mkdir()
    names = [(f"{kept}/{number}.part", f"{kept}/{number}.dcm") for number in range(len(contents))]
    os.sync()
    began = time.perf_counter()
    directory = os.open(kept, os.O_RDONLY | os.O_DIRECTORY)
    for content, (temporary, final) in zip(contents, names, strict=True):
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        os.write(descriptor, content)
        os.fsync(descriptor)
        os.rename(temporary, final)  # noqa: PTH104 - what is measured is the call
        os.fsync(directory)
        os.close(descriptor)
    took = time.perf_counter() - began
    os.close(directory)
    shutil.rmtree(kept)
    return took


def slot_loop(sources: Sequence[Path], folder: Path) -> float:
    """Return the seconds that the disk alone takes to make files durable in blocks that are there already, one by one."""
    size = max(-(-source.stat().st_size // 4096) * 4096 for source in sources)
    path = folder / "slots"
    with path.open("wb") as file:
        for _ in sources:
            file.write(bytes(size))
        os.fsync(file.fileno())
    buffer = mmap.mmap(-1, size)
    descriptor = os.open(path, os.O_RDWR | os.O_DIRECT)
    os.sync()
    took = 0.0
    for number, source in enumerate(sources):
        content = source.read_bytes()
        buffer[:len(content)] = content
        blocks = memoryview(buffer)[:-(-len(content) // 4096) * 4096]
        began = time.perf_counter()
        os.pwritev(descriptor, [blocks], number * size, os.RWF_DSYNC)
        took += time.perf_counter() - began
    os.close(descriptor)
    path.unlink()
    return took


def cpu_seconds(process_id: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def system_calls(process_id: int, folder: Path, act: Callable[[], object]) -> dict[str, int]:
    """Return how often a process made each system call while something was done, by strace; empty without strace."""
    if shutil.which("strace") is None:
        return {}
    counted = folder / "strace.txt"
    tracer = subprocess.Popen(["strace", "-f", "-c", "-o", counted, "-p", str(process_id)], stderr=subprocess.DEVNULL)
    status, deadline = Path(f"/proc/{process_id}/status"), time.monotonic() + 10
    while "TracerPid:\t0\n" in status.read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    act()
    tracer.send_signal(signal.SIGINT)
    tracer.wait(20)
    calls = {}
    for line in counted.read_text().splitlines():
        fields = line.split()
        if len(fields) >= 5 and fields[3].isdigit() and fields[-1] != "total":
            calls[fields[-1]] = int(fields[3])
    return calls
