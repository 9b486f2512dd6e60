"""The audit trail to a syslog receiver: RFC 5424, over TLS (RFC 5425) or UDP (RFC 5426), as PS3.15 A.6 and A.7 want it."""

from __future__ import annotations

import os
import queue
import socket
import ssl
import threading
from collections.abc import Callable
from datetime import UTC, datetime

from service import logs

_PRIORITY = 10 * 8 + 5  # facility 10, security; severity 5, notice
_MSGID = "DICOM+RFC3881"
_WAITING = 10_000
_AGAIN_S = 5.0
_BOM = b"\xef\xbb\xbf"
_log = logs.get("audit")


def framed(message: bytes, at: float, host: str) -> bytes:
    """Return a message as RFC 5424 has it. at: Unix time, seconds."""
    when = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    head = f"<{_PRIORITY}>1 {when} {host[:255] or '-'} firstlook {os.getpid()} {_MSGID} - "
    return head.encode("ascii", "replace") + _BOM + message


class Syslog:
    """Sends in a thread of its own; messages wait, up to 10,000, while the receiver is away.

    context: None speaks UDP, else TLS. lost: told how many messages found no room.
    """

    def __init__(self, host: str, port: int, context: ssl.SSLContext | None, timeout_s: float,
                 lost: Callable[[int], object] = lambda _number: None) -> None:
        self._host, self._port, self._context, self._timeout_s, self._lost = host, port, context, timeout_s, lost
        self._name = socket.gethostname()
        self._waiting: queue.Queue[bytes] = queue.Queue(_WAITING)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="audit-syslog", daemon=True)
        self._thread.start()

    def write(self, message: bytes, at: float) -> None:
        """Give a message to the thread; one that finds no room is counted."""
        try:
            self._waiting.put_nowait(framed(message, at, self._name))
        except queue.Full:
            self._lost(1)

    def close(self, timeout_s: float = 5.0) -> None:
        """Send what waits, as long as that takes no more than timeout_s, and end."""
        self._stopping.set()
        self._thread.join(timeout_s)
        if not self._waiting.empty():
            self._lost(self._waiting.qsize())

    def _run(self) -> None:
        connection: socket.socket | None = None
        kept: bytes | None = None
        while kept is not None or not (self._stopping.is_set() and self._waiting.empty()):
            try:
                kept = kept or self._waiting.get(timeout=0.2)
            except queue.Empty:
                continue
            try:
                connection = connection or self._connect()
                connection.sendall(kept if self._context is None else b"%d %s" % (len(kept), kept))
                kept = None
            except OSError as error:
                _log.warning("the syslog receiver is away", extra={"error": type(error).__name__})
                _close(connection)
                connection = None
                if self._stopping.wait(_AGAIN_S):
                    return
        _close(connection)

    def _connect(self) -> socket.socket:
        if self._context is None:
            family, _, _, _, address = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)[0]
            datagrams = socket.socket(family, socket.SOCK_DGRAM)
            datagrams.connect(address)
            return datagrams
        raw = socket.create_connection((self._host, self._port), self._timeout_s)
        try:
            return self._context.wrap_socket(raw, server_hostname=self._host)
        except OSError:
            raw.close()
            raise


def _close(connection: socket.socket | None) -> None:
    if connection is not None:
        connection.close()
