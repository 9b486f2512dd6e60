"""A TLS context that follows its files: when one of them changes on the disk, the next connection uses the new one."""

from __future__ import annotations

import math
import ssl
import threading
from collections.abc import Callable
from datetime import UTC, datetime

from service import logs
from service.tls.files import CertificateFiles, UnusableCertificate, Validity, judge, validities

Signature = tuple[tuple[int, int, int] | None, ...]
_log = logs.get("tls.renewal")


class Renewed:
    """Keeps a context and makes it anew when a file changes. Every method may be called from any thread.

    While the new files cannot be used (a certificate without its key yet, say) the old context stays, and the log says
    why. make: raises UnusableCertificate, and so does the constructor.
    """

    def __init__(self, files: CertificateFiles, make: Callable[[CertificateFiles], ssl.SSLContext]) -> None:
        self.files = files
        self._make = make
        self._lock = threading.Lock()
        self._seen = self._signature()
        self._context = make(files)
        self._validities = validities(files)

    def context(self) -> ssl.SSLContext:
        """Return the context of the files as they are now, or as they were when they last could be used."""
        with self._lock:
            self._look()
            return self._context

    def validities(self) -> list[Validity]:
        """Return how long the files in use hold."""
        with self._lock:
            self._look()
            return list(self._validities)

    def days_left(self, kind: str, clock: Callable[[], float]) -> float:
        """Return the days that the file of a kind still holds; not a number when there is none any more."""
        now = datetime.fromtimestamp(clock(), UTC)
        return next((v.days_left(now) for v in self.validities() if v.kind == kind), math.nan)

    def warn(self, now: datetime) -> None:
        """Log what is wrong with the files now, if anything."""
        well, said = judge(self.files, now)
        if not well:
            _log.error("certificates need a person", extra={"detail": said})

    def _look(self) -> None:
        seen = self._signature()
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._context, self._validities = self._make(self.files), validities(self.files)
        except UnusableCertificate as error:
            _log.error("changed certificate files cannot be used; the old ones stay", extra={"detail": str(error)})
            return
        _log.info("certificate files were read anew", extra={"place": self.files.place})

    def _signature(self) -> Signature:
        """Return what changes when a file is replaced or written to."""
        found: list[tuple[int, int, int] | None] = []
        for _, path in self.files.paths():
            try:
                state = path.stat()
            except OSError:
                found.append(None)
            else:
                found.append((state.st_ino, state.st_size, state.st_mtime_ns))
        return tuple(found)
