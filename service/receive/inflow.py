"""What comes in on one connection: read in large pieces, and never waited for longer than agreed."""

from __future__ import annotations

import os
import select
import socket
import ssl
import time

CAPACITY_BYTES = 65_536
_QUICK_ACK = getattr(socket, "TCP_QUICKACK", None)


class Inflow:
    """A reading end. Bytes are looked at with `peek`, taken with `take` or `pour`; one thread only.

    The connection must be non-blocking below (a Python time-out set makes it so). It may be one with TLS.
    """

    def __init__(self, connection: socket.socket, capacity_bytes: int = CAPACITY_BYTES) -> None:
        self._connection = connection
        self._encrypted = isinstance(connection, ssl.SSLSocket)
        self._buffer = bytearray(capacity_bytes)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0

    @property
    def held_bytes(self) -> int:
        """How many bytes were received and not yet taken."""
        return self._end - self._start

    @property
    def has_more(self) -> bool:
        """Whether there are bytes that no wait on the connection would tell of: held here, or decrypted already."""
        return self._end > self._start or decrypted(self._connection)

    def fill(self, wanted_bytes: int, deadline: float) -> bool:
        """Receive until at least that many bytes are held (at most the capacity); False: closed by the peer, or late.

        deadline: of time.monotonic().  Raises: OSError when the connection broke.
        """
        if self._start == self._end:
            self._start = self._end = 0
        elif self._start + wanted_bytes > len(self._buffer):
            self._view[:self.held_bytes] = bytes(self._view[self._start:self._end])
            self._start, self._end = 0, self.held_bytes
        while self.held_bytes < wanted_bytes:
            got = self._receive([self._view[self._end:]], deadline)
            if not got:
                return False
            self._end += got
        return True

    def peek(self, size_bytes: int, offset: int = 0) -> memoryview:
        """Return bytes that are held, without taking them; valid until the next `fill`."""
        return self._view[self._start + offset:self._start + offset + size_bytes]

    def take(self, size_bytes: int) -> None:
        """Let go of bytes that are held."""
        self._start += size_bytes

    def pour(self, room: memoryview, deadline: float, beyond_bytes: int = 0) -> int:
        """Take bytes into the room, as many as are there; return how many, 0: closed by the peer, or late.

        What is held comes first; else they come straight from the connection, without a copy in between, and up to
        `beyond_bytes` after the room is full are held.  Raises: OSError when the connection broke.
        """
        held = min(len(room), self.held_bytes)
        if held:
            room[:held] = self._view[self._start:self._start + held]
            self._start += held
            return held
        self._start = self._end = 0
        got = self._receive([room, self._view[:beyond_bytes]], deadline)
        self._end = max(0, got - len(room))
        return got - self._end

    def close(self) -> None:
        """Let go of the buffer and what it holds."""
        self._start = self._end = 0
        self._buffer, self._view = bytearray(), memoryview(b"")

    def _receive(self, views: list[memoryview], deadline: float) -> int:
        """Receive what is there; 0: closed by the peer, or late. From TLS only into the first view."""
        if self._encrypted:
            return self._decrypt(views[0], deadline)
        while True:
            try:
                return os.readv(self._connection.fileno(), views)
            except BlockingIOError:
                if not wait_readable(self._connection, deadline - time.monotonic()):
                    return 0

    def _decrypt(self, view: memoryview, deadline: float) -> int:
        """Receive what is there of one TLS record, or the rest of it; 0: closed by the peer or by us, or late."""
        left_s = deadline - time.monotonic()
        if not wait_readable(self._connection, left_s):
            return 0
        self._connection.settimeout(left_s)
        try:
            return self._connection.recv_into(view)
        except (TimeoutError, ValueError):
            return 0


def decrypted(connection: socket.socket) -> bool:
    """Tell whether bytes of a TLS record were decrypted and not yet read: no poll knows of them."""
    return isinstance(connection, ssl.SSLSocket) and connection.pending() > 0


def wait_readable(connection: socket.socket, timeout_s: float, bell: socket.socket | None = None) -> bool:
    """Wait until there is something to read on the connection, or on the bell; False when the time is up.

    What was received is acknowledged at once (TCP_QUICKACK): a sender that has left Nagle's algorithm on would
    otherwise hold back its next piece for the 40 ms of a delayed acknowledgement.
    """
    if timeout_s <= 0 or connection.fileno() < 0:
        return False
    if decrypted(connection):
        return True
    if _QUICK_ACK is not None:
        connection.setsockopt(socket.IPPROTO_TCP, _QUICK_ACK, 1)
    poller = select.poll()
    poller.register(connection, select.POLLIN)
    if bell is not None:
        poller.register(bell, select.POLLIN)
    return bool(poller.poll(timeout_s * 1000))
