"""A certificate authority for trying TLS out: one key that signs, and certificates for a listener and its callers."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from service.tls.files import UnusableCertificate, fingerprint

KEY_BITS = 3072
NAME_FORM = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")
_ORGANISATION = "firstlook, for tests only"
_SKEW = timedelta(minutes=5)
_KEY_USES = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
             "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")


@dataclass(frozen=True)
class Issued:
    """A certificate that was made: its files, the names that it is made out to, and its SHA-256 fingerprint."""

    certificate: Path
    private_key: Path
    names: tuple[str, ...]
    fingerprint: str
    ends: datetime


class Authority:
    """A certificate authority in a folder: authority.pem and authority.key.pem."""

    def __init__(self, folder: Path, certificate: x509.Certificate, key: RSAPrivateKey) -> None:
        self._folder, self._certificate, self._key = folder, certificate, key
        self.path = folder / "authority.pem"

    @classmethod
    def make(cls, folder: Path, now: datetime, days: int) -> Authority:
        """Make an authority in a folder, which is made too.

        Raises: FileExistsError naming the file when there is one already; OSError.
        """
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        _require_absent([folder / "authority.pem", folder / "authority.key.pem"])
        key = generate_private_key(65537, KEY_BITS)
        name = _name("test authority")
        certificate = (
            _begun(name, name, key, now, now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage("key_cert_sign", "crl_sign"), critical=True)
            .sign(key, SHA256()))
        _write(folder / "authority.key.pem", _pem_of(key))
        _write(folder / "authority.pem", certificate.public_bytes(Encoding.PEM))
        return cls(folder, certificate, key)

    @classmethod
    def load(cls, folder: Path) -> Authority:
        """Read an authority that `make` has written.  Raises: UnusableCertificate; OSError."""
        try:
            certificate = x509.load_pem_x509_certificate((folder / "authority.pem").read_bytes())
            key = load_pem_private_key((folder / "authority.key.pem").read_bytes(), None)
        except (ValueError, TypeError) as error:
            raise UnusableCertificate(f"{folder}: authority.pem or authority.key.pem is not of a test authority") from error
        if not isinstance(key, RSAPrivateKey) or key.public_key() != certificate.public_key():
            raise UnusableCertificate(f"{folder}: authority.key.pem does not fit authority.pem")
        return cls(folder, certificate, key)

    def issue(self, file_name: str, names: Sequence[str], now: datetime, days: int) -> Issued:
        """Make a certificate for these host names or addresses, good for calling and for being called.

        file_name: of the two files, without endings. It ends with the authority's own certificate at the latest.
        Raises: UnusableCertificate for a name that is neither; FileExistsError naming the file; OSError.
        """
        alternative = [_alternative(name) for name in names]
        path, key_path = self._folder / f"{file_name}.pem", self._folder / f"{file_name}.key.pem"
        _require_absent([path, key_path])
        key = generate_private_key(65537, KEY_BITS)
        ends = min(now + timedelta(days=days), self._certificate.not_valid_after_utc)
        certificate = (
            _begun(_name(names[0]), self._certificate.subject, key, now, ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage("digital_signature", "key_encipherment"), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                           critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .add_extension(x509.SubjectAlternativeName(alternative), critical=False)
            .sign(self._key, SHA256()))
        _write(key_path, _pem_of(key))
        _write(path, certificate.public_bytes(Encoding.PEM))
        return Issued(path, key_path, tuple(names), fingerprint(certificate.public_bytes(Encoding.DER)), ends)


def _begun(subject: x509.Name, issuer: x509.Name, key: RSAPrivateKey, now: datetime,
           ends: datetime) -> x509.CertificateBuilder:
    return (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(now - _SKEW)
            .not_valid_after(ends)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False))


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, _ORGANISATION),
                      x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _key_usage(*wanted: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{use: use in wanted for use in _KEY_USES})


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    if not NAME_FORM.fullmatch(name):
        raise UnusableCertificate(
            f"{name!r}: accepted: a host name (letters, digits, '.', '_', '-'; at most 64) or an address")
    return x509.DNSName(name)


def _pem_of(key: RSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _require_absent(paths: Sequence[Path]) -> None:
    for path in paths:
        if path.exists() or path.is_symlink():
            raise FileExistsError(f"{path} is there already; nothing is overwritten")


def _write(path: Path, data: bytes) -> None:
    """Write a new file that only its owner may read."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
