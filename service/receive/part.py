"""A file of the spool while it is being written: from one buffer, past the page cache, durable when committed.

The buffer begins at a page, and so does what is written of it: whole blocks go to the disk without a copy (O_DIRECT)
while the next bytes are still coming in, into a slot of the journal where there is one free, else into the file itself.
There only the last, broken block takes the ordinary way. Small objects take it altogether, and so does everything on a
file system that knows no direct writing.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import mmap
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType

from service.errors import FirstlookError, OutOfSpace, Reason, Unavailable
from service.receive.journal import Journal, Slot
from service.receive.slots import BLOCK_BYTES, BUFFER_BYTES

_STRIDE_BYTES = 262_144
_SPARE_BUFFERS = 8
_DIRECT: int = getattr(os, "O_DIRECT", 0)
_CLOSED = memoryview(b"")
_NO_ROOM = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


@dataclass(frozen=True)
class Spooled:
    """An instance that is on the disk for good. path: relative to the spool; sha256 and size_bytes: of the data set."""

    path: str
    sha256: str
    size_bytes: int


class Buffers:
    """Buffers that were used before, for their pages are there already. Safe to share between threads."""

    def __init__(self) -> None:
        self._spare: list[mmap.mmap] = []

    def take(self) -> mmap.mmap:
        """Return a buffer of a block and BUFFER_BYTES that begins at a page; what it holds is left over."""
        try:
            return self._spare.pop()
        except IndexError:
            return mmap.mmap(-1, BLOCK_BYTES + BUFFER_BYTES)

    def give(self, buffer: mmap.mmap) -> None:
        """Take a buffer back."""
        if len(self._spare) < _SPARE_BUFFERS:
            self._spare.append(buffer)


class Part:
    """A file being written: `meta`, then the data set, by `write`, or by `room` and `filled`.

    `commit` makes it durable, `spooled` gives it its final name where that is still to be done, `close` ends it in any
    case: what was not committed is removed. journal: where it becomes durable first, if there is room in it.
    One thread only.  Raises: OSError when the file cannot be made.
    """

    def __init__(self, temporary: str, final: str, path: str, meta: bytes, buffers: Buffers,
                 journal: Journal | None = None) -> None:
        self._temporary, self._final, self.path = temporary, final, path
        self._meta_bytes = len(meta)
        self._descriptor = -1
        self._journal = journal
        self._slot: Slot | None = None
        if journal is None:
            self._open()
        self._direct, self._committed = False, False
        self._buffers, self._buffer = buffers, buffers.take()
        self._whole = memoryview(self._buffer)  # a block for the head of a slot, then the file
        self._view = self._whole[BLOCK_BYTES:]
        self._view[:len(meta)] = meta
        self._base = self._written = 0  # offset in the file of the buffer's first byte; how far the buffer is written
        self._hashed = self._end = len(meta)
        self._sha256 = hashlib.sha256()

    @property
    def size_bytes(self) -> int:
        """How many bytes of the data set were put in."""
        return self._base + self._end - self._meta_bytes

    def room(self) -> memoryview:
        """Return where the next bytes of the data set belong, never empty; `filled` tells how many came."""
        return self._view[self._end:]

    def filled(self, size_bytes: int) -> None:
        """Take the bytes that were put in the room; whole strides go to the disk.  Raises: OutOfSpace, Unavailable."""
        self._end += size_bytes
        self._put_strides()
        if self._end == BUFFER_BYTES:
            self._leave_journal()  # larger than a slot
            self._hash()
            self._base, self._end = self._base + BUFFER_BYTES, 0
            self._written = self._hashed = 0

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes of the data set as received.  Raises: OutOfSpace, Unavailable."""
        view = memoryview(data)
        while view:
            room = self.room()
            size = min(len(room), len(view))
            room[:size] = view[:size]
            self.filled(size)
            view = view[size:]

    def fileno(self) -> int:
        """Return the descriptor of the file itself; with a journal there is none until the image is safe."""
        return self._descriptor

    @contextmanager
    def whole(self) -> Iterator[tuple[memoryview, int]]:
        """Yield the file as received so far, and the byte offset of the data set in it; not past the `with` block.

        It comes from the buffer; when larger than that, it is mapped, not read.  Raises: OutOfSpace, Unavailable.
        """
        if not self._base:
            yield self._view[:self._end], self._meta_bytes
            return
        self._put_rest()
        try:
            data = mmap.mmap(self._descriptor, self._base + self._end, access=mmap.ACCESS_READ)
        except OSError as error:
            raise mapped(error) from error
        with data, memoryview(data) as view:
            yield view, self._meta_bytes

    def commit(self, received_at: float | None = None) -> None:
        """Make it durable: after this it survives a power cut. received_at: Unix time, seconds; None: now.

        Raises: OutOfSpace, Unavailable; then nothing is left under the final name.
        """
        if self._sealed(time.time() if received_at is None else received_at):
            self._committed = True
            return
        self._leave_journal()
        self._put_rest()
        try:
            os.fsync(self._descriptor)
            os.rename(self._temporary, self._final)  # noqa: PTH104 - one call for each image; paths cost more
            sync_folder(os.path.dirname(self._final))  # noqa: PTH120
        except OSError as error:
            _remove(self._final)
            raise mapped(error) from error
        self._committed = True

    def spooled(self) -> Spooled:
        """Return what the row of the committed file needs, when the file has its final name.

        What takes longest is done here, and can wait until the image was answered.
        Raises: OutOfSpace, Unavailable; then the journal keeps the image, and the next start makes the file.
        """
        if self._slot is not None:
            self._settle(self._slot)
        self._hash()
        return Spooled(self.path, self._sha256.hexdigest(), self.size_bytes)

    def close(self) -> None:
        """Close the file, and remove it unless it was committed; nothing happens the second time."""
        if self._view is _CLOSED:
            return
        if self._slot is not None and not self._committed:
            self._slot.free()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            if not self._committed or self._slot is not None:
                _remove(self._temporary)
        self._slot, self._descriptor = None, -1
        self._view.release()
        self._whole.release()
        self._view = self._whole = _CLOSED
        self._buffers.give(self._buffer)

    def __enter__(self) -> Part:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def _hash(self) -> None:
        self._sha256.update(self._view[self._hashed:self._end])
        self._hashed = self._end

    def _sealed(self, received_at: float) -> bool:
        """Make it durable in the journal; False: there is no journal, no room in it, or the disk did not take it."""
        if self._journal is None:
            return False
        self._slot = self._slot or self._journal.take(self._end)
        if self._slot is None:
            return False
        try:
            self._slot.seal(self._whole, self._end, self.path, received_at)
        except OSError:
            self._slot.settled()  # whatever of it has come to the disk shall not count
            self._slot = None
            return False
        return True

    def _settle(self, slot: Slot) -> None:
        """Write the file of an image that is safe in the journal; nobody waits for the disk to have it."""
        try:
            self._open()
            self._write_all()
            os.rename(self._temporary, self._final)  # noqa: PTH104
        except OSError as error:
            raise mapped(error) from error
        self._slot = None
        slot.settled()

    def _leave_journal(self) -> None:
        """Go on without the journal, from the first byte; nothing happens where there is none."""
        if self._journal is None:
            return
        if self._slot is not None:
            self._slot.free()
        self._journal, self._slot = None, None
        self._written = 0
        try:
            self._open()
        except OSError as error:
            raise mapped(error) from error
        self._put_strides()

    def _open(self) -> None:
        self._descriptor = os.open(self._temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)

    def _write_all(self) -> None:
        """Write the file from the buffer, all of which is in it."""
        self._direct, self._written = False, 0
        while self._written < self._end:
            self._written += os.pwrite(self._descriptor, self._view[self._written:self._end], self._written)

    def _put_strides(self) -> None:
        while self._end - self._written >= _STRIDE_BYTES:
            self._put(_STRIDE_BYTES)

    def _put(self, size_bytes: int) -> None:
        """Write whole blocks, past the page cache where that is possible; to the journal if there is room."""
        if self._journal is not None:
            if not self._put_in_slot(self._journal, self._written + size_bytes):
                self._leave_journal()
            return
        if not self._direct and _DIRECT:
            self._direct = self._set_flag(_DIRECT)
        self._write(size_bytes)

    def _put_in_slot(self, journal: Journal, end: int) -> bool:
        """Write the file up to `end` to a slot; False: there is none, or the disk did not take it."""
        self._slot = self._slot or journal.take(BUFFER_BYTES)
        if self._slot is None:
            return False
        try:
            self._slot.write(self._whole, end)
        except OSError:
            return False
        self._written = end
        return True

    def _put_rest(self) -> None:
        """Write what is not written yet, the broken block at the end through the page cache."""
        whole = (self._end - self._written) // BLOCK_BYTES * BLOCK_BYTES if self._direct else 0
        if whole:
            self._write(whole)
        if self._direct and self._end > self._written:
            self._direct = not self._set_flag(0)
        if self._end > self._written:
            self._write(self._end - self._written)

    def _write(self, size_bytes: int) -> None:
        end = self._written + size_bytes
        while self._written < end:
            try:
                self._written += os.pwrite(
                    self._descriptor, self._view[self._written:end], self._base + self._written)
            except OSError as error:
                if not (self._direct and error.errno == errno.EINVAL and self._set_flag(0)):
                    raise mapped(error) from error
                self._direct = False  # other blocks than ours

    def _set_flag(self, flag: int) -> bool:
        """Set the way of writing; False where the file system does not know it."""
        try:
            fcntl.fcntl(self._descriptor, fcntl.F_SETFL, flag)
        except OSError:
            return False
        return True


def sync_folder(folder: str) -> None:
    """Make the names in a folder durable.  Raises: OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def mapped(error: OSError) -> FirstlookError:
    """Return our error for what the file system says."""
    if error.errno in _NO_ROOM:
        return OutOfSpace(Reason.OUT_OF_SPACE, "the disk of the spool is full")
    name = errno.errorcode.get(error.errno or 0, "unknown")
    return Unavailable(Reason.INTERNAL_ERROR, f"the spool cannot be written ({name})")


def _remove(path: str) -> None:
    try:
        os.unlink(path)  # noqa: PTH108
    except FileNotFoundError:
        return
