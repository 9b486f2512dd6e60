"""How a peer is called with TLS: with which files, under which name, and what it must show."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from functools import partial

from service.tls.contexts import client_context
from service.tls.handshake import shake_as_client
from service.tls.renewal import Renewed
from service.tls.sections import PeerTls


@dataclass(frozen=True)
class Calling:
    """Calls one peer. name: that its certificate must be made out to; fingerprint: of its certificate, "" any."""

    renewed: Renewed
    name: str
    fingerprint: str = ""

    def shake(self, connection: socket.socket, timeout_s: float) -> ssl.SSLSocket:
        """Shake hands on a connection that was made.  Raises: HandshakeFailed, the connection closed."""
        return shake_as_client(connection, self.renewed.context(), timeout_s, self.name, self.fingerprint)


def calling(wanted: PeerTls, place: str, host: str) -> Calling | None:
    """Return how a peer is called, None: without TLS.

    place: the section of the settings that names the files; host: the peer's.  Raises: UnusableCertificate.
    """
    if not wanted.enabled:
        return None
    make = partial(client_context, check_name=wanted.check_name, check_authority=wanted.checks_authority)
    return Calling(Renewed(wanted.files(place), make), wanted.name or host, wanted.certificate_fingerprint)
