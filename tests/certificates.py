"""Certificates as tests need them: of any authority, for any time, revoked or not. Their keys are small and made once."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from service.tls.files import CertificateFiles, fingerprint

DAY = timedelta(days=1)


def now() -> datetime:
    return datetime.now(UTC)


@cache
def key(name: str) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@dataclass(frozen=True)
class Made:
    """A certificate and its key, as objects and as files."""

    certificate: x509.Certificate
    path: Path
    key_path: Path

    @property
    def fingerprint(self) -> str:
        """Its SHA-256."""
        return fingerprint(self.certificate.public_bytes(Encoding.DER))


class Hospital:
    """An authority in a folder, and what it issues."""

    def __init__(self, folder: Path, name: str = "hospital") -> None:
        self.folder, self.name = folder, name
        folder.mkdir(parents=True, exist_ok=True)
        subject = _subject(name)
        made = (_builder(subject, subject, key(name), now() - DAY, now() + 30 * DAY)
                .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
                .sign(key(name), SHA256()))
        self.certificate = made
        self.path = folder / f"{name}.pem"
        self.path.write_bytes(made.public_bytes(Encoding.PEM))

    def issue(self, name: str, *names: str, begins: datetime | None = None, ends: datetime | None = None,
              file_name: str = "") -> Made:
        """Make a certificate for a subject, with subject alternative names (localhost and 127.0.0.1 by default)."""
        alternative = [_alternative(n) for n in names or ("localhost", "127.0.0.1")]
        made = (_builder(_subject(name), self.certificate.subject, key(name),
                         begins or now() - DAY, ends or now() + 20 * DAY)
                .add_extension(x509.SubjectAlternativeName(alternative), critical=False)
                .sign(key(self.name), SHA256()))
        path, key_path = (self.folder / f"{file_name or name}{end}" for end in (".pem", ".key.pem"))
        path.write_bytes(made.public_bytes(Encoding.PEM))
        key_path.write_bytes(key(name).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return Made(made, path, key_path)

    def revoke(self, *revoked: Made, begins: datetime | None = None, ends: datetime | None = None) -> Path:
        """Write the revocation list that names these, and return its file."""
        builder = (x509.CertificateRevocationListBuilder().issuer_name(self.certificate.subject)
                   .last_update(begins or now() - DAY).next_update(ends or now() + 10 * DAY))
        for one in revoked:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder().serial_number(one.certificate.serial_number)
                .revocation_date(now() - DAY).build())
        path = self.folder / "revoked.pem"
        path.write_bytes(builder.sign(key(self.name), SHA256()).public_bytes(Encoding.PEM))
        return path

    def files(self, own: Made, revocation_list: Path | None = None) -> CertificateFiles:
        """Return the files of one end that shows `own` and trusts this authority."""
        return CertificateFiles("receive.tls", own.path, own.key_path, self.path, revocation_list)


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(subject: x509.Name, issuer: x509.Name, own: ec.EllipticCurvePrivateKey, begins: datetime,
             ends: datetime) -> x509.CertificateBuilder:
    return (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(own.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(begins).not_valid_after(ends))


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.UniformResourceIdentifier(name) if ":" in name else x509.DNSName(name)
