"""Handshakes: who gets through, whom they show, and why the others do not."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from service.tls.contexts import Demand, client_context, server_context
from service.tls.files import CertificateFiles
from service.tls.handshake import HandshakeFailed, Shown, Trouble, shake_as_client, shake_as_server, shown
from tests.certificates import DAY, Hospital, Made, now

SOON_S = 5.0


@pytest.fixture
def hospital(tmp_path: Path) -> Hospital:
    return Hospital(tmp_path / "hospital")


@contextmanager
def connected() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of one TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        caller = socket.create_connection(listener.getsockname(), timeout=SOON_S)
        called, _ = listener.accept()
    with caller, called:
        yield caller, called


def shake(server: ssl.SSLContext, client: ssl.SSLContext, name: str = "localhost", expected: str = "",
          version: ssl.TLSVersion | None = None) -> tuple[object, object]:
    """Let both sides shake hands, and speak; return what each got: a Shown, None, or the trouble."""
    if version is not None:
        client.maximum_version = version

    def outcome(work: Callable[[], ssl.SSLSocket]) -> object:
        try:
            with work() as secured:
                secured.sendall(b"x")
                return shown(secured) if secured.recv(1) == b"x" else ConnectionError
        except HandshakeFailed as failed:
            return failed.trouble
        except OSError as error:  # in TLS 1.3 a caller learns only afterwards that its certificate was refused
            return type(error)

    with connected() as (caller, called), ThreadPoolExecutor(2) as pool:
        answer: Future[object] = pool.submit(outcome, lambda: shake_as_server(called, server, SOON_S))
        asked = pool.submit(outcome, lambda: shake_as_client(caller, client, SOON_S, name, expected))
        return answer.result(SOON_S * 3), asked.result(SOON_S * 3)


def client(files: CertificateFiles) -> ssl.SSLContext:
    return client_context(files, check_name=True)


def server(files: CertificateFiles, demand: Demand = Demand.REQUIRED) -> ssl.SSLContext:
    return server_context(files, demand)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_sides_learn_whom_they_speak_to(hospital: Hospital, version: ssl.TLSVersion) -> None:
    us, them = hospital.issue("us"), hospital.issue("them", "ct1.example", "10.1.2.3", "urn:ct:1")
    seen, answered = shake(server(hospital.files(us)), client(hospital.files(them)), version=version)
    assert seen == Shown(them.fingerprint, frozenset(("ct1.example", "10.1.2.3", "urn:ct:1")))
    assert answered == Shown(us.fingerprint, frozenset(("localhost", "127.0.0.1")))


@pytest.mark.parametrize(("demand", "expected"), [
    (Demand.REQUIRED, Trouble.NO_CERTIFICATE), (Demand.OPTIONAL, None), (Demand.NONE, None)])
def test_a_caller_without_a_certificate(hospital: Hospital, demand: Demand, expected: object) -> None:
    caller = client(CertificateFiles("x", authorities=hospital.path))
    assert shake(server(hospital.files(hospital.issue("us")), demand), caller)[0] is expected


def foreign(hospital: Hospital, folder: Path) -> Made:
    """A certificate of an authority of the same name, with another key."""
    return Hospital(folder / "elsewhere", "elsewhere").issue("them")


@pytest.mark.parametrize(("how", "expected"), [
    ("expired", Trouble.EXPIRED), ("early", Trouble.NOT_YET_VALID), ("foreign", Trouble.UNTRUSTED),
    ("revoked", Trouble.REVOKED), ("list too old", Trouble.NO_REVOCATION_LIST),
])
def test_a_caller_whose_certificate_is_not_taken(hospital: Hospital, tmp_path: Path, how: str, expected: Trouble) -> None:
    them = {"expired": lambda: hospital.issue("them", ends=now() - DAY * 0.5),
            "early": lambda: hospital.issue("them", begins=now() + DAY),
            "foreign": lambda: foreign(hospital, tmp_path)}.get(how, lambda: hospital.issue("them"))()
    listed = {"revoked": lambda: hospital.revoke(them), "list too old": lambda: hospital.revoke(ends=now() - DAY * 0.5)}
    revocation_list = listed[how]() if how in listed else None
    us = hospital.files(hospital.issue("us"), revocation_list)
    seen, answered = shake(server(us), client(hospital.files(them)))
    assert seen is expected
    assert not isinstance(answered, Shown)


def test_a_certificate_that_is_not_on_the_revocation_list_passes(hospital: Hospital) -> None:
    listed = hospital.revoke(hospital.issue("someone"))
    them = hospital.issue("them")
    assert isinstance(shake(server(hospital.files(hospital.issue("us"), listed)), client(hospital.files(them)))[0], Shown)


@pytest.mark.parametrize("how", ["expired", "another name", "foreign"])
def test_a_caller_checks_whom_it_has_called(hospital: Hospital, tmp_path: Path, how: str) -> None:
    us = {"expired": lambda: hospital.issue("us", ends=now() - DAY * 0.5),
          "another name": lambda: hospital.issue("us", "x.y"),
          "foreign": lambda: foreign(hospital, tmp_path)}[how]()
    answered = shake(server(hospital.files(us), Demand.NONE), client(CertificateFiles("x", authorities=hospital.path)))[1]
    assert answered is {"expired": Trouble.EXPIRED, "another name": Trouble.OTHER_NAME, "foreign": Trouble.UNTRUSTED}[how]


@pytest.mark.parametrize("right", [True, False])
def test_a_fingerprint_stands_in_for_an_authority(hospital: Hospital, right: bool) -> None:
    us = hospital.issue("us", "x.y")
    caller = client_context(CertificateFiles("x"), check_name=True, check_authority=False)
    expected = us.fingerprint if right else "0" * 64
    answered = shake(server(hospital.files(us), Demand.NONE), caller, expected=expected)[1]
    assert answered == (Shown(us.fingerprint) if right else Trouble.OTHER_FINGERPRINT)


def test_a_single_certificate_may_be_trusted_instead_of_its_authority(hospital: Hospital) -> None:
    us, them, other = hospital.issue("us"), hospital.issue("them"), hospital.issue("other")
    ours = replace(hospital.files(us), authorities=them.path)
    assert isinstance(shake(server(ours), client(hospital.files(them)))[0], Shown)
    assert shake(server(ours), client(hospital.files(other)))[0] is Trouble.UNTRUSTED


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
@pytest.mark.parametrize("how", ["old version", "weak suite"])
def test_what_is_older_than_the_profile_is_refused(hospital: Hospital, how: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if how == "old version":
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("ALL:@SECLEVEL=0")
    else:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("AES256-SHA:ECDHE-ECDSA-AES256-SHA:ECDHE-RSA-AES256-SHA")
    seen, _ = shake(server(hospital.files(hospital.issue("us")), Demand.NONE), context)
    assert seen is Trouble.NO_COMMON_VERSION


@pytest.mark.parametrize(("said", "expected"), [
    (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", Trouble.NOT_TLS),
    (b"\1\0\0\0\0\xcd\0\1\0\0" + b"FIRSTLOOK" * 30, Trouble.NOT_TLS),
    (bytes(100), Trouble.NOT_TLS), (b"\x16\x03\x01\x02\x00\x01", Trouble.BROKEN_OFF), (b"", Trouble.BROKEN_OFF),
], ids=["HTTP", "association request", "zeros", "half a hello", "nothing"])
def test_a_caller_that_does_not_speak_tls(hospital: Hospital, said: bytes, expected: Trouble) -> None:
    with connected() as (caller, called):
        caller.sendall(said)
        caller.shutdown(socket.SHUT_WR)
        with pytest.raises(HandshakeFailed) as failed:
            shake_as_server(called, server(hospital.files(hospital.issue("us"))), SOON_S)
    assert failed.value.trouble is expected


@pytest.mark.parametrize("drips", [False, True], ids=["silent", "drop by drop"])
def test_a_handshake_ends_with_its_time(hospital: Hospital, drips: bool) -> None:
    context, done = server(hospital.files(hospital.issue("us"))), threading.Event()
    with connected() as (caller, called):
        def drip() -> None:
            for byte in b"\x16\x03\x01\x02\x00" + bytes(500):
                if done.wait(0.02):
                    return
                caller.send(bytes([byte]))

        dripping = threading.Thread(target=drip)
        began = time.monotonic()
        if drips:
            dripping.start()
        with pytest.raises(HandshakeFailed) as failed:
            shake_as_server(called, context, 0.3)
        done.set()
        if drips:
            dripping.join()
        assert failed.value.trouble is Trouble.TOO_SLOW
        assert time.monotonic() - began < SOON_S


def test_a_session_is_not_taken_up_again(hospital: Hospital) -> None:
    us, caller = server(hospital.files(hospital.issue("us"))), client(hospital.files(hospital.issue("them")))
    caller.maximum_version = ssl.TLSVersion.TLSv1_2
    session = None
    for _ in range(2):
        with connected() as (asked, called), ThreadPoolExecutor(1) as pool:
            answer = pool.submit(shake_as_server, called, us, SOON_S)
            with caller.wrap_socket(asked, server_hostname="localhost", session=session) as secured, answer.result():
                assert not secured.session_reused
                session = secured.session


def test_plain_connections_show_nobody() -> None:
    with connected() as (caller, _):
        assert shown(caller) is None
    assert shown(None) is None


@pytest.mark.parametrize("trouble", list(Trouble))
def test_every_trouble_has_a_sentence(trouble: Trouble) -> None:
    assert trouble.sentence and trouble.value.startswith("tls_")
