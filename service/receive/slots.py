"""The file of a journal: where its slots lie, who has it, and what a crash has left in it.

Layout: the index, two blocks, 8 bytes each: for each slot the lowest number that counts in it, then how many slots of each
kind were made. Then the slots: a block for the head (number and size of the file, when it came, a sum over it, its path, a
sum over all that) and the bytes of the file. A head whose number is below that of the index, or a sum that is wrong, means
nothing: the file has its own place already, or was never acknowledged.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import secrets
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

BLOCK_BYTES = 4096
BUFFER_BYTES = 1_048_576
INDEX_BYTES = 2 * BLOCK_BYTES
_MAGIC = b"firstlookjournal"
_HEAD = struct.Struct("<16sQQdLL")
_SUM = struct.Struct("<L")
_ENDING = ".journal"
_DIRECT: int = getattr(os, "O_DIRECT", 0)


@dataclass(frozen=True, eq=False)
class Kind:
    """Slots of one size.

    most_bytes: of a file that fits; count: the most slots; step: so many are made at least; first: where they begin, bytes;
    entry: of the first in the index.
    """

    most_bytes: int
    count: int
    step: int
    first: int
    entry: int

    @property
    def slot_bytes(self) -> int:
        """How much of the journal one slot takes."""
        return BLOCK_BYTES + self.most_bytes

    def offset(self, place: int) -> int:
        """Return where a slot begins."""
        return self.first + place * self.slot_bytes


SMALL = Kind(61_440, 512, 64, INDEX_BYTES, 0)
LARGE = Kind(BUFFER_BYTES, 64, 16, SMALL.offset(SMALL.count), SMALL.count)
KINDS = (SMALL, LARGE)
ENTRIES = sum(kind.count for kind in KINDS)
_MOST = 2**63  # a number beyond is damage
_INDEX = struct.Struct(f"<{ENTRIES + len(KINDS)}Q")


@dataclass(frozen=True)
class Saved:
    """A file that a journal holds. path: relative to the spool; received_at: Unix time, seconds."""

    path: str
    content: bytes
    received_at: float


def write_head(block: memoryview, number: int, size_bytes: int, received_at: float, total: int, path: str) -> None:
    """Put the head of a slot into a block. total: the sum (CRC-32) over the file; received_at: Unix time, seconds."""
    name = path.encode("ascii")
    head = _HEAD.pack(_MAGIC, number, size_bytes, received_at, total, len(name)) + name
    block[:len(head) + _SUM.size] = head + _SUM.pack(zlib.crc32(head))


def write_index(block: mmap.mmap, index: list[int], made: dict[Kind, int]) -> None:
    """Put the index into its blocks."""
    _INDEX.pack_into(block, 0, *index, *(made[kind] for kind in KINDS))


def read_index(descriptor: int) -> tuple[list[int], dict[Kind, int]]:
    """Return the lowest number that counts for each slot, and how many slots of each kind there are."""
    numbers = _INDEX.unpack(os.pread(descriptor, _INDEX.size, 0).ljust(_INDEX.size, b"\0"))
    made = {kind: min(kind.count, count) for kind, count in zip(KINDS, numbers[ENTRIES:], strict=True)}
    return [number if number < _MOST else 0 for number in numbers[:ENTRIES]], made


def highest(descriptor: int) -> int:
    """Return the highest number that stands anywhere in a journal, counting or not."""
    heads = [_HEAD.unpack_from(head)[:2] for _, _, head in _heads(descriptor)]
    counting = (int(number) for magic, number in heads if magic == _MAGIC and number < _MOST)
    return max([*read_index(descriptor)[0], *counting])


def used(descriptor: int) -> set[tuple[Kind, int]]:
    """Return the slots that have held a file since they were last overwritten."""
    return {(kind, place) for kind, place, head in _heads(descriptor) if any(head[:len(_MAGIC)])}


def restore_left(folder: Path, restore: Callable[[Saved], None]) -> int:
    """Hand over every file that is left in a journal whose process is gone; return how many.

    restore: makes one durable in its own place.  Raises: OSError, what restore raises; then the journal stays as it is.
    """
    restored = 0
    for path in sorted(folder.glob("*" + _ENDING)):
        descriptor = _locked(path)
        if descriptor is not None:
            try:
                restored += hand_over(descriptor, restore)
            finally:
                os.close(descriptor)
    return restored


def hand_over(descriptor: int, restore: Callable[[Saved], None]) -> int:
    """Restore what counts in a journal, and have nothing count afterwards; return how many.  Raises: as restore_left."""
    count = 0
    for saved in _saved(descriptor):
        restore(saved)
        count += 1
    if count:
        _, made = read_index(descriptor)
        os.pwrite(descriptor, _INDEX.pack(*[highest(descriptor) + 1] * ENTRIES, *made.values()), 0)
        os.fsync(descriptor)
    return count


def own(folder: Path) -> tuple[int, Path]:
    """Return the descriptor, locked, and the path of a journal that nobody has, or of a new one.  Raises: OSError."""
    for path in sorted(folder.glob("*" + _ENDING)):
        descriptor = _locked(path)
        if descriptor is not None:
            return descriptor, path
    path = folder / (secrets.token_hex(8) + _ENDING)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    descriptor = _locked(path)
    if descriptor is None:
        raise BlockingIOError(errno.EWOULDBLOCK, "another process has taken our new journal")
    return descriptor, path


def open_direct(path: Path, otherwise: int) -> int:
    """Return a descriptor that writes past the page cache; `otherwise` where the file system knows no such thing."""
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC | _DIRECT) if _DIRECT else otherwise
    except OSError:
        return otherwise


def write_zeros(descriptor: int, offset: int, size_bytes: int) -> None:
    """Write zeros, whole blocks of them.  Raises: OSError."""
    with mmap.mmap(-1, min(size_bytes, BUFFER_BYTES)) as zeros, memoryview(zeros) as view:
        end = offset + size_bytes
        while offset < end:
            offset += os.pwrite(descriptor, view[:end - offset], offset)


def _saved(descriptor: int) -> Iterator[Saved]:
    """Yield the files that count in a journal, each whole."""
    index, _ = read_index(descriptor)
    for kind, place, head in _heads(descriptor):
        magic, number, size_bytes, received_at, total, name_bytes = _HEAD.unpack_from(head)
        end = _HEAD.size + name_bytes
        if magic != _MAGIC or end + _SUM.size > len(head) or _SUM.unpack_from(head, end)[0] != zlib.crc32(head[:end]):
            continue
        if number < index[kind.entry + place] or size_bytes > kind.most_bytes:
            continue
        content = os.pread(descriptor, size_bytes, kind.offset(place) + BLOCK_BYTES)
        if len(content) == size_bytes and zlib.crc32(content) == total:
            yield Saved(head[_HEAD.size:end].decode("ascii"), content, received_at)


def _heads(descriptor: int) -> Iterator[tuple[Kind, int, bytes]]:
    _, made = read_index(descriptor)
    for kind in KINDS:
        for place in range(made[kind]):
            yield kind, place, os.pread(descriptor, BLOCK_BYTES, kind.offset(place)).ljust(BLOCK_BYTES, b"\0")


def _locked(path: Path) -> int | None:
    """Return the descriptor of a journal, locked until it is closed; None when another process has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
