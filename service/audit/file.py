"""The audit trail as files: one a day (UTC), one message a line, owner only; processes may share a folder."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import Path

_NAME = re.compile(r"audit-\d{4}-\d\d-\d\d\.xml")


class AuditFile:
    """Adds lines. Each is one write to the end of the file, so that those of several processes never mix.

    keep_days: older files are deleted when a new day begins; 0: never.
    """

    def __init__(self, folder: Path, keep_days: int) -> None:
        self.folder, self._keep_days = folder, keep_days
        self._day, self._file = "", -1

    def write(self, message: bytes, at: float) -> None:
        """Add one message. at: Unix time, seconds. Raises: OSError."""
        day = f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d}"
        if day != self._day:
            self._begin(day)
        line = message + b"\n"
        if os.write(self._file, line) != len(line):
            raise OSError("the disk is full")

    def close(self) -> None:
        """Close the file of today."""
        if self._file >= 0:
            os.close(self._file)
        self._day, self._file = "", -1

    def _begin(self, day: str) -> None:
        self.close()
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self.folder / f"audit-{day}.xml"
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        if os.geteuid() == 0:  # begun by a command of root: the service must be able to go on with it
            owner = self.folder.stat()
            os.fchown(self._file, owner.st_uid, owner.st_gid)
        self._day = day
        kept = sorted(p for p in self.folder.iterdir() if _NAME.fullmatch(p.name) and p.name < path.name)
        for old in kept[:-self._keep_days] if self._keep_days else []:
            old.unlink(missing_ok=True)
