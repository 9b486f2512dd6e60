"""Results into a folder: each object a file that is whole or not there, and on the disk before it counts."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from pathlib import Path

from service import logs
from service.deliver.objects import read_object
from service.deliver.target import Parcel
from service.errors import Defect, PeerUnavailable, Reason

_UID = re.compile(r"[0-9.]{1,64}")
log = logs.get("deliver.folder")


class FolderTarget:
    """A folder that must be there already: one that is missing is a disk that is not mounted, and is not made."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self._folder = folder

    def deliver(self, parcel: Parcel) -> list[str]:
        """Write each object as <SOP Instance UID>.dcm and return the UIDs once all are on the disk.

        Raises: PeerUnavailable when the folder is not there, full or not writable; Defect for a file of ours.
        """
        named = [(_uid(path), path) for path in parcel.paths]
        if named:
            self._require()
        for uid, path in named:
            self._write(uid, path)
            log.info("object written", extra={"target": self.name, "sop_instance_uid": uid})
        return [uid for uid, _ in named]

    def echo(self) -> None:
        """Write and remove an empty file. Raises: PeerUnavailable."""
        self._require()
        probe = self._folder / f".{secrets.token_hex(8)}.part"
        try:
            probe.touch(exist_ok=False)
            probe.unlink()
        except OSError as error:
            raise self._unavailable(error) from error

    def _write(self, uid: str, path: Path) -> None:
        part = self._folder / f".{secrets.token_hex(8)}.part"
        try:
            try:
                with path.open("rb") as source, part.open("xb") as file:
                    shutil.copyfileobj(source, file, 1 << 20)
                    file.flush()
                    os.fsync(file.fileno())
                part.replace(self._folder / f"{uid}.dcm")
                self._sync()
            finally:
                part.unlink(missing_ok=True)
        except OSError as error:
            raise self._unavailable(error) from error

    def _sync(self) -> None:
        descriptor = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno != errno.EINVAL:  # some network file systems sync no folders
                raise
        finally:
            os.close(descriptor)

    def _require(self) -> None:
        if not self._folder.is_dir():
            raise PeerUnavailable(Reason.PEER_UNREACHABLE, f"{self.name}: the folder is not there (is it mounted?)")

    def _unavailable(self, error: OSError) -> PeerUnavailable:
        return PeerUnavailable(Reason.PEER_UNREACHABLE, f"{self.name}: the folder cannot be written ({error.strerror})")


def _uid(path: Path) -> str:
    """Return the SOP Instance UID of a file of ours, which names it in the folder. Raises: Defect."""
    uid = read_object(path).sop_instance
    if not _UID.fullmatch(uid):
        raise Defect(Reason.INTERNAL_ERROR, "the SOP Instance UID of a result is not one")
    return uid
