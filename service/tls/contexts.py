"""TLS as DICOM asks for it: the BCP 195 profile of PS3.15 B.12 (RFC 8996, RFC 9325).

TLS 1.3 where the peer has it, 1.2 at least; of TLS 1.2 only the four suites of RFC 9325 4.2, which have forward secrecy and
authenticate what they encrypt; keys and signatures of at least 112 bits of security; no compression, no renegotiation.
Sessions are not resumed: each connection shows its certificate anew, so a revoked one is out with the next connection.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

from service.tls.files import CertificateFiles, UnusableCertificate, validities

SUITES = ("ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-GCM-SHA256",
           "ECDHE-RSA-AES128-GCM-SHA256", "@SECLEVEL=2")


class Demand(StrEnum):
    """Whether a caller has to show a certificate."""

    REQUIRED = "required"
    OPTIONAL = "optional"
    NONE = "none"


_VERIFY = {Demand.REQUIRED: ssl.CERT_REQUIRED, Demand.OPTIONAL: ssl.CERT_OPTIONAL, Demand.NONE: ssl.CERT_NONE}


def server_context(files: CertificateFiles, demand: Demand) -> ssl.SSLContext:
    """Return what a listener shakes hands with.  Raises: UnusableCertificate."""
    validities(files)
    context = _bounded(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_NO_TICKET
    context.num_tickets = 0
    _load(context, files)
    context.verify_mode = _VERIFY[demand]
    return context


def client_context(files: CertificateFiles, check_name: bool, check_authority: bool = True) -> ssl.SSLContext:
    """Return what a caller shakes hands with; without a file of authorities those of the system are trusted.

    check_name: the peer's certificate must be made out to the name that is called; check_authority: it must come from
    an authority, which only a caller that compares the fingerprint may do without.  Raises: UnusableCertificate.
    """
    validities(files)
    context = _bounded(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    context.options |= ssl.OP_NO_TICKET
    context.check_hostname = check_name and check_authority
    if not check_authority:
        context.verify_mode = ssl.CERT_NONE
    elif files.authorities is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    _load(context, files)
    return context


def _bounded(context: ssl.SSLContext) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(":".join(SUITES))
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # a single certificate may be trusted, not only an authority
    return context


def _load(context: ssl.SSLContext, files: CertificateFiles) -> None:
    """Give the files to OpenSSL, which may refuse what looked well: a key too short, a signature too weak."""
    if files.certificate is not None:
        with _naming(files, "certificate", files.certificate):
            context.load_cert_chain(files.certificate, files.private_key, password="")
    if files.authorities is not None:
        with _naming(files, "authorities", files.authorities):
            context.load_verify_locations(files.authorities)
    if files.revocation_list is not None:
        with _naming(files, "revocation_list", files.revocation_list):
            context.load_verify_locations(files.revocation_list)
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF


@contextmanager
def _naming(files: CertificateFiles, kind: str, path: Path) -> Iterator[None]:
    """Put setting and file to what OpenSSL or the disk says."""
    try:
        yield
    except ssl.SSLError as error:
        why = (error.reason or "not understood").replace("_", " ").lower()
        raise UnusableCertificate(f"{files.place}.{kind} {path}: cannot be used for TLS ({why})") from error
    except OSError as error:
        raise UnusableCertificate(f"{files.place}.{kind} {path}: cannot be read ({error.strerror})") from error
