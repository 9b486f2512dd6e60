"""An image of the spool while it is being written: from one buffer, past the page cache, durable when committed.

The buffer begins at a page, and so does what is written of it: whole blocks go to the disk without a copy (O_DIRECT), to a
ready file where there is one, else to a file of their own. An image that fits into the buffer is written at once when all of
it is here: for each write the disk is waited for.
"""

from __future__ import annotations

import errno
import hashlib
import mmap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType

from service.errors import FirstlookError, OutOfSpace, Reason, Unavailable
from service.receive.blocks import BLOCK_BYTES
from service.receive.plain_file import PlainFile
from service.receive.ready import LARGE_BYTES, Ready
from service.receive.ready_file import ReadyFile

BUFFER_BYTES = 1_048_576
_PREAMBLE_BYTES = 128
_SPARE_BUFFERS = 24
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
        """Return a buffer of BUFFER_BYTES and a block that begins at a page; what it holds is left over."""
        try:
            return self._spare.pop()
        except IndexError:
            return mmap.mmap(-1, BUFFER_BYTES + BLOCK_BYTES)

    def give(self, buffer: mmap.mmap) -> None:
        """Take a buffer back."""
        if len(self._spare) < _SPARE_BUFFERS:
            self._spare.append(buffer)


class Part:
    """An image being written: `meta`, then the data set, by `write`, or by `room` and `filled`.

    `commit` makes it durable, `spooled` gives it its final name where that is still to be done, `close` ends it in any
    case: what was not committed is removed.
    plain: makes the file of its own; ready: where a ready file comes from. One thread at a time.
    """

    def __init__(self, plain: Callable[[], PlainFile], meta: bytes, buffers: Buffers, ready: Ready | None = None) -> None:
        self._plain, self._ready = plain, ready
        self._file: PlainFile | ReadyFile | None = None
        self._meta_bytes = len(meta)
        self._committed = self._settled = False
        self._buffers, self._buffer = buffers, buffers.take()
        self._view = memoryview(self._buffer)
        self._view[:len(meta)] = meta
        self._base = self._written = 0  # offset in the file of the buffer's first byte; how far the buffer is written
        self._hashed = self._end = len(meta)
        self._sha256 = hashlib.sha256()

    @property
    def path(self) -> str:
        """Path of the committed image, relative to the spool."""
        assert self._file is not None, "not committed"
        return self._file.path

    @property
    def size_bytes(self) -> int:
        """How many bytes of the data set were put in."""
        return self._base + self._end - self._meta_bytes

    def room(self) -> memoryview:
        """Return where the next bytes of the data set belong, never empty; `filled` tells how many came."""
        return self._view[self._end:BUFFER_BYTES]

    def filled(self, size_bytes: int) -> None:
        """Take the bytes that were put in the room; a full buffer goes to the disk.  Raises: OutOfSpace, Unavailable."""
        self._end += size_bytes
        if self._end == BUFFER_BYTES:
            self._put(self._end)
            self._hash()
            if not self._base:
                self._view[BUFFER_BYTES:] = self._view[:BLOCK_BYTES]
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

    @contextmanager
    def whole(self) -> Iterator[tuple[memoryview, int]]:
        """Yield the file as received so far, and the byte offset of the data set in it; not past the `with` block.

        It comes from the buffer; when larger than that, it is mapped, not read, and nothing may be written any more.
        Raises: OutOfSpace, Unavailable.
        """
        if not self._base:
            yield self._view[:self._end], self._meta_bytes
            return
        file, rest = self._chosen(), self._rest()
        try:
            file.put_rest(rest, self._end - self._written, self._base + self._written)
            self._written += len(rest)
            data = mmap.mmap(file.descriptor, self._base + self._end, access=mmap.ACCESS_READ)
        except OSError as error:
            raise mapped(error) from error
        with data, memoryview(data) as view:
            yield view, self._meta_bytes

    def commit(self, received_at: float | None = None) -> None:
        """Make it durable: after this it survives a power cut. received_at: Unix time, seconds; None: now.

        Raises: OutOfSpace, Unavailable; then nothing is left under the final name.
        """
        at = time.time() if received_at is None else received_at
        self._do(lambda file: self._seal(file, at))
        self._committed = True

    def spooled(self) -> Spooled:
        """Return what the row of the committed file needs, when the file has its final name.

        What takes longest is done here, and can wait until the image was answered.
        Raises: OutOfSpace, Unavailable; then the next start gives the image its name.
        """
        file = self._chosen()
        if not self._settled:
            self._settled = True
            last = max(0, self._end - 1) // BLOCK_BYTES * BLOCK_BYTES
            try:
                file.settle(self._view[last:last + BLOCK_BYTES], self._base + self._end)
            except OSError as error:
                raise mapped(error) from error
            if isinstance(file, ReadyFile) and self._ready is not None:
                self._ready.settled(file)
        self._hash()
        return Spooled(self.path, self._sha256.hexdigest(), self.size_bytes)

    def close(self) -> None:
        """Close the file, and remove it unless it was committed; nothing happens the second time."""
        if self._view is _CLOSED:
            return
        if self._file is not None:
            if self._committed:
                self._file.close()
            else:
                self._file.drop()
        self._view.release()
        self._view = _CLOSED
        self._buffers.give(self._buffer)

    def __enter__(self) -> Part:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def _hash(self) -> None:
        self._sha256.update(self._view[self._hashed:self._end])
        self._hashed = self._end

    def _chosen(self) -> PlainFile | ReadyFile:
        """Return the file that is written to; a ready one where there is one for what is here."""
        if self._file is None and self._ready is not None:
            self._file = self._ready.take(min(LARGE_BYTES, self._end))
        self._file = self._file or self._plain()
        return self._file

    def _changed(self) -> PlainFile:
        """Go on with a file of its own, from the first byte: the ready file could not be written.  Raises: OSError."""
        assert self._file is not None and not self._base
        self._file.drop()
        self._view[:_PREAMBLE_BYTES] = bytes(_PREAMBLE_BYTES)
        self._file, self._written = self._plain(), 0
        return self._file

    def _put(self, end: int) -> None:
        """Write whole blocks up to `end`.  Raises: OutOfSpace, Unavailable."""
        self._do(lambda file: file.put(self._view[self._written:end], self._base + self._written))
        self._written = end

    def _do(self, act: Callable[[PlainFile | ReadyFile], None]) -> None:
        """Write to the file; where a ready one does not take the first that it gets, to one of its own.

        Raises: OutOfSpace, Unavailable.
        """
        file = self._chosen()
        try:
            try:
                act(file)
            except OSError:
                if isinstance(file, PlainFile) or self._base:
                    raise
                act(self._changed())
        except OSError as error:
            raise mapped(error) from error

    def _rest(self) -> memoryview:
        """Return what is not written yet, and zeros behind it up to the end of the block."""
        end = -(-self._end // BLOCK_BYTES) * BLOCK_BYTES
        self._view[self._end:end] = bytes(end - self._end)
        return self._view[self._written:end]

    def _seal(self, file: PlainFile | ReadyFile, received_at: float) -> None:
        first = self._view[BUFFER_BYTES:] if self._base else self._view[:BLOCK_BYTES]
        file.seal(first, self._rest(), self._base + self._written, self._base + self._end, received_at)


def mapped(error: OSError) -> FirstlookError:
    """Return our error for what the file system says."""
    if error.errno in _NO_ROOM:
        return OutOfSpace(Reason.OUT_OF_SPACE, "the disk of the spool is full")
    name = errno.errorcode.get(error.errno or 0, "unknown")
    return Unavailable(Reason.INTERNAL_ERROR, f"the spool cannot be written ({name})")
