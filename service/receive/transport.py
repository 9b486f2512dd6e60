"""pynetdicom's upper layer with bounds: a peer can make it neither wait for ever nor hold more than was agreed.

What pynetdicom 3.0.4 leaves open and is closed here: the length of a PDU is believed as sent; a PDU that stops half way
is waited for without end; an object or command set grows without limit; the end of an association is not always told.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from typing import Any

from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import DIMSEMessage
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.transport import AssociationSocket

from service import logs
from service.receive.machine import INVALID_PDU, UNREADABLE
from service.receive.policy import Policy

_NEGOTIATION_BYTES = 262_144
_COMMAND_BYTES = 65_536
_log = logs.get("receive.transport")

Handlers = list[tuple[Any, Callable[[Any], Any]]]


class BoundedBuffer(BytesIO):
    """Bytes in memory up to a limit; what comes after is counted and dropped."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__()
        self._limit_bytes = limit_bytes
        self.offered_bytes = 0

    @property
    def overflowed(self) -> bool:
        """Whether more was offered than the limit."""
        return self.offered_bytes > self._limit_bytes

    def write(self, data: Any) -> int:
        """Keep the data while within the limit; on passing it, let go of all that was kept."""
        self.offered_bytes += len(data)
        if not self.overflowed:
            return super().write(data)
        self.seek(0)
        self.truncate()
        return len(data)


class BoundedMessages(DIMSEServiceProvider):  # type: ignore[misc]
    """Takes messages apart and puts them together, each within its limit; tells when an answer is handed over."""

    message: Any

    def __init__(self, association: Association, max_object_bytes: int,
                 answered: Callable[[Association], None]) -> None:
        super().__init__(association)
        self._max_object_bytes = max_object_bytes
        self._answered = answered

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Add the fragments of one P-DATA to the message under way."""
        if self.message is None:
            self.message = DIMSEMessage()
            self.message.encoded_command_set = BoundedBuffer(_COMMAND_BYTES)
            self.message.data_set = BoundedBuffer(self._max_object_bytes)
        try:
            super().receive_primitive(primitive)
        except UNREADABLE as error:
            _log.warning("a message cannot be read; the association ends", extra={"error": type(error).__name__})
            self.message = None
            self.dul.event_queue.put(INVALID_PDU)

    def send_msg(self, primitive: Any, context_id: int) -> None:
        """Hand a message to the network, then say so."""
        super().send_msg(primitive, context_id)
        self._answered(self.assoc)


class BoundedSocket(AssociationSocket):  # type: ignore[misc]
    """The connection of one association: a PDU must be of the agreed length and arrive in time."""

    def __init__(self, association: Association, connection: socket.socket, policy: Policy) -> None:
        super().__init__(association, client_socket=connection)
        self._policy = policy
        connection.settimeout(policy.association_timeout_s)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def recv(self, nr_bytes: int) -> bytearray:
        """Read that many bytes; fewer when the peer closes, too many are asked for, or the time is up."""
        established = self.assoc.dul.state_machine.current_state == "Sta6"
        if nr_bytes > max(_NEGOTIATION_BYTES, self._policy.max_pdu_bytes if established else 0):
            _log.warning("PDU longer than agreed; the connection is closed", extra={"pdu_bytes": nr_bytes})
            return bytearray()
        deadline = time.monotonic() + (
            self._policy.idle_timeout_s if established else self._policy.association_timeout_s)
        received = bytearray(nr_bytes)
        view, count = memoryview(received), 0
        while count < nr_bytes:
            got = self._receive_some(view[count:], deadline)
            if not got:
                break
            count += got
        view.release()
        del received[count:]
        return received

    def _shutdown_socket(self) -> None:
        """Close the connection even when it cannot be shut down because the peer has gone; pynetdicom leaves it open.

        The TLS state stays until the connection below is shut: without it a late answer would go out in plain text. Our
        closing of TLS is told to the peer (PS3.15 B.12), but only by the thread that reads and writes.
        """
        connection = self.socket
        if connection is None:
            return
        if isinstance(connection, ssl.SSLSocket) and threading.current_thread() is self.assoc.dul:
            with suppress(OSError, ValueError):
                connection.settimeout(0)
                connection.unwrap()
        with suppress(OSError):
            socket.socket.shutdown(connection, socket.SHUT_RDWR)
        connection.close()

    def _receive_some(self, view: memoryview, deadline: float) -> int:
        left_s = deadline - time.monotonic()
        if left_s <= 0 or self.socket is None:
            return 0
        self.socket.settimeout(left_s)
        return int(self.socket.recv_into(view))
