"""What the certificates of one end say, for a person: whose they are, until when, and whether the chain is whole."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from datetime import datetime
from enum import Enum
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from service.tls.calling import Calling
from service.tls.files import CertificateFiles, judge


class Use(Enum):
    """What a certificate is shown for; the value is its extended key usage (RFC 5280 4.2.1.12)."""

    LISTENING = ExtendedKeyUsageOID.SERVER_AUTH
    CALLING = ExtendedKeyUsageOID.CLIENT_AUTH


def inspect(files: CertificateFiles, use: Use, now: datetime) -> tuple[bool, str]:
    """Tell whether the files can be used now, and what was found, in a sentence. now: with time zone."""
    well, said = judge(files, now)
    if not well or files.certificate is None:
        return well, said
    named = f"{files.place}.certificate {files.certificate}"
    chain = x509.load_pem_x509_certificates(files.certificate.read_bytes())
    wrong = _wrong(chain, use)
    if wrong:
        return False, f"{named}: {wrong}"
    known = x509.load_pem_x509_certificates(files.authorities.read_bytes()) if files.authorities else []
    return True, f"for {names(chain[0])}; {_origin(chain, known)}; {said}"


def look(calling: Calling, host: str, port: int, timeout_s: float, now: datetime) -> str:
    """Connect, shake hands and return what the peer has shown.  Raises: OSError, of which HandshakeFailed is one."""
    connection = socket.create_connection((host, port), timeout_s)
    with calling.shake(connection, timeout_s) as secured:
        shown = x509.load_der_x509_certificate(secured.getpeercert(binary_form=True) or b"")
        version = secured.version()
    ends = shown.not_valid_after_utc
    return f"{version}; its certificate is for {names(shown)}; until {ends:%Y-%m-%d}, {(ends - now).days} days"


def names(certificate: x509.Certificate) -> str:
    """Return whom a certificate is made out to: its alternative names, else its common name, which TLS does not look at."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return f"{_common(certificate.subject)} (no alternative name)"
    return ", ".join(str(name.value) for name in found)


def _wrong(chain: Sequence[x509.Certificate], use: Use) -> str:
    try:
        usage = chain[0].extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        usage = None
    if usage is not None and use.value not in usage:
        return f"may not be used for {use.name.lower()} (extended key usage)"
    for one, issuer in pairwise(chain):
        if not _issued(one, issuer):
            return (f"{_common(issuer.subject)!r} follows {_common(one.subject)!r}, but has not issued it; accepted: our "
                    "certificate first, then the issuer of each")
    return ""


def _origin(chain: Sequence[x509.Certificate], known: Sequence[x509.Certificate]) -> str:
    last, of = chain[-1], "" if len(chain) == 1 else f"chain of {len(chain)}, "
    if last.issuer == last.subject:
        return f"{of}self-signed"
    where = "known here" if any(_issued(last, one) for one in known) else "not in our authorities, the peers must know it"
    return f"{of}issued by {_common(last.issuer)!r}, {where}"


def _issued(one: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        one.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _common(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else name.rfc4514_string()
