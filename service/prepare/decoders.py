"""Decoding processes: compressed frames are decoded apart from the service, so that a bad one cannot end it."""

from __future__ import annotations

import mmap
import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from service import logs
from service.errors import DecoderFailed, Reason, Unavailable, UnusableStudy
from service.metrics import Metrics
from service.prepare.codestream import MAX_FRAME_BYTES, Frame, FrameShape
from service.prepare.decoder_process import ANSWER, READY, REQUEST, frame_offset

PROGRAM = "service.prepare.decoder_process"
_HEADER_BYTES = 2**20
_AREA_BYTES = 3 * MAX_FRAME_BYTES + 2 * _HEADER_BYTES
_KEPT_BYTES = 64 * 2**20
_START_S = 60.0
_log = logs.get("prepare.decoders")


class _Ended(Exception):
    """The process is gone, or does not answer. cause: crashed or timeout, as in the metric; args: in words."""

    def __init__(self, cause: str, words: str) -> None:
        super().__init__(words)
        self.cause = cause


class _Process:
    """One decoding process and the memory that is shared with it. One thread at a time."""

    def __init__(self, program: str, timeout_s: float, memory_bytes: int) -> None:
        ours, theirs = socket.socketpair()
        area = _shared_memory()
        try:
            self._area = mmap.mmap(area, _AREA_BYTES)
            limits = (theirs.fileno(), area, memory_bytes, int(timeout_s) + 1)
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", program, *map(str, limits)], pass_fds=(theirs.fileno(), area), cwd="/",
                env=_environment(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
            os.close(area)
        self._connection, self._timeout_s = ours, timeout_s
        self._is_ready = False
        self.frames = 0

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def decode(self, codestream: bytes, transfer_syntax_uid: str, expected: FrameShape) -> Frame:
        """Decode one frame.  Raises: UnusableStudy as `codestream.decode_frame` does; _Ended."""
        if not self._is_ready:
            self._receive(len(READY), _START_S)
            self._is_ready = True
        self.frames += 1
        self._area[:len(codestream)] = codestream
        self._send(REQUEST.pack(transfer_syntax_uid.encode("ascii"), expected.rows, expected.columns, expected.samples,
                                expected.bytes_per_sample, expected.ycbcr, len(codestream)))
        decoded, kind, size, detail = ANSWER.unpack(self._receive(ANSWER.size, self._timeout_s))
        if not decoded:
            raise UnusableStudy(Reason.UNREADABLE_PIXELS, _printable(detail))
        if kind not in (b"u", b"i") or size not in range(1, expected.bytes_per_sample + 1):
            raise _Ended("crashed", "the decoder answered nonsense")
        return self._taken(f"{kind.decode()}{size}", expected, frame_offset(len(codestream)))

    def end(self) -> None:
        """End the process, whatever it does, and let go of the memory."""
        self._connection.close()
        self._process.kill()
        self._process.wait()
        self._area.close()

    def _taken(self, dtype: str, expected: FrameShape, offset: int) -> Frame:
        count = expected.length // expected.bytes_per_sample
        frame = np.frombuffer(self._area, dtype, count, offset).reshape(expected.shape).copy()
        if offset + frame.nbytes > _KEPT_BYTES:
            self._area.madvise(mmap.MADV_REMOVE)
        return frame

    def _send(self, data: bytes) -> None:
        try:
            self._connection.sendall(data)
        except OSError as error:
            raise self._ended() from error

    def _receive(self, size: int, timeout_s: float) -> bytes:
        deadline, data = time.monotonic() + timeout_s, b""
        while len(data) < size:
            self._connection.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                got = self._connection.recv(size - len(data))
            except TimeoutError as error:
                raise _Ended("timeout", f"the decoder did not end within {timeout_s:g} s") from error
            except OSError as error:
                raise self._ended() from error
            if not got:
                raise self._ended()
            data += got
        return data

    def _ended(self) -> _Ended:
        """Say how the process ended, once its connection is closed."""
        try:
            code = self._process.wait(5)
        except subprocess.TimeoutExpired:
            return _Ended("crashed", "the decoder closed its connection")
        if code == -signal.SIGXCPU:
            return _Ended("timeout", "the decoder used up its processor time")
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return _Ended("crashed", f"the decoder crashed ({how})")


class Decoders:
    """A few decoding processes, kept warm; a `FrameDecoder` that any number of threads may call.

    processes: at most so many; each lives for `frames_each` frames, or until it crashes, hangs for `timeout_s` seconds
    or outgrows `memory_bytes`. program: the module they run.
    """

    def __init__(self, metrics: Metrics, processes: int = 2, timeout_s: float = 60.0, memory_bytes: int = 2**31,
                 frames_each: int = 2000, program: str = PROGRAM) -> None:
        self._metrics, self._program, self._frames_each = metrics, program, frames_each
        self._timeout_s, self._memory_bytes, self._count = timeout_s, memory_bytes, processes
        self._places: queue.LifoQueue[_Process | None] = queue.LifoQueue()
        for _ in range(processes):
            self._places.put(None)

    def warm(self) -> None:
        """Start every process, without waiting until they are ready.  Raises: Unavailable."""
        places = [self._places.get() for _ in range(self._count)]
        try:
            places = [self._started() if place is None else place for place in places]
        finally:
            for place in places:
                self._places.put(place)

    def __call__(self, codestream: bytes, transfer_syntax_uid: str, expected: FrameShape) -> Frame:
        """Decode one frame in a process of its own, as `codestream.decode_frame` does here.

        Raises: UnusableStudy(UNREADABLE_PIXELS); DecoderFailed when a process crashed, hung or outgrew its memory on it;
        Unavailable when no process can be started.
        """
        if len(codestream) > 2 * expected.length + _HEADER_BYTES:
            raise UnusableStudy(Reason.UNREADABLE_PIXELS, f"the codestream has {len(codestream)} bytes for a frame of "
                                f"{expected.length}")
        try:
            return self._once(codestream, transfer_syntax_uid, expected, fresh=False)
        except _Ended as error:
            if error.cause == "timeout":
                raise DecoderFailed(Reason.DECODER_FAILED, str(error)) from error
        try:  # it may have been ended from outside, or hurt by an earlier frame: a new one decides
            return self._once(codestream, transfer_syntax_uid, expected, fresh=True)
        except _Ended as error:
            raise DecoderFailed(Reason.DECODER_FAILED, str(error)) from error

    def close(self) -> None:
        """End every process; those at work are waited for."""
        for _ in range(self._count):
            process = self._places.get()
            if process is not None:
                process.end()
        for _ in range(self._count):
            self._places.put(None)

    def _once(self, codestream: bytes, transfer_syntax_uid: str, expected: FrameShape, fresh: bool) -> Frame:
        process, kept = self._places.get(), None
        try:
            if process is not None and fresh:
                process.end()
                process = None
            if process is None:
                process = self._started()
            kept = process
            return process.decode(codestream, transfer_syntax_uid, expected)
        except _Ended as error:
            self._discard(process, error.cause)
            kept = None
            _log.warning("a decoding process ended", extra={"cause": error.cause, "detail": str(error)})
            raise
        finally:
            if kept is not None and kept.frames >= self._frames_each:
                self._discard(kept, "recycled")
                kept = None
            self._places.put(kept)

    def _started(self) -> _Process:
        try:
            return _Process(self._program, self._timeout_s, self._memory_bytes)
        except OSError as error:
            raise Unavailable(Reason.INTERNAL_ERROR, f"a decoding process cannot be started ({error.strerror})") from error

    def _discard(self, process: _Process | None, cause: str) -> None:
        if process is not None:
            process.end()
            self._metrics.decoders_ended.labels(cause).inc()


def _shared_memory() -> int:
    """Return the descriptor of memory that takes room only where it is written; not /dev/shm, small in containers."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("frames")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, _AREA_BYTES)
    return descriptor


def _environment() -> dict[str, str]:
    """Return what the process needs to find its modules; none of the settings, for they hold passwords."""
    paths = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path if entry)
    return {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def _printable(text: bytes) -> str:
    return "".join(c for c in text.rstrip(b"\0").decode("ascii", "replace") if c.isprintable())
