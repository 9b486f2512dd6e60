"""The program of a decoding process: takes compressed frames from its parent one by one, and can do nothing else.

Decoders are C code that reads what a stranger wrote. Here one may crash, hang or ask for all memory: it takes this
process with it, not the service. Before the first frame the process gives up opening files and sockets, writing files
and growing beyond a limit, and offers itself to the kernel first when memory runs out. Frames come and go through
memory that both sides map; only numbers go over the socket.

Called as: python -m service.prepare.decoder_process SOCKET AREA MEMORY_BYTES CPU_S (two file descriptors, two limits).
"""

from __future__ import annotations

import mmap
import os
import resource
import socket
import struct
import sys
import time
from pathlib import Path

import numpy as np

from service.errors import UnusableStudy
from service.prepare.codestream import FrameDecoder, FrameShape, decode_frame, load_decoders

REQUEST = struct.Struct("<64sIIBB?Q")
"""Transfer syntax UID, rows, columns, samples, bytes of a sample, luminance and colour differences, codestream bytes."""

ANSWER = struct.Struct("<?cB200s")
"""Whether it was decoded; then kind (u, i) and bytes of a sample, else why not, in ASCII."""

READY = b"\x06"
_PAGE_BYTES = 4096


def frame_offset(codestream_bytes: int) -> int:
    """Return where in the area the decoded frame begins: the page after the codestream."""
    return -(-codestream_bytes // _PAGE_BYTES) * _PAGE_BYTES


def confine(memory_bytes: int) -> None:
    """Give up what decoding does not need. memory_bytes: how much the process may grow from here."""
    Path("/proc/self/oom_score_adj").write_text("1000")
    held_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    for what, most in (
        (resource.RLIMIT_AS, held_bytes + memory_bytes), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 0),
    ):
        resource.setrlimit(what, (most, most))


def serve(connection: socket.socket, area: mmap.mmap, cpu_s: int, decoder: FrameDecoder = decode_frame) -> None:
    """Decode frames until the parent closes the connection. cpu_s: processor time for one frame; the kernel ends more."""
    connection.sendall(READY)
    while request := connection.recv(REQUEST.size, socket.MSG_WAITALL):
        resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + cpu_s + 1, resource.RLIM_INFINITY))
        connection.sendall(_answer(request, area, decoder))


def _answer(request: bytes, area: mmap.mmap, decoder: FrameDecoder) -> bytes:
    syntax, rows, columns, samples, bytes_per_sample, ycbcr, length = REQUEST.unpack(request)
    expected = FrameShape(rows, columns, samples, bytes_per_sample, ycbcr)
    try:
        frame = decoder(area[:length], syntax.rstrip(b"\0").decode("ascii"), expected)
    except UnusableStudy as error:
        return ANSWER.pack(False, b" ", 0, error.detail.encode("ascii", "replace")[:200])
    target = np.frombuffer(area, frame.dtype, frame.size, frame_offset(length)).reshape(frame.shape)
    target[...] = frame
    return ANSWER.pack(True, frame.dtype.kind.encode(), frame.dtype.itemsize, b"")


def main(decoder: FrameDecoder = decode_frame) -> None:
    """Run the process with the arguments of the command line."""
    descriptor, area, memory_bytes, cpu_s = (int(argument) for argument in sys.argv[1:5])
    with socket.socket(fileno=descriptor) as connection, mmap.mmap(area, 0) as shared:
        os.close(area)
        load_decoders()
        confine(memory_bytes)
        serve(connection, shared, cpu_s, decoder)


if __name__ == "__main__":
    main()
