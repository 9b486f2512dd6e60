"""A journal: an image is durable in it by one write over blocks that are there already, before its own file is.

To make a new file durable, a file system commits twice: the file, then its name. A journal is one file whose blocks were
allotted and written before. An image goes into a free slot of it, past the page cache, and one flush of the disk makes it
safe. Its own file is written afterwards, while the sender gets the next image ready, and the file system takes that to the
disk with those of many others; then their slots are free again. A start writes the files of the slots that a crash has
left. Where no slot is free, or the disk is nearly full, an image goes straight to its own file.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import mmap
import os
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable
from pathlib import Path

from service import logs
from service.receive.slots import (
    BLOCK_BYTES,
    ENTRIES,
    INDEX_BYTES,
    LARGE,
    SMALL,
    Kind,
    Saved,
    hand_over,
    highest,
    open_direct,
    own,
    read_index,
    used,
    write_head,
    write_index,
    write_zeros,
)

_LONGEST_S = 1.0
_QUIET_S = 60.0
_DURABLY: int = getattr(os, "RWF_DSYNC", 0)
_log = logs.get("receive.journal")


class Slot:
    """A place for one file. One thread only; `free`, or `seal` and then `settled`, must end it."""

    def __init__(self, journal: Journal, kind: Kind, place: int) -> None:
        self.kind, self.place, self._journal = kind, place, journal
        self._offset = kind.offset(place)
        self._written, self._sum = 0, 0

    def write(self, whole: memoryview, end: int) -> None:
        """Write the file up to `end`, a multiple of BLOCK_BYTES; whole: a block for the head, then the file.

        Raises: OSError.
        """
        start, self._written = BLOCK_BYTES + self._written, end
        piece = whole[start:BLOCK_BYTES + end]
        self._sum = zlib.crc32(piece, self._sum)
        self._journal.write(piece, self._offset + start)

    def seal(self, whole: memoryview, size_bytes: int, path: str, received_at: float) -> None:
        """Write the rest of the file, then the head: when this returns, the file survives a power cut.  Raises: OSError."""
        start, end = BLOCK_BYTES + self._written, BLOCK_BYTES + -(-size_bytes // BLOCK_BYTES) * BLOCK_BYTES
        total = zlib.crc32(whole[start:BLOCK_BYTES + size_bytes], self._sum)
        write_head(whole[:BLOCK_BYTES], self._journal.next_number(), size_bytes, received_at, total, path)
        if self._written:
            self._journal.write(whole[start:end], self._offset + start)
            end = BLOCK_BYTES
        self._journal.write(whole[:end], self._offset, durably=True)

    def free(self) -> None:
        """Give the slot back: nothing in it counts."""
        self._journal.give_back(self)

    def settled(self) -> None:
        """Say that the file has its own place and name now, or that what was sealed shall not count."""
        self._journal.give_back_when_synced(self)


class Journal:
    """The journal of one process in a folder of them: one that a process before has left, or a new one.

    restore: makes a file durable in its own place; has_room: tells whether so many bytes more may be taken from the disk.
    `start` lets a thread tend it; that makes slots as soon as one is asked for.
    Raises: OSError, what restore raises.
    """

    def __init__(self, folder: Path, restore: Callable[[Saved], None], has_room: Callable[[int], bool]) -> None:
        self._has_room = has_room
        self._lock, path = own(folder)
        self.restored = hand_over(self._lock, restore)
        self._made = read_index(self._lock)[1]
        self._numbers = itertools.count(highest(self._lock) + 1)
        self._index = [next(self._numbers)] * ENTRIES
        self._free = {kind: deque(range(made)) for kind, made in self._made.items()}
        self._left: deque[Slot] = deque()
        self._soiled = used(self._lock)
        self._wanted: set[Kind] = set()
        self._wake, self._stopped = threading.Event(), threading.Event()
        self._used_at = time.monotonic()
        self._descriptor = self._open(path)
        self._thread = threading.Thread(target=self._follow, name="journal", daemon=True)

    def start(self) -> None:
        """Begin to tend it: free what is settled, make slots where they run short."""
        self._thread.start()

    def close(self) -> None:
        """Free what is settled, leave no image in it, and let another process have it."""
        self._stopped.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        try:
            self.free_settled()
            self.wipe()
        except OSError as error:
            _log.error("the journal cannot be wiped", extra={"error": type(error).__name__})
        for descriptor in {self._descriptor, self._lock}:
            os.close(descriptor)

    def take(self, size_bytes: int) -> Slot | None:
        """Return a free slot for a file of this size, None when there is none now."""
        kind = SMALL if size_bytes <= SMALL.most_bytes else LARGE
        self._used_at = time.monotonic()
        try:
            place = self._free[kind].popleft()
        except IndexError:
            self._wanted.add(kind)
            self._wake.set()
            return None
        self._soiled.add((kind, place))
        return Slot(self, kind, place)

    def give_back(self, slot: Slot) -> None:
        """Take back a slot whose content does not count: Slot.free."""
        self._free[slot.kind].append(slot.place)

    def give_back_when_synced(self, slot: Slot) -> None:
        """Take back a slot once the disk has its file elsewhere: Slot.settled."""
        self._left.append(slot)
        if len(self._left) >= slot.kind.step:
            self._wake.set()

    def next_number(self) -> int:
        """Return a number that no head has had."""
        return next(self._numbers)

    def write(self, data: memoryview, offset: int, durably: bool = False) -> None:
        """Write whole blocks; durably: they, and what was written before, survive a power cut.  Raises: OSError."""
        while data:
            done = os.pwritev(self._descriptor, [data], offset, _DURABLY if durably else 0)
            data, offset = data[done:], offset + done
        if durably and not _DURABLY:
            os.fsync(self._descriptor)

    def free_settled(self) -> bool:
        """Have the disk take all files that have left the journal, then free their slots; False: it did not."""
        batch = [self._left.popleft() for _ in range(len(self._left))]
        if not batch:
            return True
        try:
            _sync_file_system(self._lock)
            for slot in batch:
                self._index[slot.kind.entry + slot.place] = self.next_number()
            self._write_index()
        except OSError as error:
            _log.error("the disk did not take what left the journal", extra={"error": type(error).__name__})
            self._left.extendleft(batch)
            return False
        for slot in batch:
            self.give_back(slot)
        return True

    def grow(self, kind: Kind) -> int:
        """Make more slots of a kind: as many as there are, at least a step; return how many.  Raises: OSError."""
        made = self._made[kind]
        more = min(max(kind.step, made), kind.count - made)
        if more <= 0 or not self._has_room(more * kind.slot_bytes):
            return 0
        write_zeros(self._descriptor, kind.offset(made), more * kind.slot_bytes)
        os.fsync(self._lock)
        self._made[kind] = made + more
        self._write_index()
        self._free[kind].extend(range(made, made + more))
        return more

    def wipe(self) -> None:
        """Overwrite what free slots hold of images: one that is deleted shall be gone from here, too.  Raises: OSError."""
        for kind, place in list(self._soiled):
            try:
                self._free[kind].remove(place)
            except ValueError:
                continue  # in use
            try:
                write_zeros(self._descriptor, kind.offset(place), kind.slot_bytes)
                self._soiled.discard((kind, place))
            finally:
                self._free[kind].append(place)

    def _open(self, path: Path) -> int:
        """Return the descriptor to write by, tried out with the index."""
        self._descriptor = open_direct(path, self._lock)
        try:
            self._write_index()
        except OSError as error:
            if error.errno != errno.EINVAL or self._descriptor == self._lock:
                raise
            os.close(self._descriptor)
            self._descriptor = self._lock  # a disk with other blocks than ours
            self._write_index()
        return self._descriptor

    def _write_index(self) -> None:
        with mmap.mmap(-1, INDEX_BYTES) as block:
            write_index(block, self._index, self._made)
            with memoryview(block) as view:
                self.write(view, 0, durably=True)

    def _follow(self) -> None:
        """Tend the journal until `close`: nobody who receives waits for this thread."""
        while not self._stopped.is_set():
            self._wake.wait(_LONGEST_S)
            self._wake.clear()
            if not self._tended():
                self._stopped.wait(_LONGEST_S)

    def _tended(self) -> bool:
        """Do what is to be done now; False: the disk did not let us."""
        try:
            if not self.free_settled():
                return False
            while self._wanted:
                self.grow(self._wanted.pop())
            if self._soiled and time.monotonic() - self._used_at > _QUIET_S:
                self.wipe()
        except OSError as error:
            _log.error("the journal cannot be tended", extra={"error": type(error).__name__})
            return False
        return True


def _sync_file_system(descriptor: int) -> None:
    """Make durable what was written to the file system of a descriptor.  Raises: OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "syncfs"):
        os.sync()
    elif libc.syncfs(descriptor):
        raise OSError(ctypes.get_errno(), "syncfs")
