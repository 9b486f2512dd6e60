"""Received images on the disk: each whole and durable, or not there; named by us, never by a peer."""

from __future__ import annotations

import itertools
import os
import re
import secrets
import struct
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from service import logs
from service.errors import OutOfSpace, Reason, Unavailable
from service.receive.journal import Journal
from service.receive.part import Buffers, Part, Spooled, mapped, sync_folder
from service.receive.slots import Saved, restore_left
from service.store.files import Files, Folder
from service.store.leftovers import PART, remove_leftovers
from service.store.process import this_process

IMPLEMENTATION_CLASS_UID = "2.25.65969216023805300793111894252245619453"
IMPLEMENTATION_VERSION_NAME = "FIRSTLOOK"
_WHOLE = ".dcm"
JOURNALS = "journals"
_QUARANTINE = "quarantine"
_JOURNAL_ROOM_BYTES = 268_435_456  # with less room an image goes straight to its file: a full disk shows before the answer
_NEIGHBOURS = 512
_PATH = re.compile(r"[0-9a-f]{2}/[0-9a-f]{32}\.dcm")
_log = logs.get("receive.spool")


class Spool:
    """A folder of received images. Processes of several machines may receive into it, and read. Safe to share between
    threads.

    root: made if absent; min_free_bytes: below this free space nothing is taken; kept: where files last for all machines,
    the folder itself without it.
    Layout: <2 hex digits>/<32 hex digits>.dcm, quarantine/ for what is set aside, journals/ (see journal). Images that
    come after each other share a folder: a file system lays folders far apart, and going from one to the next costs more
    than writing.
    """

    def __init__(self, root: Path, min_free_bytes: int = 0, kept: Files | None = None) -> None:
        self.root = root
        self._kept = kept or Folder(root)
        self.min_free_bytes = min_free_bytes
        self._folder = str(root)
        self._buffers = Buffers()
        self._journal: Journal | None = None
        self._part = f".{this_process()}{PART}"  # whose it is
        self._turns = itertools.count(_NEIGHBOURS * secrets.randbelow(256))
        for folder in (*(f"{n:02x}" for n in range(256)), _QUARANTINE):
            (root / folder).mkdir(parents=True, exist_ok=True)
        sync_folder(str(root))

    def open_journal(self, used: bool = True) -> int:
        """Write the files that journals hold whose process is gone, and return how many.

        used: have a journal from now on, until `close`; there is none where files last elsewhere.  Raises: OSError.
        """
        folder = self.root / JOURNALS
        restored = restore_left(folder, self._restore)
        if used and self.is_here:
            folder.mkdir(exist_ok=True)
            self._journal = Journal(
                folder, self._restore, lambda size: self.free_bytes() - size > self.min_free_bytes + _JOURNAL_ROOM_BYTES)
            restored += self._journal.restored
            self._journal.start()
        return restored

    def close(self) -> None:
        """Close the journal, if there is one; nothing is received any more."""
        journal, self._journal = self._journal, None
        if journal is not None:
            journal.close()

    def begin(self, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str, calling_aet: str = "") -> Part:
        """Open a new file that begins with its preamble (zeros) and file meta information (PS3.10 7.1).

        The UIDs must have been checked; none becomes part of a path. calling_aet: who sends it; it stands in the file, so
        that a row made from it names the sender.  Raises: OutOfSpace, Unavailable.
        """
        journal = self._journal if self._room() > _JOURNAL_ROOM_BYTES else None
        name = f"{next(self._turns) // _NEIGHBOURS % 256:02x}{secrets.token_hex(15)}"
        path = f"{name[:2]}/{name}"
        whole = f"{self._folder}/{path}"
        meta = _file_meta(sop_class_uid, sop_instance_uid, transfer_syntax_uid, calling_aet)
        try:
            return Part(whole + self._part, whole + _WHOLE, path + _WHOLE, meta, self._buffers, journal)
        except OSError as error:
            raise mapped(error) from error

    def write(self, data: bytes | memoryview, sop_class_uid: str, sop_instance_uid: str,
              transfer_syntax_uid: str) -> Spooled:
        """Write one data set, exactly as received, durably.  Raises: OutOfSpace, Unavailable."""
        with self.begin(sop_class_uid, sop_instance_uid, transfer_syntax_uid) as part:
            part.write(data)
            part.commit()
            return part.spooled()

    @property
    def is_here(self) -> bool:
        """Whether the folder is all there is: then a row can be made again from a file at the next start."""
        return isinstance(self._kept, Folder)

    def keep(self, path: str) -> None:
        """Make a committed file last for all machines; when that fails it is removed.  Raises: Unavailable."""
        try:
            self._kept.keep(path)
        except Unavailable:
            (self.root / path).unlink(missing_ok=True)
            raise

    def locate(self, path: str) -> Path:
        """Return the file of an instance by the path kept in its row."""
        return self.root / path

    def discard(self, path: str) -> None:
        """Remove a file of the spool, for example the second copy of an image."""
        self._kept.remove(path)

    def quarantine(self, path: str) -> str:
        """Move a file out of the way, durably, and return its new path relative to the spool."""
        source = self.locate(path)
        target = self.root / _QUARANTINE / source.name
        self._kept.move(path, f"{_QUARANTINE}/{source.name}")
        sync_folder(str(target.parent))
        sync_folder(str(source.parent))
        return target.relative_to(self.root).as_posix()

    def files(self) -> Iterator[str]:
        """Yield the path of every whole file that is not in quarantine."""
        for shard in sorted(self.root.glob("[0-9a-f][0-9a-f]")):
            for file in sorted(shard.glob("*" + _WHOLE)):
                yield file.relative_to(self.root).as_posix()

    def remove_leftovers(self) -> int:
        """Remove what an earlier process had not finished writing, none of which was acknowledged; return how many."""
        return remove_leftovers(self.root)

    def free_bytes(self) -> int:
        """Return the free space of the disk, bytes."""
        disk = os.statvfs(self._folder)
        return disk.f_bavail * disk.f_frsize

    def _room(self) -> int:
        """Return the free space above the mark, bytes.  Raises: OutOfSpace below it."""
        free = self.free_bytes()
        if free < self.min_free_bytes:
            raise OutOfSpace(Reason.OUT_OF_SPACE, f"{free} bytes free, {self.min_free_bytes} must stay free")
        return free - self.min_free_bytes

    def _restore(self, saved: Saved) -> None:
        """Write the file of an image that a journal holds, durably, with the time when it came."""
        if not _PATH.fullmatch(saved.path):
            _log.error("a journal names a file that is none of ours")
            return
        whole = self.locate(saved.path)
        part = whole.with_suffix(self._part)
        with part.open("wb") as file:
            file.write(saved.content)
            file.flush()
            os.utime(file.fileno(), (saved.received_at, saved.received_at))
            os.fsync(file.fileno())
        part.rename(whole)
        sync_folder(str(whole.parent))


