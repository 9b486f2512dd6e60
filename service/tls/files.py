"""The files of one TLS end: certificate, key, authorities, revocation list; and what is wrong with them, in a sentence."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

_SECONDS_A_DAY = 86400.0
_PEM_END = b"-----END X509 CRL-----"


class UnusableCertificate(ValueError):
    """A file that TLS cannot use. The text is a sentence that names setting, file and what is wrong; no secret."""


@dataclass(frozen=True)
class CertificateFiles:
    """Where one end of TLS finds its files, all PEM; None: not used.

    place: the section of the settings that names them, as it stands in sentences and in a metric's label.
    certificate: our own, followed by intermediate ones; private_key: of it, without a password.
    authorities: whom we trust; revocation_list: certificates that these have revoked, one list or several.
    """

    place: str
    certificate: Path | None = None
    private_key: Path | None = None
    authorities: Path | None = None
    revocation_list: Path | None = None

    def paths(self) -> list[tuple[str, Path]]:
        """Return (field, path) of every file that is used."""
        found = [(f.name, getattr(self, f.name)) for f in fields(self) if f.name != "place"]
        return [(name, path) for name, path in found if path is not None]


@dataclass(frozen=True)
class Validity:
    """From when until when a file holds; of several certificates the one that ends first. kind: the field it is of."""

    kind: str
    path: Path
    begins: datetime
    ends: datetime

    def days_left(self, now: datetime) -> float:
        """Return the days until it ends, negative afterwards."""
        return (self.ends - now).total_seconds() / _SECONDS_A_DAY


def validities(files: CertificateFiles) -> list[Validity]:
    """Return the validity of each file that has one, read from the disk.

    Raises: UnusableCertificate for one that is absent, unreadable, not PEM, or a key that does not fit.
    """
    found = []
    for kind, path in files.paths():
        if kind == "private_key":
            continue
        if kind == "revocation_list":
            found.append(_list_validity(files.place, path))
            continue
        certificates = _certificates(files.place, kind, path)
        ends_first = min(certificates, key=lambda c: c.not_valid_after_utc)
        found.append(Validity(kind, path, ends_first.not_valid_before_utc, ends_first.not_valid_after_utc))
    _require_fit(files)
    return found


def judge(files: CertificateFiles, now: datetime) -> tuple[bool, str]:
    """Tell whether the files can be used now, and what was found, in a sentence. now: with time zone."""
    try:
        found = validities(files)
    except UnusableCertificate as error:
        return False, str(error)
    for validity in found:
        wrong = _out_of_time(validity, now)
        if wrong:
            return False, f"{_named(files.place, validity.kind, validity.path)}: {wrong}"
    said = [f"{v.kind.replace('_', ' ')} until {v.ends:%Y-%m-%d}, {int(v.days_left(now))} days" for v in found]
    return True, "; ".join(said) or "no file is named; the authorities of this system are trusted"


def fingerprint(certificate_der: bytes) -> str:
    """Return the SHA-256 fingerprint of a certificate in DER, 64 hexadecimal digits."""
    return hashlib.sha256(certificate_der).hexdigest()


def _out_of_time(validity: Validity, now: datetime) -> str:
    if now > validity.ends:
        what = "a newer list was due" if validity.kind == "revocation_list" else "expired"
        return f"{what} on {validity.ends:%Y-%m-%d}, {int(-validity.days_left(now))} days ago"
    if now < validity.begins:
        return f"not valid before {validity.begins:%Y-%m-%d %H:%M} UTC; is the clock of this machine right?"
    return ""


def _named(place: str, kind: str, path: Path) -> str:
    return f"{place}.{kind} {path}"


def _read(place: str, kind: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise UnusableCertificate(f"{_named(place, kind, path)}: does not exist") from error
    except OSError as error:
        raise UnusableCertificate(f"{_named(place, kind, path)}: cannot be read ({error.strerror})") from error


def _certificates(place: str, kind: str, path: Path) -> list[x509.Certificate]:
    data = _read(place, kind, path)
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError as error:
        raise UnusableCertificate(f"{_named(place, kind, path)}: holds no certificate in PEM form") from error


def _list_validity(place: str, path: Path) -> Validity:
    """Return the validity of the revocation lists of a file; a list without an end holds for good."""
    parts = [part + _PEM_END for part in _read(place, "revocation_list", path).split(_PEM_END)[:-1]]
    try:
        lists = [x509.load_pem_x509_crl(part) for part in parts]
    except ValueError:
        lists = []
    if not lists:
        raise UnusableCertificate(f"{_named(place, 'revocation_list', path)}: holds no revocation list in PEM form")
    ends = [one.next_update_utc or datetime.max.replace(tzinfo=UTC) for one in lists]
    first = ends.index(min(ends))
    return Validity("revocation_list", path, lists[first].last_update_utc, ends[first])


def _require_fit(files: CertificateFiles) -> None:
    """Check that the key can be used and is that of the certificate."""
    if files.certificate is None or files.private_key is None:
        return
    named = _named(files.place, "private_key", files.private_key)
    key = _key(named, _read(files.place, "private_key", files.private_key))
    own = _certificates(files.place, "certificate", files.certificate)[0]
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*form) != own.public_key().public_bytes(*form):
        raise UnusableCertificate(f"{named}: does not fit the certificate {files.certificate}")


def _key(named: str, data: bytes) -> PrivateKeyTypes:
    try:
        return load_pem_private_key(data, None)
    except TypeError as error:
        raise UnusableCertificate(f"{named}: is protected by a password; accepted: a key without one") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UnusableCertificate(f"{named}: holds no private key in PEM form") from error
