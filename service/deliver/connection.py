"""Our end of an association that we open: time limits everywhere, TLS where the peer wants it, no socket left open.

pynetdicom 3.0.4 forgets why a handshake failed, or why TLS ended after it; it reads as soon as bytes are there, and then
cannot send until they make a whole record with something for us in it (a ticket has nothing); and it closes without saying
so in TLS. Relied on: AssociationSocket.connect, ready, recv and _shutdown_socket, ApplicationEntity._create_socket.
"""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.transport import T_CONNECT, AddressInformation, AssociationSocket

from service.tls.calling import Calling
from service.tls.handshake import HandshakeFailed, Trouble, trouble_of

_RECORD_BYTES = 16384
_CONNECTED, _CLOSED = "Evt2", "Evt17"  # events of the upper layer, as pynetdicom numbers them


class Entity(AE):  # type: ignore[misc]
    """The calling AE of one association. calling: how the peer is called with TLS; None: without."""

    def __init__(self, ae_title: str, timeout_s: float, calling: Calling | None = None) -> None:
        super().__init__(ae_title=ae_title)
        self.acse_timeout = self.dimse_timeout = self.network_timeout = self.connection_timeout = timeout_s
        self._connections: list[SecuredSocket | PlainSocket] = []
        self._timeout_s, self._calling = timeout_s, calling

    @property
    def trouble(self) -> Trouble | None:
        """What went wrong in TLS, if anything."""
        return next((c.trouble for c in self._connections if c.trouble is not None), None)

    def limit_sending(self, event: evt.Event) -> None:
        """Give each send a time limit, which pynetdicom takes off: a peer that stops reading would hold us."""
        event.assoc.dul.socket.socket.settimeout(self._timeout_s)

    def close_sockets(self) -> None:
        """Close what pynetdicom leaves to the garbage collector after a refused connection."""
        for connection in self._connections:
            connection.opened.close()

    def _create_socket(self, association: Association, address: AddressInformation, _tls: object) -> AssociationSocket:
        made = (PlainSocket(association, address) if self._calling is None
                else SecuredSocket(association, address, self._calling, self._timeout_s))
        self._connections.append(made)
        return made


class PlainSocket(AssociationSocket):  # type: ignore[misc]
    """A connection without TLS. opened: what is to be closed at the end."""

    trouble: Trouble | None = None

    def __init__(self, association: Association, address: AddressInformation) -> None:
        super().__init__(association, address=address)
        self.opened: socket.socket = self.socket


class SecuredSocket(PlainSocket):
    """A connection with TLS. All but `connect` is called by the thread of the upper layer."""

    def __init__(self, association: Association, address: AddressInformation, calling: Calling, timeout_s: float) -> None:
        super().__init__(association, address)
        self.socket: Any = self.opened
        self._calling, self._timeout_s = calling, timeout_s
        self._held = bytearray()
        self._ended = False

    def connect(self, primitive: T_CONNECT) -> None:
        """Connect, shake hands, and tell pynetdicom how it went."""
        address = primitive.address_info.as_tuple
        try:
            self.opened.settimeout(self._timeout_s)
            self.opened.connect(address)
            self.socket = self.opened = self._calling.shake(self.opened, self._timeout_s)
        except OSError as error:
            self.trouble = error.trouble if isinstance(error, HandshakeFailed) else None
            self.opened.close()
            self.socket, primitive.result = None, _CLOSED
        else:
            self.assoc.requestor.address_info = AddressInformation.from_tuple(self.opened.getsockname())
            self._is_connected = True
            evt.trigger(self.assoc, evt.EVT_CONN_OPEN, {"address": address})
            primitive.result = _CONNECTED
        self.provider_queue.put(primitive)
        self._ready.set()

    @property
    def ready(self) -> bool:
        """Whether there is something to read, or the peer has closed; what TLS keeps for itself is none."""
        if self.socket is None or not self._is_connected:
            return False
        if self._held or self._ended:
            return True
        self.socket.settimeout(0)
        try:
            self._hold(self.socket.recv(_RECORD_BYTES))
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        except (OSError, ValueError) as error:
            self._break(error)
        finally:
            with suppress(OSError):
                self.socket.settimeout(self._timeout_s)
        return True

    def recv(self, nr_bytes: int) -> bytearray:
        """Read that many bytes; fewer when the peer closes or the time is up."""
        while len(self._held) < nr_bytes and not self._ended and self.socket is not None:
            try:
                self._hold(self.socket.recv(max(_RECORD_BYTES, nr_bytes - len(self._held))))
            except (OSError, ValueError) as error:
                self._break(error)
        taken = self._held[:nr_bytes]
        del self._held[:nr_bytes]
        return taken

    def _hold(self, received: bytes) -> None:
        self._held += received
        self._ended = not received

    def _break(self, error: Exception) -> None:
        """Remember why TLS ended: in TLS 1.3 a peer refuses our certificate only after the handshake."""
        self._ended = True
        if isinstance(error, ssl.SSLError):
            self.trouble = trouble_of(error)

    def _shutdown_socket(self) -> None:
        """Close the connection, and say so in TLS (PS3.15 B.12)."""
        connection = self.socket
        if connection is None:
            return
        with suppress(OSError, ValueError):
            connection.settimeout(0)
            connection.unwrap()
        with suppress(OSError):
            socket.socket.shutdown(connection, socket.SHUT_RDWR)
        connection.close()
