"""The handshake of one connection, in bounded time, and whom it has shown to be at the other end."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from service.tls.files import fingerprint

_NAMES = frozenset(("DNS", "IP Address", "URI", "email"))


class Trouble(StrEnum):
    """Why a handshake failed; the value is a metric's label."""

    TOO_SLOW = "tls_too_slow"
    BROKEN_OFF = "tls_broken_off"
    NOT_TLS = "tls_not_spoken"
    NO_COMMON_VERSION = "tls_no_common_version"
    NO_CERTIFICATE = "tls_no_certificate"
    EXPIRED = "tls_certificate_expired"
    NOT_YET_VALID = "tls_certificate_not_yet_valid"
    REVOKED = "tls_certificate_revoked"
    OTHER_NAME = "tls_certificate_of_another_name"
    OTHER_FINGERPRINT = "tls_certificate_of_another_fingerprint"
    UNTRUSTED = "tls_certificate_untrusted"
    NO_REVOCATION_LIST = "tls_no_valid_revocation_list"
    REFUSED_BY_PEER = "tls_refused_by_peer"
    FAILED = "tls_failed"

    @property
    def sentence(self) -> str:
        """What it means, for a person."""
        return _SENTENCES[self]


_SENTENCES = {
    Trouble.TOO_SLOW: "the TLS handshake was not finished in time",
    Trouble.BROKEN_OFF: "the connection was broken off during the TLS handshake",
    Trouble.NOT_TLS: "the other side does not speak TLS on this port",
    Trouble.NO_COMMON_VERSION: "there is no common TLS version or cipher suite; accepted: TLS 1.2 and 1.3 (PS3.15 B.12)",
    Trouble.NO_CERTIFICATE: "the other side showed no certificate",
    Trouble.EXPIRED: "the other side's certificate has expired",
    Trouble.NOT_YET_VALID: "the other side's certificate is not valid yet",
    Trouble.REVOKED: "the other side's certificate has been revoked",
    Trouble.OTHER_NAME: "the other side's certificate is made out to another name",
    Trouble.OTHER_FINGERPRINT: "the other side's certificate has another fingerprint",
    Trouble.UNTRUSTED: "the other side's certificate comes from no authority that is trusted",
    Trouble.NO_REVOCATION_LIST: "the revocation list does not speak for the authority of the other side's certificate now",
    Trouble.REFUSED_BY_PEER: "the other side refused the TLS handshake; it may not trust our certificate",
    Trouble.FAILED: "the TLS handshake failed",
}
# Of X509_V_ERR_* in OpenSSL's x509_vfy.h; every other code means that no chain to a trusted authority was found.
_VERIFY = {10: Trouble.EXPIRED, 9: Trouble.NOT_YET_VALID, 23: Trouble.REVOKED, 62: Trouble.OTHER_NAME,
           64: Trouble.OTHER_NAME, 3: Trouble.NO_REVOCATION_LIST, 11: Trouble.NO_REVOCATION_LIST,
           12: Trouble.NO_REVOCATION_LIST}
_REASONS = {
    "WRONG_VERSION_NUMBER": Trouble.NOT_TLS, "HTTP_REQUEST": Trouble.NOT_TLS, "HTTPS_PROXY_REQUEST": Trouble.NOT_TLS,
    "UNEXPECTED_MESSAGE": Trouble.NOT_TLS, "BAD_RECORD_TYPE": Trouble.NOT_TLS, "RECORD_LAYER_FAILURE": Trouble.NOT_TLS,
    "PACKET_LENGTH_TOO_LONG": Trouble.NOT_TLS, "RECORD_TOO_SMALL": Trouble.NOT_TLS,
    "UNSUPPORTED_PROTOCOL": Trouble.NO_COMMON_VERSION, "NO_SHARED_CIPHER": Trouble.NO_COMMON_VERSION,
    "VERSION_TOO_LOW": Trouble.NO_COMMON_VERSION, "NO_PROTOCOLS_AVAILABLE": Trouble.NO_COMMON_VERSION,
    "TLSV1_ALERT_PROTOCOL_VERSION": Trouble.NO_COMMON_VERSION, "SSLV3_ALERT_HANDSHAKE_FAILURE": Trouble.NO_COMMON_VERSION,
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": Trouble.NO_CERTIFICATE, "UNEXPECTED_EOF_WHILE_READING": Trouble.BROKEN_OFF,
}


class HandshakeFailed(OSError):
    """A handshake that led to no connection, which is closed."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.sentence)
        self.trouble = trouble


@dataclass(frozen=True)
class Shown:
    """The certificate that the other side has shown and owns the key of.

    fingerprint: SHA-256, 64 lower-case hexadecimal digits; names: subject alternative names, lower case. They are empty
    when the certificate was not checked against an authority.
    """

    fingerprint: str
    names: frozenset[str] = frozenset()


def shake_as_server(connection: socket.socket, context: ssl.SSLContext, timeout_s: float) -> ssl.SSLSocket:
    """Shake hands with a caller; timeout_s: for the whole of it.  Raises: HandshakeFailed, the connection closed."""
    return _shake(connection, context, timeout_s, None)


def shake_as_client(connection: socket.socket, context: ssl.SSLContext, timeout_s: float, name: str,
                    expected_fingerprint: str = "") -> ssl.SSLSocket:
    """Shake hands with the peer that was called by this name, as `shake_as_server` does.

    expected_fingerprint: of its certificate; "": any that the context lets pass.
    """
    secured = _shake(connection, context, timeout_s, name)
    seen = shown(secured)
    if expected_fingerprint and (seen is None or seen.fingerprint != expected_fingerprint):
        secured.close()
        raise HandshakeFailed(Trouble.OTHER_FINGERPRINT)
    return secured


def shown(connection: socket.socket | None) -> Shown | None:
    """Return the certificate that the other side of a connection has shown; None: none, or no TLS."""
    if not isinstance(connection, ssl.SSLSocket):
        return None
    encoded = connection.getpeercert(binary_form=True)
    if encoded is None:
        return None
    decoded: Mapping[str, Any] = connection.getpeercert() or {}
    names = frozenset(value.lower() for kind, value in decoded.get("subjectAltName", ()) if kind in _NAMES)
    return Shown(fingerprint(encoded), names)


def _shake(connection: socket.socket, context: ssl.SSLContext, timeout_s: float, name: str | None) -> ssl.SSLSocket:
    """Shake hands; Python's time-out of do_handshake is one for all that is sent and received in it."""
    connection.settimeout(timeout_s)
    secured = connection
    try:
        secured = context.wrap_socket(connection, server_side=name is None, server_hostname=name or None,
                                      do_handshake_on_connect=False)
        secured.do_handshake()
    except (OSError, ValueError) as error:
        secured.close()
        raise HandshakeFailed(trouble_of(error)) from error
    return secured


def trouble_of(error: Exception) -> Trouble:
    """Return what an error of a handshake means, or of the first words after it: a refusal may come that late."""
    if isinstance(error, TimeoutError):
        return Trouble.TOO_SLOW
    if isinstance(error, ssl.SSLCertVerificationError):
        return _VERIFY.get(error.verify_code, Trouble.UNTRUSTED)
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError | ConnectionError):
        return Trouble.BROKEN_OFF
    if isinstance(error, ssl.SSLError):
        reason = error.reason or ""
        return _REASONS.get(reason) or (Trouble.REFUSED_BY_PEER if "ALERT" in reason else Trouble.FAILED)
    return Trouble.FAILED if isinstance(error, ValueError) else Trouble.BROKEN_OFF
