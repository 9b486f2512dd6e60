"""A listener with TLS and its hospital, callers with certificates, and what they say byte by byte."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from service.receive.server import Tls
from service.tls.contexts import Demand, client_context, server_context
from service.tls.files import CertificateFiles
from service.tls.renewal import Renewed
from tests.certificates import Hospital, Made
from tests.hostile.test_receive import associate_request
from tests.peers import HOST, Station, listening

REJECTED, ACCEPTED = b"\3", b"\2"


@dataclass(frozen=True)
class Secured:
    """A running listener with a port with TLS, and the authority whose certificates it takes."""

    station: Station
    hospital: Hospital
    caller: Made

    def context(self, shown: Made | None = None, trusted: Path | None = None) -> ssl.SSLContext:
        """Return what a caller shakes hands with; shown: its certificate, the usual caller's by default."""
        own = shown or self.caller
        return client_context(CertificateFiles("caller", own.path, own.key_path, trusted or self.hospital.path), True)

    def turned_away(self, reason: str) -> float:
        """Return how many callers were turned away for a reason."""
        return self.station.counted("firstlook_callers_turned_away_total", reason=reason)

    def says(self, calling: str = "MODALITY", shown: Made | None = None) -> bytes:
        """Ask for an association and return the first answer, read from the wire; b"" when the connection ends instead."""
        with socket.create_connection((HOST, self.station.tls_port), timeout=20) as connection, \
                self.context(shown).wrap_socket(connection, server_hostname="localhost") as secured:
            secured.sendall(request(calling))
            return first(secured)


@contextmanager
def secured(folder: Path, demand: Demand = Demand.REQUIRED, revoked: bool = False, handshake_timeout_s: float = 5.0,
            **policy: Any) -> Iterator[Secured]:
    """Run a listener with a plain port and one with TLS; revoked: it has a list, on which nobody is yet."""
    hospital = Hospital(folder / "certificates")
    own, caller = hospital.issue("service"), hospital.issue("caller", "ct1.example", "10.1.2.3")
    files = hospital.files(own, hospital.revoke() if revoked else None)
    tls = Tls(Renewed(files, partial(server_context, demand=demand)), 0, handshake_timeout_s)
    with listening(folder / "station", tls=tls, **policy) as station:
        yield Secured(station, hospital, caller)


def request(calling: str = "MODALITY", called: str = "FIRSTLOOK") -> bytes:
    """Return an A-ASSOCIATE-RQ of these AE titles."""
    whole = associate_request(called.encode())
    return whole[:26] + calling.encode().ljust(16) + whole[42:]


def first(connection: socket.socket) -> bytes:
    """Return the first PDU that comes; b"" when the connection ends first."""
    received = b""
    try:
        while len(received) < 6 or len(received) < 6 + struct.unpack_from(">L", received, 2)[0]:
            got = connection.recv(65536)
            if not got:
                break
            received += got
    except (ConnectionError, ssl.SSLError):
        return b""
    return received


def rejection(answer: bytes) -> tuple[int, int, int] | None:
    """Return (result, source, reason) of an A-ASSOCIATE-RJ (PS3.8 9.3.4); None when the answer is none."""
    return (answer[7], answer[8], answer[9]) if answer[:1] == REJECTED else None
