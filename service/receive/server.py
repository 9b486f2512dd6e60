"""The ports: each connection gets a place or is closed, shakes hands where there is TLS, and becomes an association.

Nothing of a connection is done by the thread that accepts: a peer that is silent, in the handshake or after it, holds its
own thread and its own place, for as long as the policy lets it wait, and nobody else's.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from socketserver import BaseServer
from typing import Any

from pynetdicom import evt
from pynetdicom._handlers import (
    standard_dimse_recv_handler,
    standard_dimse_sent_handler,
    standard_pdu_recv_handler,
    standard_pdu_sent_handler,
)
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from service import logs
from service.receive.door import Door, Place, Shut
from service.receive.machine import ClosingStateMachine
from service.receive.policy import Policy, Refusal
from service.receive.transport import BoundedMessages, BoundedSocket, Handlers
from service.tls.handshake import HandshakeFailed, Trouble, shake_as_server
from service.tls.renewal import Renewed

_CHATTER = (
    (evt.EVT_DIMSE_RECV, standard_dimse_recv_handler), (evt.EVT_DIMSE_SENT, standard_dimse_sent_handler),
    (evt.EVT_PDU_RECV, standard_pdu_recv_handler), (evt.EVT_PDU_SENT, standard_pdu_sent_handler),
)
_log = logs.get("receive.server")


def _nothing(*told: Any) -> None:
    """Stand in where nobody wants to be told, or asked."""


@dataclass(frozen=True)
class Watch:
    """Who is asked and told about associations, each in the thread of its own.

    judge: asked when one is requested, for a reason to reject it; rejected: told of a rejection; closed: of a connection
    that was closed before, with the IP address; ended: told once of every association, whatever ended it; answered: told
    when an answer was handed over.
    """

    judge: Callable[[Association], Refusal | None] = _nothing
    rejected: Callable[[Association, Refusal], None] = _nothing
    closed: Callable[[Shut | Trouble, str], None] = _nothing
    ended: Callable[[Association], None] = _nothing
    answered: Callable[[Association], None] = _nothing


@dataclass(frozen=True)
class Tls:
    """A port with TLS; port 0 takes a free one. handshake_timeout_s: for the whole handshake."""

    renewed: Renewed
    port: int = 0
    handshake_timeout_s: float = 5.0


_UNWATCHED = Watch()


class Connection(RequestHandler):  # type: ignore[misc]
    """One connection: makes the association, waits for its end in a thread of its own, and tells of it in any case."""

    server: Server
    request: socket.socket

    def handle(self) -> None:
        """Serve the connection to its end, after the TLS handshake where there is one."""
        self.place = self.server.place_of(self.client_address)
        try:
            if self._shaken():
                self._serve()
        finally:
            self.place.leave()

    def _shaken(self) -> bool:
        """Shake hands where the port is one with TLS; False: it failed, and the connection is closed."""
        tls = self.server.tls
        if tls is None:
            return True
        try:
            self.request = shake_as_server(self.request, tls.renewed.context(), tls.handshake_timeout_s)
        except HandshakeFailed as failed:
            self.server.watch.closed(failed.trouble, self.client_address[0])
            return False
        return True

    def _serve(self) -> None:
        association = self._create_association()
        evt.trigger(association, evt.EVT_CONN_OPEN, {"address": self.client_address})
        association.start()
        association.join()
        association.dul.join(self.server.policy.association_timeout_s)  # it may still be letting go of a half object
        self.request.close()
        self.server.watch.ended(association)

    def _create_association(self) -> Association:
        association = super()._create_association()
        association.dul.socket = None
        association.dul.event_queue.get_nowait()  # "connected", said by the socket that is replaced
        self._secure(association, BoundedSocket(association, self.request, self.server.policy))
        return association

    def _secure(self, association: Association, connection: BoundedSocket) -> None:
        """Put the bounds of our policy on an association, and take pynetdicom's chatter from it."""
        association.place = self.place
        association.dul.state_machine = ClosingStateMachine(association.dul)
        association.set_socket(connection)
        association.dimse = BoundedMessages(association, self.server.policy.max_object_bytes,
                                            self.server.watch.answered)
        for event, handler in _CHATTER:
            association.unbind(event, handler)


def end(association: Association) -> None:
    """End an association at once: by A-ABORT when it is established, else by closing its connection."""
    if association.is_established:
        association.abort()
    elif association.dul.socket is not None and association.dul.socket.socket is not None:
        association.dul.socket._shutdown_socket()


class Server(ThreadedAssociationServer):  # type: ignore[misc]
    """Accepts connections, each in a thread, as many as the door lets in.

    tls: the port is one with TLS; door: shared by ports whose limits are the same.
    Raises: OSError when the port is taken.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, policy: Policy, contexts: list[PresentationContext], handlers: Handlers, watch: Watch = _UNWATCHED,
                 connection: type[Connection] = Connection, door: Door | None = None, tls: Tls | None = None) -> None:
        self.policy, self.watch, self.tls = policy, watch, tls
        self._door = door or Door(policy)
        self._places: dict[Any, Place] = {}
        entity = ApplicationEntity(policy.ae_title)
        entity.require_called_aet = True
        entity.maximum_pdu_size = policy.max_pdu_bytes
        entity.maximum_associations = policy.max_associations + policy.max_waiting + 1  # the door counts
        entity.acse_timeout = policy.association_timeout_s
        entity.network_timeout = policy.idle_timeout_s
        entity.dimse_timeout = policy.idle_timeout_s
        handlers = [(evt.EVT_REQUESTED, self._on_requested), *handlers]
        super().__init__(entity, (policy.host, tls.port if tls else policy.port), policy.ae_title, contexts,
                         evt_handlers=handlers, request_handler=connection)
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

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Give a connection its place before a byte is read; False closes it."""
        def close(because: Shut) -> None:
            with suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)
            self.watch.closed(because, client_address[0])

        found = self._door.enter(client_address[0], close)
        if isinstance(found, Shut):
            self.watch.closed(found, client_address[0])
            return False
        self._places[client_address] = found
        return True

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread of its own.  Raises: RuntimeError when there can be no more threads."""
        try:
            super().process_request(request, client_address)
        except RuntimeError:
            self.place_of(client_address).leave()
            raise

    def place_of(self, client_address: Any) -> Place:
        """Hand over the place that a connection was given."""
        return self._places.pop(client_address)

    def _on_requested(self, event: Any) -> None:
        """Reject an association that is not welcome, or one too many, before anything is negotiated."""
        association = event.assoc
        calling = str(association.requestor.primitive.calling_ae_title)
        refusal = self.watch.judge(association) or association.place.associate(calling)
        if refusal is not None:
            association.acse.send_reject(*refusal.answer)
            self.watch.rejected(association, refusal)
            association.kill()

    def service_actions(self) -> None:
        """Leave the collecting of garbage to Python: pynetdicom would halt every thread for it, every few seconds."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what went wrong while a connection was set up."""
        _log.error("connection could not be set up", exc_info=True)
