"""pynetdicom's upper layer with bounds: a peer can make it neither wait for ever nor hold more than was agreed.

What pynetdicom 3.0.4 leaves open and is closed here: the length of a PDU is believed as sent; a PDU that stops half way
is waited for without end; an object or command set grows without limit; the end of an association is not always told.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from io import BytesIO
from socketserver import BaseServer
from typing import Any, cast

from pynetdicom import evt
from pynetdicom._handlers import (
    standard_dimse_recv_handler,
    standard_dimse_sent_handler,
    standard_pdu_recv_handler,
    standard_pdu_sent_handler,
)
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import DIMSEMessage
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from service import logs
from service.receive.machine import INVALID_PDU, UNREADABLE, ClosingStateMachine
from service.receive.policy import Policy

_NEGOTIATION_BYTES = 262_144
_COMMAND_BYTES = 65_536
_CHATTER = (
    (evt.EVT_DIMSE_RECV, standard_dimse_recv_handler), (evt.EVT_DIMSE_SENT, standard_dimse_sent_handler),
    (evt.EVT_PDU_RECV, standard_pdu_recv_handler), (evt.EVT_PDU_SENT, standard_pdu_sent_handler),
)
_log = logs.get("receive.transport")

Handlers = list[tuple[Any, Callable[[Any], Any]]]


def _nothing(association: Association) -> None:
    """Stand in where nobody wants to be told."""


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
        """Close the connection even when it cannot be shut down because the peer has gone; pynetdicom leaves it open."""
        connection = self.socket
        super()._shutdown_socket()
        if connection is not None:
            connection.close()

    def _receive_some(self, view: memoryview, deadline: float) -> int:
        left_s = deadline - time.monotonic()
        if left_s <= 0 or self.socket is None:
            return 0
        self.socket.settimeout(left_s)
        return int(self.socket.recv_into(view))


class Connection(RequestHandler):  # type: ignore[misc]
    """One connection: makes the association, waits for its end in a thread of its own, and tells of it in any case."""

    server: Server

    def handle(self) -> None:
        """Serve the connection to its end."""
        association = self._create_association()
        evt.trigger(association, evt.EVT_CONN_OPEN, {"address": self.client_address})
        association.start()
        association.join()
        cast(socket.socket, self.request).close()
        self.server.ended(association)

    def _create_association(self) -> Association:
        association = super()._create_association()
        association.dul.socket = None
        association.dul.event_queue.get_nowait()  # "connected", said by the socket that is replaced
        connection = cast(socket.socket, self.request)
        self._secure(association, BoundedSocket(association, connection, self.server.policy))
        return association

    def _secure(self, association: Association, connection: BoundedSocket) -> None:
        """Put the bounds of our policy on an association, and take pynetdicom's chatter from it."""
        association.dul.state_machine = ClosingStateMachine(association.dul)
        association.set_socket(connection)
        association.dimse = BoundedMessages(association, self.server.policy.max_object_bytes, self.server.answered)
        for event, handler in _CHATTER:
            association.unbind(event, handler)


def end(association: Association) -> None:
    """End an association at once: by A-ABORT when it is established, else by closing its connection."""
    if association.is_established:
        association.abort()
    elif association.dul.socket is not None and association.dul.socket.socket is not None:
        association.dul.socket._shutdown_socket()


class Server(ThreadedAssociationServer):  # type: ignore[misc]
    """Accepts connections, each in a thread.

    ended: called once for every association, whatever ended it; answered: called when an answer is handed over.
    Raises: OSError when the port is taken.
    """

    daemon_threads = True

    def __init__(self, policy: Policy, contexts: list[PresentationContext], handlers: Handlers,
                 ended: Callable[[Association], None] = _nothing,
                 answered: Callable[[Association], None] = _nothing,
                 connection: type[Connection] = Connection) -> None:
        self.policy, self.ended, self.answered = policy, ended, answered
        entity = ApplicationEntity(policy.ae_title)
        entity.require_called_aet = True
        entity.maximum_pdu_size = policy.max_pdu_bytes
        entity.maximum_associations = policy.max_associations
        entity.acse_timeout = policy.association_timeout_s
        entity.network_timeout = policy.idle_timeout_s
        entity.dimse_timeout = policy.idle_timeout_s
        super().__init__(entity, (policy.host, policy.port), policy.ae_title, contexts, evt_handlers=handlers,
                         request_handler=connection)
        entity._servers.append(self)
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True,
                                        name="listener")

    def start(self) -> None:
        """Begin to accept connections."""
        self._thread.start()

    @property
    def port(self) -> int:
        """The TCP port listened on."""
        return int(self.server_address[1])

    def stop_accepting(self) -> None:
        """Close the port; associations that are open go on."""
        BaseServer.shutdown(self)
        self.server_close()
        self._thread.join()

    def service_actions(self) -> None:
        """Leave the collecting of garbage to Python: pynetdicom would halt every thread for it, every few seconds."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what went wrong while a connection was set up."""
        _log.error("connection could not be set up", exc_info=True)
