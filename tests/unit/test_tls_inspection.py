"""What is said of certificates: whose they are, who issued them, until when, and what is wrong with a chain."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from service.checks import check_certificates
from service.sections import Receive
from service.settings import Settings
from service.tls.authority import Authority
from service.tls.inspection import Use, inspect
from tests.certificates import DAY, Hospital, key, now
from tests.peers import HOST
from tests.secured import secured


@pytest.fixture
def site(tmp_path: Path) -> Hospital:
    return Hospital(tmp_path / "certificates")


def test_names_issuer_and_end_are_told(site: Hospital) -> None:
    files = site.files(site.issue("us", "pacs.example", "10.1.2.3"), site.revoke())
    well, said = inspect(files, Use.LISTENING, now())
    assert well and said.startswith("for pacs.example, 10.1.2.3; issued by 'hospital', known here; certificate until 20")
    assert "19 days" in said and "authorities until" in said and "revocation list until" in said


def test_an_issuer_that_is_not_among_our_authorities_is_no_fault(site: Hospital, tmp_path: Path) -> None:
    other = Hospital(tmp_path / "other", "another authority")
    files = replace(site.files(site.issue("us")), authorities=other.path)
    assert inspect(files, Use.CALLING, now())[0]
    assert "issued by 'hospital', not in our authorities" in inspect(files, Use.CALLING, now())[1]


def test_a_certificate_without_alternative_names_says_so(tmp_path: Path) -> None:
    site = Hospital(tmp_path / "alone", "alone")
    own = replace(site.issue("us"), path=site.path)
    own.key_path.write_bytes(site.issue("alone", file_name="x").key_path.read_bytes())
    well, said = inspect(replace(site.files(own), authorities=None), Use.LISTENING, now())
    assert well and said.startswith("for alone (no alternative name); self-signed")


def intermediate(site: Hospital) -> x509.Certificate:
    """Return an authority that the hospital's has issued."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "department")])
    return (x509.CertificateBuilder().subject_name(name).issuer_name(site.certificate.subject)
            .public_key(key("department").public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now() - DAY).not_valid_after(now() + DAY * 5)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key("hospital"), SHA256()))


def leaf(issuer: x509.Certificate, signed_by: ec.EllipticCurvePrivateKey, usage: x509.ObjectIdentifier) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "us")])
    return (x509.CertificateBuilder().subject_name(name).issuer_name(issuer.subject).public_key(key("us").public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(now() - DAY).not_valid_after(now() + DAY * 9)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("us.example")]), critical=False)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False).sign(signed_by, SHA256()))


@pytest.mark.parametrize(("order", "well", "words"), [
    ("leaf department", True, "for us.example; chain of 2, issued by 'hospital', known here; certificate until"),
    ("leaf hospital", False, "'hospital' follows 'us', but has not issued it; accepted: our certificate first"),
    ("leaf department other", False, "'another' follows 'department', but has not issued it")])
def test_a_chain_is_followed_certificate_by_certificate(site: Hospital, order: str, well: bool, words: str) -> None:
    own, department = site.issue("us"), intermediate(site)
    chain = {"leaf": leaf(department, key("department"), ExtendedKeyUsageOID.SERVER_AUTH), "department": department,
             "hospital": site.certificate, "other": Hospital(site.folder / "another", "another").certificate}
    own.path.write_bytes(b"".join(chain[name].public_bytes(Encoding.PEM) for name in order.split()))
    found, said = inspect(site.files(own), Use.LISTENING, now())
    assert found is well and words in said
    if well:
        assert "4 days" in said, "the department's certificate ends first"


def test_a_certificate_for_callers_is_none_for_a_listener(site: Hospital) -> None:
    own = site.issue("us")
    own.path.write_bytes(
        leaf(site.certificate, key("hospital"), ExtendedKeyUsageOID.CLIENT_AUTH).public_bytes(Encoding.PEM))
    assert inspect(site.files(own), Use.CALLING, now())[0]
    well, said = inspect(site.files(own), Use.LISTENING, now())
    assert not well and "receive.tls.certificate" in said and "may not be used for listening" in said


def test_what_certs_makes_is_well_for_both(tmp_path: Path) -> None:
    made = Authority.make(tmp_path / "made", now(), 10).issue("server", ["localhost"], now(), 10)
    table = Receive.model_validate({"tls": {
        "enabled": True, "certificate": made.certificate, "private_key": made.private_key,
        "authorities": tmp_path / "made" / "authority.pem"}})
    for use in Use:
        well, said = inspect(table.tls.files, use, now())
        assert well and "issued by 'test authority', known here" in said


# ---------------------------------------------------------------- the lines of `firstlook check`

def settings(site: Hospital, port: int, **tls: object) -> Settings:
    """Return settings with a listener with TLS and a target that is called with it."""
    own = site.issue("firstlook", "firstlook.example")
    ours = {"certificate": str(own.path), "private_key": str(own.key_path), "authorities": str(site.path)}
    return Settings.model_validate({
        "receive": {"tls": {"enabled": True} | ours}, "deliver": {"targets": [{
            "name": "pacs", "ae_title": "PACS", "host": "localhost", "port": port, "timeout_s": 3,
            "tls": {"enabled": True} | ours | tls}]}})


def test_check_tells_of_our_certificates_and_of_the_peers(tmp_path: Path) -> None:
    with secured(tmp_path) as door:
        here, peer = check_certificates(settings(door.hospital, door.station.tls_port), now())
    assert (here.name, here.ok, peer.name, peer.ok) == ("tls receive", True, "tls pacs", True)
    assert here.detail.startswith("for firstlook.example; issued by 'hospital'")
    assert peer.detail.startswith("TLSv1.3; its certificate is for localhost, 127.0.0.1; until ")
    assert "; ours: for firstlook.example; " in peer.detail


@pytest.mark.parametrize(("tls", "words"), [
    ({"name": "pacs.example"}, "made out to another name; ours: for firstlook.example"),
    ({"certificate_fingerprint": "ab" * 32}, "has another fingerprint; ours:"),
    ({"authorities": "/nowhere/authorities.pem"},
     "deliver.targets.pacs.tls.authorities /nowhere/authorities.pem: does not exist")])
def test_check_tells_what_is_wrong_with_a_peer(tmp_path: Path, tls: dict[str, str], words: str) -> None:
    with secured(tmp_path) as door:
        _, peer = check_certificates(settings(door.hospital, door.station.tls_port, **tls), now())
    assert not peer.ok and words in peer.detail


def test_check_tells_of_a_peer_that_is_away_and_of_what_has_expired(site: Hospital) -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
    here, peer = check_certificates(settings(site, port), now() + DAY * 25)
    assert not here.ok and "receive.tls.certificate" in here.detail and "expired on" in here.detail
    assert not peer.ok and "expired on" in peer.detail
    _, peer = check_certificates(settings(site, port), now())
    assert not peer.ok
    assert peer.detail.startswith("it could not be reached (Connection refused); ours: for firstlook.example")


def test_check_tells_nothing_of_tls_where_there_is_none() -> None:
    assert check_certificates(Settings(), now()) == []
