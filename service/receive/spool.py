"""Received images on the disk: each whole and durable, or not there; named by us, never by a peer."""

from __future__ import annotations

import errno
import hashlib
import itertools
import mmap
import os
import secrets
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from service.errors import FirstlookError, OutOfSpace, Reason, Unavailable

IMPLEMENTATION_CLASS_UID = "2.25.65969216023805300793111894252245619453"
IMPLEMENTATION_VERSION_NAME = "FIRSTLOOK"
_PART, _WHOLE = ".part", ".dcm"
_QUARANTINE = "quarantine"
_NEIGHBOURS = 512
_NO_ROOM = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


@dataclass(frozen=True)
class Spooled:
    """An instance that is on the disk for good. path: relative to the spool; sha256 and size_bytes: of the data set."""

    path: str
    sha256: str
    size_bytes: int


class Part:
    """A file being written. Leaving its `with` block without `commit`, or `abandon`, removes it."""

    def __init__(self, temporary: str, final: str, path: str, meta: bytes) -> None:
        self._temporary, self._final, self._path = temporary, final, path
        self._sha256 = hashlib.sha256()
        self._size_bytes = 0
        self._meta_bytes = len(meta)
        self._descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            self._put(meta)
        except FirstlookError:
            self.abandon()
            raise

    def write(self, data: bytes | memoryview) -> None:
        """Append bytes of the data set as received.  Raises: OutOfSpace, Unavailable."""
        self._sha256.update(data)
        self._size_bytes += len(data)
        self._put(data)

    def fileno(self) -> int:
        """Return the file descriptor, for one who copies from a socket."""
        return self._descriptor

    @contextmanager
    def mapped(self) -> Iterator[tuple[mmap.mmap, int]]:
        """Yield the file as written so far, mapped, not read, and the byte offset of the data set in it.

        Raises: Unavailable.
        """
        try:
            data = mmap.mmap(self._descriptor, self._meta_bytes + self._size_bytes, access=mmap.ACCESS_READ)
        except OSError as error:
            raise _mapped(error) from error
        with data:
            yield data, self._meta_bytes

    def commit(self) -> Spooled:
        """Make the file durable under its final name and return it; after this it survives a power cut.

        Raises: OutOfSpace, Unavailable; then nothing is left under the final name.
        """
        try:
            os.fsync(self._descriptor)
            os.rename(self._temporary, self._final)  # noqa: PTH104 - one call for each image; paths cost more
            self._close()
            _sync_folder(os.path.dirname(self._final))  # noqa: PTH120
        except OSError as error:
            Path(self._final).unlink(missing_ok=True)
            raise _mapped(error) from error
        return Spooled(self._path, self._sha256.hexdigest(), self._size_bytes)

    def abandon(self) -> None:
        """Close the file and remove it; nothing happens when it was committed or abandoned before."""
        if self._descriptor >= 0:
            self._close()
            Path(self._temporary).unlink(missing_ok=True)

    def __enter__(self) -> Part:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.abandon()

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)

    def _put(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._descriptor, view):]
        except OSError as error:
            raise _mapped(error) from error


