"""Received images on the disk: each whole and durable, or not there; named by us, never by a peer."""

from __future__ import annotations

import itertools
import os
import secrets
import struct
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from service import logs
from service.errors import OutOfSpace, Reason, Unavailable
from service.receive.blocks import sync_folder
from service.receive.part import Buffers, Part, Spooled
from service.receive.plain_file import PlainFile
from service.receive.ready import Ready, restore_left
from service.receive.ready_file import WHOLE, place_of
from service.store.files import Files, Folder
from service.store.leftovers import PART, remove_leftovers
from service.store.process import this_process

IMPLEMENTATION_CLASS_UID = "2.25.65969216023805300793111894252245619453"
IMPLEMENTATION_VERSION_NAME = "FIRSTLOOK"
READY = "ready"
_QUARANTINE = "quarantine"
_READY_ROOM_BYTES = 268_435_456  # with less room there are no ready files: a full disk shows before the answer
_NEIGHBOURS = 512
_log = logs.get("receive.spool")


class Spool:
    """A folder of received images. Processes of several machines may receive into it, and read. Safe to share between
    threads.

    root: made if absent; min_free_bytes: below this free space nothing is taken; kept: where files last for all machines,
    the folder itself without it.
    Layout: <2 hex digits>/<32 hex digits>.dcm, quarantine/ for what is set aside, ready/ (see ready_file). Images that
    come after each other share a folder: a file system lays folders far apart, and going from one to the next costs more
    than writing.
    """

    def __init__(self, root: Path, min_free_bytes: int = 0, kept: Files | None = None) -> None:
        self.root = root
        self._kept = kept or Folder(root)
        self.min_free_bytes = min_free_bytes
        self._folder = str(root)
        self._buffers = Buffers()
        self._ready: Ready | None = None
        self._part = f".{this_process()}{PART}"  # whose it is
        self._turns = itertools.count(_NEIGHBOURS * secrets.randbelow(256))
        for folder in (*(f"{n:02x}" for n in range(256)), _QUARANTINE):
            (root / folder).mkdir(parents=True, exist_ok=True)
        sync_folder(str(root))

    def restore(self) -> int:
        """Give images their places that a crash has left in ready files; return how many.  Raises: OSError."""
        return restore_left(self.root / READY, self.root)

    def make_ready(self, room_bytes: int) -> None:
        """Have ready files from now on, until `close`, that take up so much of the disk; 0: none.

        There are none where files last elsewhere, or the file system knows no links.  Raises: OSError.
        """
        if not room_bytes or not self.is_here:
            return
        self._ready = Ready(self.root / READY, self.root, room_bytes, self._name,
                            lambda size: self.free_bytes() - size > self.min_free_bytes + _READY_ROOM_BYTES)
        self._ready.start()

    def close(self) -> None:
        """Remove the ready files, if there are any; nothing is received any more."""
        ready, self._ready = self._ready, None
        if ready is not None:
            ready.close()

    def begin(self, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str, calling_aet: str = "") -> Part:
        """Open a new file that begins with its preamble (zeros, or see ready_file) and file meta information (PS3.10 7.1).

        The UIDs must have been checked; none becomes part of a path. calling_aet: who sends it; it stands in the file, so
        that a row made from it names the sender.  Raises: OutOfSpace.
        """
        ready = self._ready if self._room() > _READY_ROOM_BYTES else None
        meta = _file_meta(sop_class_uid, sop_instance_uid, transfer_syntax_uid, calling_aet)
        return Part(self._plain, meta, self._buffers, ready)

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
            for file in sorted(shard.glob("*" + WHOLE)):
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

    def _name(self) -> str:
        """Return a new name, 32 hex digits."""
        return f"{next(self._turns) // _NEIGHBOURS % 256:02x}{secrets.token_hex(15)}"

    def _plain(self) -> PlainFile:
        path = place_of(self._name())
        whole = f"{self._folder}/{path}"
        return PlainFile(whole.removesuffix(WHOLE) + self._part, whole, path)


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
