"""A file whose blocks are on the disk before an image comes: one write makes the image durable in it.

To make a new file durable, a file system has to commit the file and its name, each with a wait for the disk. A ready file
has its blocks and a name already, in a folder of ready files. The last write to it, past the page cache, brings the head: it
stands in the preamble, which PS3.10 7.1 leaves to whoever writes the file, and says how long the image is, when it came, and
what the sum of its bytes is. From then on the image survives a power cut. Afterwards the file is cut to its length and
linked to its place in the spool; head and name among the ready files go when the disk has the other. A start does the same
for those that a crash has left; a head that is not there, or a sum that is wrong: the image was never acknowledged.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from service.receive.blocks import BLOCK_BYTES, go_cached, open_direct, remove, write_all

WHOLE = ".dcm"
_MAGIC = b"firstlook image\0"
_HEAD = struct.Struct("<16sQdQ")
_SUM = struct.Struct("<L")
HEAD_BYTES = _HEAD.size + _SUM.size
_PIECE_BYTES = 1_048_576
_WORD = np.dtype("<u8")
_ROUND = 1 << 64


@dataclass(frozen=True, eq=False)
class Kind:
    """Ready files of one size. size_bytes: whole blocks; count: how many there are when all are made."""

    size_bytes: int
    count: int


class ReadyFile:
    """One ready file that an image is written to. One thread at a time; `settle` or `drop` must end it.

    spool: the folder below which the image has its place; name: 32 hex digits, of the file now and of its place later.
    Raises: OSError when it cannot be opened.
    """

    def __init__(self, folder: str, spool: str, name: str) -> None:
        self.path = place_of(name)
        self._now, self._later = f"{folder}/{name}", f"{spool}/{self.path}"
        self.descriptor, self._direct = open_direct(self._now)
        self._sum = 0

    def put(self, data: memoryview, offset: int) -> None:
        """Write whole blocks from a page on.  Raises: OSError."""
        self._sum += sum_of(data)
        self._write(data, offset)

    def put_rest(self, data: memoryview, size_bytes: int, offset: int) -> None:
        """Write the last of the image, zeros behind it up to the end of the block.  Raises: OSError."""
        self.put(data, offset)

    def seal(self, first: memoryview, rest: memoryview, offset: int, size_bytes: int, received_at: float) -> None:
        """Write what is left of the image, and the head: when this returns, the image survives a power cut.

        first: its first block; rest: what was not put, as put_rest takes it, at `offset`, which is 0 when that is all.
        size_bytes: of the image; received_at: Unix time, seconds.  Raises: OSError.
        """
        self._sum += sum_of(rest)
        write_head(first, size_bytes, received_at, self._sum)
        if offset:
            self._write(rest, offset)
        self._write(first if offset else rest, 0, durably=True)

    def settle(self, last: memoryview, size_bytes: int) -> None:
        """Give the sealed image its length and its place; nobody waits for the disk to have these.  Raises: OSError.

        last: the block that the image ends in. It goes to the page cache too: else the file system would read it to cut it.
        """
        if self._direct and size_bytes % BLOCK_BYTES:
            go_cached(self.descriptor)
            os.pwrite(self.descriptor, last, (size_bytes - 1) // BLOCK_BYTES * BLOCK_BYTES)
        os.ftruncate(self.descriptor, size_bytes)
        os.link(self._now, self._later)
        self.close()

    def drop(self) -> None:
        """Remove the file: what was written to it does not count."""
        self.close()
        remove(self._now)

    def forget(self) -> None:
        """Take the head and the name among the ready files away: the disk has the image in its place.  Raises: OSError."""
        forget(self._now)

    def close(self) -> None:
        """Close the file; nothing happens the second time."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def _write(self, data: memoryview, offset: int, durably: bool = False) -> None:
        self._direct = write_all(self.descriptor, data, offset, self._direct, durably)


def place_of(name: str) -> str:
    """Return the place of a ready file in the spool: its path relative to it."""
    return f"{name[:2]}/{name}{WHOLE}"


def make_ready(path: str, size_bytes: int) -> None:
    """Make one ready file; the disk does not have it before it is told to sync.  Raises: OSError."""
    descriptor, direct = open_direct(path, os.O_CREAT | os.O_EXCL)
    try:
        with mmap.mmap(-1, size_bytes) as zeros, memoryview(zeros) as view:
            write_all(descriptor, view, 0, direct)
    except OSError:
        remove(path)
        raise
    finally:
        os.close(descriptor)


def sum_of(data: memoryview) -> int:
    """Return the sum of the 64-bit words of whole blocks: it tells whether any is missing, where zeros were before."""
    return int(np.frombuffer(data, _WORD).sum(dtype=_WORD))


def write_head(block: memoryview, size_bytes: int, received_at: float, total: int) -> None:
    """Put the head into the preamble of an image. total: the sum of its blocks while that was zero."""
    head = _HEAD.pack(_MAGIC, size_bytes, received_at, total % _ROUND)
    block[:HEAD_BYTES] = head + _SUM.pack(zlib.crc32(head))


def recover(path: Path, spool: Path) -> bool:
    """Give the image that a crash has left in a ready file its length, time and place; True.

    False: there is no image in it that was sealed. The name among the ready files stays.  Raises: OSError.
    """
    with path.open("r+b") as file:
        size_bytes, received_at = _read(file)
        if not size_bytes:
            return False
        file.truncate(size_bytes)
        os.utime(file.fileno(), (received_at, received_at))
    place = spool / place_of(path.name)
    if not place.exists():
        os.link(path, place)
    return True


def _read(file: BinaryIO) -> tuple[int, float]:
    """Return (size in bytes, when it came) of the image in a ready file; (0, 0.0): none that was sealed, and whole."""
    head = file.read(HEAD_BYTES).ljust(HEAD_BYTES, b"\0")
    magic, size_bytes, received_at, expected = _HEAD.unpack_from(head)
    if magic != _MAGIC or _SUM.unpack_from(head, _HEAD.size)[0] != zlib.crc32(head[:_HEAD.size]):
        return 0, 0.0
    total, left = 0, size_bytes - HEAD_BYTES
    before = bytes(HEAD_BYTES)
    while left > 0:
        data = file.read(min(left, _PIECE_BYTES - len(before)))
        if not data:
            return 0, 0.0
        left -= len(data)
        total += sum_of(memoryview((before + data).ljust(_PIECE_BYTES, b"\0")))
        before = b""
    return (size_bytes, received_at) if total % _ROUND == expected else (0, 0.0)


def forget(path: str) -> None:
    """Make the preamble zeros again, then remove the name: an image that the disk has in its place.  Raises: OSError."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        kept = os.fstat(descriptor)
        os.pwrite(descriptor, bytes(HEAD_BYTES), 0)
        os.utime(descriptor, ns=(kept.st_atime_ns, kept.st_mtime_ns))  # when it came
    finally:
        os.close(descriptor)
    remove(path)
