"""What is wrong with certificate files is said in a sentence, and a context follows its files."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from service.tls.contexts import Demand, client_context, server_context
from service.tls.files import CertificateFiles, UnusableCertificate, judge, validities
from service.tls.renewal import Renewed
from tests.certificates import DAY, Hospital, key, now


@pytest.fixture
def hospital(tmp_path: Path) -> Hospital:
    return Hospital(tmp_path)


def damaged(files: CertificateFiles, hospital: Hospital, how: str) -> CertificateFiles:
    """Return the files with one thing wrong."""
    other, folder = hospital.issue("other"), hospital.folder
    nonsense = folder / "nonsense.pem"
    nonsense.write_text("-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n")
    locked = folder / "locked.pem"
    locked.write_bytes(key("own").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))
    changes: dict[str, dict[str, Path]] = {
        "missing": {"certificate": folder / "absent.pem"}, "a folder": {"authorities": folder},
        "nonsense": {"certificate": nonsense}, "no key": {"private_key": other.path},
        "no authority": {"authorities": nonsense}, "other key": {"private_key": other.key_path},
        "locked": {"private_key": locked}, "no list": {"revocation_list": other.path},
        "expired": {"certificate": hospital.issue("own", ends=now() - DAY * 0.5, file_name="old").path},
        "early": {"certificate": hospital.issue("own", begins=now() + DAY, file_name="early").path},
        "old list": {"revocation_list": hospital.revoke(ends=now() - DAY * 0.5)},
    }
    return replace(files, **changes[how])


@pytest.mark.parametrize(("how", "said"), [
    ("missing", r"^receive\.tls\.certificate .*absent\.pem: does not exist$"),
    ("a folder", r"^receive\.tls\.authorities .*: cannot be read \(Is a directory\)$"),
    ("nonsense", r"^receive\.tls\.certificate .*nonsense\.pem: holds no certificate in PEM form$"),
    ("no key", r"^receive\.tls\.private_key .*other\.pem: holds no private key in PEM form$"),
    ("no authority", r"^receive\.tls\.authorities .*: holds no certificate in PEM form$"),
    ("other key", r"^receive\.tls\.private_key .*other\.key\.pem: does not fit the certificate .*own\.pem$"),
    ("locked", r"^receive\.tls\.private_key .*locked\.pem: is protected by a password; accepted: a key without one$"),
    ("no list", r"^receive\.tls\.revocation_list .*: holds no revocation list in PEM form$"),
    ("expired", r"^receive\.tls\.certificate .*old\.pem: expired on \d{4}-\d\d-\d\d, 0 days ago$"),
    ("early", r"^receive\.tls\.certificate .*early\.pem: not valid before .* UTC; is the clock"),
    ("old list", r"^receive\.tls\.revocation_list .*: a newer list was due on"),
])
def test_what_is_wrong_with_a_file_is_said_in_a_sentence(hospital: Hospital, how: str, said: str) -> None:
    files = damaged(hospital.files(hospital.issue("own")), hospital, how)
    well, sentence = judge(files, now())
    assert not well
    assert re.search(said, sentence), sentence
    assert "secret" not in sentence


def test_files_that_are_well_say_how_long_they_hold(hospital: Hospital) -> None:
    files = hospital.files(hospital.issue("own"), hospital.revoke())
    well, sentence = judge(files, now())
    assert well
    assert sentence.count("days") == 3
    days = {v.kind: v.days_left(now()) for v in validities(files)}
    assert days == pytest.approx({"certificate": 20, "authorities": 30, "revocation_list": 10}, abs=0.1)


def test_of_a_chain_the_certificate_that_ends_first_counts(hospital: Hospital) -> None:
    own, short = hospital.issue("own"), hospital.issue("middle", ends=now() + 3 * DAY)
    own.path.write_bytes(own.path.read_bytes() + short.path.read_bytes())
    [validity] = [v for v in validities(hospital.files(own)) if v.kind == "certificate"]
    assert validity.days_left(now()) == pytest.approx(3, abs=0.1)


def test_no_files_mean_the_authorities_of_the_system() -> None:
    assert judge(CertificateFiles("deliver.targets.pacs.tls"), now())[0]
    assert client_context(CertificateFiles("x"), check_name=True).verify_mode is ssl.CERT_REQUIRED


@pytest.mark.parametrize("make", [
    lambda files: server_context(files, Demand.REQUIRED), lambda files: client_context(files, check_name=True)],
    ids=["server", "client"])
def test_contexts_are_those_of_the_profile(hospital: Hospital, make: Callable[[CertificateFiles], ssl.SSLContext]) -> None:
    context = make(hospital.files(hospital.issue("own")))
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.maximum_version is ssl.TLSVersion.MAXIMUM_SUPPORTED
    assert context.verify_mode is ssl.CERT_REQUIRED
    old = {c["name"] for c in context.get_ciphers() if c["protocol"] != "TLSv1.3"}
    assert old == {f"ECDHE-{auth}-AES{suite}" for auth in ("RSA", "ECDSA") for suite in ("128-GCM-SHA256", "256-GCM-SHA384")}


def test_openssl_is_asked_too(hospital: Hospital, tmp_path: Path) -> None:
    """A certificate that reads well, with a key that is too weak for the profile."""
    weak = rsa.generate_private_key(65537, 1024)
    own = hospital.issue("own")
    made = (x509.CertificateBuilder().subject_name(own.certificate.subject).issuer_name(hospital.certificate.subject)
            .public_key(weak.public_key()).serial_number(7).not_valid_before(now() - DAY).not_valid_after(now() + DAY)
            .sign(key(hospital.name), SHA256()))
    own.path.write_bytes(made.public_bytes(Encoding.PEM))
    own.key_path.write_bytes(weak.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(UnusableCertificate, match=r"certificate .*: cannot be used for TLS \(ee key too small\)"):
        server_context(hospital.files(own), Demand.REQUIRED)


def renewed(files: CertificateFiles) -> Renewed:
    return Renewed(files, lambda found: server_context(found, Demand.REQUIRED))


def test_a_context_stays_while_its_files_do(hospital: Hospital) -> None:
    kept = renewed(hospital.files(hospital.issue("own")))
    assert kept.context() is kept.context()


def test_a_changed_file_makes_a_new_context_and_a_new_validity(hospital: Hospital) -> None:
    kept = renewed(hospital.files(hospital.issue("own")))
    before = kept.context()
    hospital.issue("own", ends=now() + 5 * DAY)
    assert kept.context() is not before
    [validity] = [v for v in kept.validities() if v.kind == "certificate"]
    assert validity.days_left(now()) == pytest.approx(5, abs=0.1)


@pytest.mark.parametrize("how", ["gone", "nonsense", "key of another"])
def test_files_that_cannot_be_used_leave_the_old_context_until_they_can(hospital: Hospital, how: str, caplog) -> None:
    own = hospital.issue("own")
    kept, right = renewed(hospital.files(own)), own.path.read_bytes()
    before = kept.context()
    if how == "gone":
        own.path.unlink()
    elif how == "nonsense":
        own.path.write_text("half a fi")
    else:
        own.path.write_bytes(hospital.issue("other").path.read_bytes())
    assert kept.context() is before
    assert kept.context() is before
    [record] = [r for r in caplog.records if r.name == "firstlook.tls.renewal"]
    assert "receive.tls." in vars(record)["detail"]
    own.path.write_bytes(right)
    os.utime(own.path, ns=(1, 1))
    assert kept.context() is not before


def test_what_is_wrong_at_the_start_stops_the_start(hospital: Hospital) -> None:
    files = replace(hospital.files(hospital.issue("own")), private_key=hospital.folder / "absent")
    with pytest.raises(UnusableCertificate, match="does not exist"):
        renewed(files)


def test_days_left_are_negative_afterwards(hospital: Hospital) -> None:
    [validity] = validities(CertificateFiles("x", authorities=hospital.path))
    assert validity.days_left(now() + timedelta(days=31)) == pytest.approx(-1, abs=0.1)