class Spool:
    """A folder of received images. One process receives into it; any number may read. Safe to share between threads.

    root: made if absent; min_free_bytes: below this free space nothing is taken.
    Layout: <2 hex digits>/<32 hex digits>.dcm, and quarantine/ for what is set aside. Images that come after each
    other share a folder: a file system lays folders far apart, and going from one to the next costs more than writing.
    """

    def __init__(self, root: Path, min_free_bytes: int = 0) -> None:
        self.root = root
        self.min_free_bytes = min_free_bytes
        self._turns = itertools.count(_NEIGHBOURS * secrets.randbelow(256))
        for folder in (*(f"{n:02x}" for n in range(256)), _QUARANTINE):
            (root / folder).mkdir(parents=True, exist_ok=True)
        _sync_folder(root)

    def begin(self, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> Part:
        """Open a new file and write its preamble (zeros) and file meta information (PS3.10 7.1).

        The UIDs must have been checked; none becomes part of a path.  Raises: OutOfSpace, Unavailable.
        """
        self._check_room()
        name = f"{next(self._turns) // _NEIGHBOURS % 256:02x}{secrets.token_hex(15)}"
        path = f"{name[:2]}/{name}"
        whole = f"{self.root}/{path}"
        try:
            return Part(whole + _PART, whole + _WHOLE, path + _WHOLE,
                        _file_meta(sop_class_uid, sop_instance_uid, transfer_syntax_uid))
        except OSError as error:
            raise _mapped(error) from error

    def write(self, data: bytes | memoryview, sop_class_uid: str, sop_instance_uid: str,
              transfer_syntax_uid: str) -> Spooled:
        """Write one data set, exactly as received, durably.  Raises: OutOfSpace, Unavailable."""
        with self.begin(sop_class_uid, sop_instance_uid, transfer_syntax_uid) as part:
            part.write(data)
            return part.commit()

    def locate(self, path: str) -> Path:
        """Return the file of an instance by the path kept in its row."""
        return self.root / path

    def discard(self, path: str) -> None:
        """Remove a file of the spool, for example the second copy of an image."""
        self.locate(path).unlink(missing_ok=True)

    def quarantine(self, path: str) -> str:
        """Move a file out of the way, durably, and return its new path relative to the spool."""
        source = self.locate(path)
        target = self.root / _QUARANTINE / source.name
        source.rename(target)
        _sync_folder(target.parent)
        _sync_folder(source.parent)
        return target.relative_to(self.root).as_posix()

    def files(self) -> Iterator[str]:
        """Yield the path of every whole file that is not in quarantine."""
        for shard in sorted(self.root.glob("[0-9a-f][0-9a-f]")):
            for file in sorted(shard.glob("*" + _WHOLE)):
                yield file.relative_to(self.root).as_posix()

    def remove_leftovers(self) -> int:
        """Remove what an earlier process had not finished writing, none of which was acknowledged; return how many."""
        leftovers = list(self.root.glob("[0-9a-f][0-9a-f]/*" + _PART))
        for file in leftovers:
            file.unlink(missing_ok=True)
        return len(leftovers)

    def free_bytes(self) -> int:
        """Return the free space of the disk, bytes."""
        return shutil.disk_usage(self.root).free

    def _check_room(self) -> None:
        free = self.free_bytes()
        if free < self.min_free_bytes:
            raise OutOfSpace(Reason.OUT_OF_SPACE, f"{free} bytes free, {self.min_free_bytes} must stay free")


def _file_meta(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Return preamble, prefix and file meta information, explicit VR little endian (PS3.10 7.1)."""
    version = struct.pack("<HH2sHL", 0x0002, 0x0001, b"OB", 0, 2) + b"\x00\x01"
    group = version + b"".join((
        _meta_element(0x0002, b"UI", sop_class_uid), _meta_element(0x0003, b"UI", sop_instance_uid),
        _meta_element(0x0010, b"UI", transfer_syntax_uid), _meta_element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID),
        _meta_element(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME)))
    return bytes(128) + b"DICM" + struct.pack("<HH2sHL", 0x0002, 0x0000, b"UL", 4, len(group)) + group


def _meta_element(number: int, vr: bytes, text: str) -> bytes:
    value = text.encode("ascii")
    value += (b"\0" if vr == b"UI" else b" ") * (len(value) % 2)
    return struct.pack("<HH2sH", 0x0002, number, vr, len(value)) + value


def _sync_folder(folder: Path | str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _mapped(error: OSError) -> FirstlookError:
    if error.errno in _NO_ROOM:
        return OutOfSpace(Reason.OUT_OF_SPACE, "the disk of the spool is full")
    name = errno.errorcode.get(error.errno or 0, "unknown")
    return Unavailable(Reason.INTERNAL_ERROR, f"the spool cannot be written ({name})")
