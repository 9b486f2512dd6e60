"""`firstlook certs`: what it makes is good for TLS both ways, is kept from others, and overwrites nothing."""

from __future__ import annotations

import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from service import cli
from service.tls.contexts import Demand
from service.tls.files import CertificateFiles, judge
from service.tls.handshake import Shown
from tests.certificates import now
from tests.unit.test_tls_handshake import client, server, shake


def made(folder: Path, name: str) -> CertificateFiles:
    return CertificateFiles("x", folder / f"{name}.pem", folder / f"{name}.key.pem", folder / "authority.pem")


def names(path: Path) -> list[str]:
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    return [str(n.value) for n in certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value]


def test_what_is_made_shakes_hands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "tls"
    assert cli.main(["certs", str(folder), "--client", "PACS", "--client", "CT1", "--days", "9"]) == 0
    told = capsys.readouterr().out
    seen, answered = shake(server(made(folder, "server")), client(made(folder, "PACS")))
    assert isinstance(seen, Shown) and isinstance(answered, Shown)
    assert seen.names == {"pacs"} and "127.0.0.1" in answered.names
    assert f"fingerprint  {seen.fingerprint}" in told and f"fingerprint  {answered.fingerprint}" in told
    assert isinstance(shake(server(made(folder, "CT1"), Demand.NONE), client(made(folder, "server")), "ct1")[0], type(None))
    for name in ("server", "PACS", "CT1"):
        assert judge(made(folder, name), now())[0]
        assert not judge(made(folder, name), now() + timedelta(days=9, minutes=1))[0]


def test_openssl_finds_nothing_to_object_to(tmp_path: Path) -> None:
    assert cli.main(["certs", str(tmp_path), "--name", "pacs.example", "--name", "::1", "--client", "CT1"]) == 0
    assert names(tmp_path / "server.pem") == ["pacs.example", "::1"]
    done = subprocess.run(["openssl", "verify", "-x509_strict", "-CAfile", tmp_path / "authority.pem",
                           tmp_path / "server.pem", tmp_path / "CT1.pem"], capture_output=True, text=True, check=False)
    assert done.stdout.count(": OK") == 2, done.stderr


def test_only_the_owner_may_read(tmp_path: Path) -> None:
    cli.main(["certs", str(tmp_path / "tls"), "--client", "PACS"])
    assert {p.stat().st_mode & 0o777 for p in (tmp_path / "tls").iterdir()} == {0o600}
    assert (tmp_path / "tls").stat().st_mode & 0o777 == 0o700


def test_nothing_is_overwritten_and_the_same_authority_signs_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["certs", str(tmp_path), "--client", "PACS"]) == 0
    before = {p: p.read_bytes() for p in tmp_path.iterdir()}
    for again in (["--client", "PACS"], ["--name", "localhost"]):
        assert cli.main(["certs", str(tmp_path), *again]) == 1
        assert "is there already; nothing is overwritten" in capsys.readouterr().err
    assert cli.main(["certs", str(tmp_path)]) == 2
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == before
    assert cli.main(["certs", str(tmp_path), "--client", "CT1"]) == 0
    seen, _ = shake(server(made(tmp_path, "server")), client(made(tmp_path, "CT1")))
    assert isinstance(seen, Shown)


def test_a_key_of_another_authority_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("a", "b"):
        cli.main(["certs", str(tmp_path / folder)])
    (tmp_path / "a" / "authority.key.pem").write_bytes((tmp_path / "b" / "authority.key.pem").read_bytes())
    assert cli.main(["certs", str(tmp_path / "a"), "--client", "CT1"]) == 1
    assert "does not fit" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [
    ["--client", "../../etc/x"], ["--client", "authority"], ["--client", "Server"], ["--client", ""], ["--client", "a b"],
    ["--client", "x.key"], ["--days", "0"], ["--days", "4000"], ["--days", "x"]])
def test_nonsense_is_refused_before_anything_is_made(tmp_path: Path, arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["certs", str(tmp_path / "tls"), *arguments])
    assert not (tmp_path / "tls").exists()


def test_a_name_that_is_no_host_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["certs", str(tmp_path), "--name", "a b"]) == 1
    assert "'a b': accepted: a host name" in capsys.readouterr().err


