"""Ready files of one process: made ahead, handed out, and their names removed when the disk has the images elsewhere.

They are made at the start and again when it is quiet, or few are left, and the names go then; where none is left, or the
disk is nearly full, an image goes to a file of its own. Each process has a folder of them, which nobody else touches while
it lives.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from service import logs
from service.receive.blocks import remove, sync_file_system
from service.receive.helper import Helper
from service.receive.ready_file import Kind, ReadyFile, forget, make_ready, recover

SMALL_BYTES, LARGE_BYTES = 32_768, 655_360  # an object of a few kilobytes; a CT slice of 512 x 512 pixels, 16 bits
_LARGE_SHARE = 0.8
_LOCK = "lock"
_NAME = re.compile(r"[0-9a-f]{32}")
_LONGEST_S = 1.0
_QUIET_S = 1.0
_STEP_BYTES = 16_777_216
_LEFT = 8  # new ones are made at once when less than one in so many is left
_log = logs.get("receive.ready")


def kinds(room_bytes: int) -> tuple[Kind, Kind]:
    """Return the small and the large files that take up so much of the disk together."""
    large = int(room_bytes * _LARGE_SHARE) // LARGE_BYTES
    return Kind(SMALL_BYTES, (room_bytes - large * LARGE_BYTES) // SMALL_BYTES), Kind(LARGE_BYTES, large)


class Ready:
    """The ready files of this process, below `folder`. Safe to share between threads.

    spool: the folder where images have their places; room_bytes: what the files may take up; name: returns a new name, 32
    hex digits; has_room: whether so many bytes more may be taken from the disk.
    `start` has a thread make them.  Raises: OSError.
    """

    def __init__(self, folder: Path, spool: Path, room_bytes: int, name: Callable[[], str],
                 has_room: Callable[[int], bool]) -> None:
        self._spool, self._name, self._has_room, self._room_bytes = str(spool), name, has_room, room_bytes
        self._folder, self._lock = _own(folder)
        self._free: dict[Kind, deque[str]] = {kind: deque() for kind in kinds(room_bytes)}
        self._settled: deque[ReadyFile] = deque()
        self._taken_at = -_QUIET_S
        self._helper = Helper("ready", self._follow)

    def start(self) -> None:
        """Begin to make files."""
        self._helper.start()

    def close(self) -> None:
        """Remove the files that no image has come to, and the folder."""
        self._helper.stop()
        try:
            self.forget_settled()
            self.remove_free()
            (self._folder / _LOCK).unlink()
            self._folder.rmdir()
        except OSError as error:  # an image is in it: the next start gives it its place
            _log.error("ready files stay for the next start", extra={"error": type(error).__name__})
        finally:
            os.close(self._lock)

    def take(self, size_bytes: int) -> ReadyFile | None:
        """Return a ready file for an image of which so many bytes are here; None when there is none, or it is broken."""
        for kind, free in self._free.items():
            if size_bytes > kind.size_bytes and kind.size_bytes < LARGE_BYTES:
                continue
            self._taken_at = time.monotonic()
            try:
                name = free.popleft()
            except IndexError:
                return None
            if len(free) < kind.count // _LEFT:
                self._helper.woken.set()
            try:
                return ReadyFile(str(self._folder), self._spool, name)
            except OSError as error:
                _log.error("a ready file cannot be opened", extra={"error": type(error).__name__})
                with suppress(OSError):  # it was removed under us, or the next start sees that no image is in it
                    remove(f"{self._folder}/{name}")
        return None

    def settled(self, file: ReadyFile) -> None:
        """Say that an image has its place; its name here goes when the disk has that."""
        self._settled.append(file)

    def forget_settled(self) -> None:
        """Have the disk take the places of all images that have one, then remove their names here.  Raises: OSError."""
        files = [self._settled.popleft() for _ in range(len(self._settled))]
        if not files:
            return
        try:
            sync_file_system(self._lock)
        except OSError:
            self._settled.extendleft(reversed(files))
            raise
        for file in files:
            file.forget()

    def make(self) -> bool:
        """Make some files of a kind of which not all are there; False when there is nothing to make, or no room.

        There must be room for as much again: a disk on which files were made does not run short because of them, and one
        that was given files back is not filled with them again at once.  Raises: OSError.
        """
        for kind, free in reversed(self._free.items()):
            count = min(kind.count - len(free), max(1, _STEP_BYTES // kind.size_bytes))
            if count <= 0 or not self._has_room(count * kind.size_bytes + self._room_bytes):
                continue
            names = [self._name() for _ in range(count)]
            for name in names:
                make_ready(f"{self._folder}/{name}", kind.size_bytes)
            sync_file_system(self._lock)
            free.extend(names)
            return True
        return False

    def remove_free(self) -> None:
        """Give the disk back what no image has come to.  Raises: OSError."""
        for free in self._free.values():
            while free:
                (self._folder / free.popleft()).unlink(missing_ok=True)

    def _follow(self) -> None:
        """Tend the files until `close`: nobody who receives waits for this thread."""
        woken, stopped = self._helper.woken, self._helper.stopped
        while not stopped.is_set():
            try:
                self._tend()
            except OSError as error:
                _log.error("ready files cannot be tended", extra={"error": type(error).__name__})
                stopped.wait(_LONGEST_S)
            woken.wait(_LONGEST_S)
            woken.clear()

    def _tend(self) -> None:
        if self._is_time():
            self.forget_settled()
        if not self._has_room(0):
            self.remove_free()
        while not self._helper.stopped.is_set() and self._is_time() and self.make():
            continue

    def _is_time(self) -> bool:
        """Tell whether new files may be made: nobody sends, or few are left."""
        return (time.monotonic() - self._taken_at >= _QUIET_S
                or any(len(free) < kind.count // _LEFT for kind, free in self._free.items()))


def restore_left(folder: Path, spool: Path) -> int:
    """Give every image its place that is left in ready files whose process is gone, durably; return how many.

    Raises: OSError; then what was not restored stays as it is.
    """
    return sum(_restore(left, spool) for left in sorted(folder.glob("*")) if not left.name.startswith("."))


def _own(folder: Path) -> tuple[Path, int]:
    """Return a new folder that is ours as long as the descriptor is open: it has its name when it is locked."""
    name = secrets.token_hex(8)
    made = folder / f".{name}"
    made.mkdir(parents=True)
    lock = _locked(made)
    return made.rename(folder / name), lock


def _locked(folder: Path) -> int:
    """Return the descriptor that keeps others off a folder until it is closed.  Raises: BlockingIOError when one does us."""
    lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise
    return lock


def _restore(left: Path, spool: Path) -> int:
    try:
        lock = _locked(left)
    except (BlockingIOError, FileNotFoundError):
        return 0  # its process lives, or another that starts was faster
    try:
        files = [path for path in left.iterdir() if _NAME.fullmatch(path.name)]
        restored = sum([recover(path, spool) for path in files])
        sync_file_system(lock)
        for path in files:
            forget(str(path))
        (left / _LOCK).unlink()
        left.rmdir()
    except FileNotFoundError:
        return 0
    finally:
        os.close(lock)
    return restored