def _file_meta(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str, calling_aet: str) -> bytes:
    """Return preamble, prefix and file meta information, explicit VR little endian (PS3.10 7.1)."""
    before, after = _fixed_meta(sop_class_uid, transfer_syntax_uid, calling_aet)
    group = before + _meta_element(0x0003, b"UI", sop_instance_uid) + after
    return bytes(128) + b"DICM" + struct.pack("<HH2sHL", 0x0002, 0x0000, b"UL", 4, len(group)) + group


@lru_cache(maxsize=64)
def _fixed_meta(sop_class_uid: str, transfer_syntax_uid: str, calling_aet: str) -> tuple[bytes, bytes]:
    """Return what stands before and after the SOP Instance UID: the same for all images of an association."""
    before = struct.pack("<HH2sHL", 0x0002, 0x0001, b"OB", 0, 2) + b"\x00\x01" + _meta_element(0x0002, b"UI", sop_class_uid)
    after = b"".join((
        _meta_element(0x0010, b"UI", transfer_syntax_uid), _meta_element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID),
        _meta_element(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME),
        _meta_element(0x0017, b"AE", calling_aet) if calling_aet else b""))
    return before, after


def _meta_element(number: int, vr: bytes, text: str) -> bytes:
    value = text.encode("ascii", "replace")
    value += (b"\0" if vr == b"UI" else b" ") * (len(value) % 2)
    return struct.pack("<HH2sH", 0x0002, number, vr, len(value)) + value
