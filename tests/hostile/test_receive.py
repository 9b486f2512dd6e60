"""Hostile senders: each is refused, leaves nothing behind, and the next sender is served."""

from __future__ import annotations

import logging
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    EncapsulatedPDFStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
)
from sqlmodel import select

from service.store.tables import Instance
from tests import builders
from tests.peers import FAST_PATH, HOST, Link, Raw, Station, listening, store, wait_until

NORMAL = Raw.of(builders.radiograph(patient=9, size=16))
SLICE = builders.ct_series(slices=1, size=16)[0]
BAD = Raw.of(SLICE)


@pytest.fixture(params=["true", "false"], ids=["fast", "plain"], autouse=True)
def both_paths(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test is run with the fast path and without."""
    monkeypatch.setenv(FAST_PATH, request.param)


@contextmanager
def besieged(folder: Path, **policy: object) -> Iterator[Station]:
    """Run a listener; at the end a normal image goes through, and it is the only thing that was kept."""
    with listening(folder, **policy) as station:
        yield station
        assert store(station.port, NORMAL) == [0]
        with station.database.reading() as session:
            assert [r.sop_instance_uid for r in session.exec(select(Instance))] == [NORMAL.sop_instance_uid]
        assert len(list(station.spool.files())) == 1
        assert [p for p in station.spool.root.rglob("*") if p.suffix == ".part" or "quarantine/" in str(p)] == []
        inside = {p for p in folder.rglob("*") if p.is_file()}
        assert {p.name for p in inside if "spool" not in p.parts} <= {"firstlook.db", "firstlook.db-wal",
                                                                      "firstlook.db-shm"}
        wait_until(lambda: station.counted("firstlook_associations_open") == 0)


def refused(station: Station) -> float:
    return station.counted("firstlook_instances_received_total", modality="unknown", outcome="refused")


def with_uid(keyword: str, value: bytes) -> Raw:
    """Return the slice with the bytes of one identifier replaced in its data set."""
    tag = {"SOPInstanceUID": b"\x08\0\x18\0UI", "StudyInstanceUID": b"\x20\0\x0d\0UI",
           "SeriesInstanceUID": b"\x20\0\x0e\0UI"}[keyword]
    at = BAD.data.index(tag)
    length = struct.unpack_from("<H", BAD.data, at + 6)[0]
    return replace(BAD, data=BAD.data[:at + 6] + struct.pack("<H", len(value)) + value + BAD.data[at + 8 + length:])


@pytest.mark.parametrize("value", [
    b"../..", b"../../../../tmp/x", b"/etc/passwd", b"1.2\x003", b"1." + b"2" * 63, b"", "1.２".encode(), b"1..2",
    b"<script>", b"1.2 OR 1=1", b"\xff\xfe\xfd\xfc",
])
@pytest.mark.parametrize("keyword", ["SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"])
def test_an_identifier_that_is_no_uid(tmp_path: Path, keyword: str, value: bytes, caplog):
    with caplog.at_level(logging.DEBUG), besieged(tmp_path) as station:
        assert store(station.port, with_uid(keyword, value)) == [0xC000]
        assert refused(station) == 1
    ours = [r.getMessage() + str(vars(r)) for r in caplog.records if r.name.startswith("firstlook")]
    assert not value or not any(value.decode("latin-1") in line for line in ours)


@pytest.mark.parametrize(("raw", "context_class"), [
    (replace(BAD, sop_instance_uid="1.2.3.4"), None),
    (replace(BAD, sop_class_uid=ComputedRadiographyImageStorage), None),
    (replace(BAD, sop_class_uid=CTImageStorage), ComputedRadiographyImageStorage),
    (Raw.of(builders.ct_series(slices=1, size=16, SOPClassUID=ComputedRadiographyImageStorage)[0],
            sop_class_uid=CTImageStorage), None),
], ids=["other instance", "other class in command", "other class of context", "other class in data set"])
def test_command_context_and_data_set_that_disagree(tmp_path: Path, raw: Raw, context_class: str | None):
    contexts = [(uid, ExplicitVRLittleEndian) for uid in (CTImageStorage, ComputedRadiographyImageStorage)]
    with besieged(tmp_path) as station, Link(station.port, contexts) as link:
        assert link.store(raw, context_class) == 0xA900
        assert refused(station) == 1


@pytest.mark.parametrize("data", [
    None, b"\0", b"x" * 7, bytes(1000), np.random.default_rng(1).bytes(100_000), b"\xff" * 5000,
    BAD.data[:-1], BAD.data[:200], BAD.data[:len(BAD.data) // 2],
], ids=["none", "one byte", "seven bytes", "zeros", "random", "ones", "one byte short", "cut in the header", "half"])
def test_bytes_that_are_no_data_set(tmp_path: Path, data: bytes | None):
    with besieged(tmp_path) as station:
        assert store(station.port, replace(BAD, data=data)) == [0xC000]
        assert refused(station) == 1


def test_a_data_set_that_is_announced_and_never_comes(tmp_path: Path):
    with besieged(tmp_path, idle_timeout_s=0.5) as station:
        assert store(station.port, replace(BAD, data=b"")) == [None]


def test_many_kinds_of_random_damage(tmp_path: Path):
    """Each byte string is refused, or kept as the image that it says it is; nothing else happens."""
    random = np.random.default_rng(7)
    with listening(tmp_path) as station, Link(station.port, [(CTImageStorage, ExplicitVRLittleEndian)]) as link:
        for _ in range(150):
            damaged = bytearray(BAD.data)
            for at in random.integers(0, min(len(damaged), 900), size=4):
                damaged[at] = random.integers(0, 256)
            assert link.store(replace(BAD, data=bytes(damaged))) in (0, 0xA900, 0xC000)
    with listening(tmp_path) as station:
        assert store(station.port, NORMAL) == [0]


def test_a_length_that_passes_the_end(tmp_path: Path):
    at = BAD.data.index(b"\xe0\x7f\x10\0OW")
    lie = BAD.data[:at + 8] + struct.pack("<L", 0x7FFFFFFE) + BAD.data[at + 12:]
    with besieged(tmp_path) as station:
        assert store(station.port, replace(BAD, data=lie)) == [0xC000]


@pytest.mark.parametrize("depth", [250, 5000, 100_000])
def test_sequences_nested_without_end(tmp_path: Path, depth: int):
    begin = struct.pack("<HH2sHLHHL", 0x0009, 0x1010, b"SQ", 0, 0xFFFFFFFF, 0xFFFE, 0xE000, 0xFFFFFFFF)
    end = struct.pack("<HHLHHL", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    with besieged(tmp_path) as station:
        assert store(station.port, replace(BAD, data=begin * depth + end * depth + BAD.data)) == [0xC000]


@pytest.mark.parametrize(("sop_class_uid", "transfer_syntax_uid"), [
    (CTImageStorage, DeflatedExplicitVRLittleEndian), (CTImageStorage, ExplicitVRBigEndian),
    (EncapsulatedPDFStorage, ExplicitVRLittleEndian), ("1.2.3.4.5", ExplicitVRLittleEndian),
])
def test_contexts_that_are_not_taken(tmp_path: Path, sop_class_uid: str, transfer_syntax_uid: str):
    contexts = [(CTImageStorage, ExplicitVRLittleEndian), (sop_class_uid, transfer_syntax_uid)]
    with besieged(tmp_path) as station, Link(station.port, contexts) as link:
        assert link.accepted == {(CTImageStorage, ExplicitVRLittleEndian)}


def test_an_object_larger_than_agreed(tmp_path: Path):
    with besieged(tmp_path, max_object_bytes=100_000) as station:
        large = Raw.of(builders.ct_series(slices=1, size=512)[0])
        contexts = [(CTImageStorage, ExplicitVRLittleEndian), (NORMAL.sop_class_uid, ExplicitVRLittleEndian)]
        with Link(station.port, contexts) as link:
            assert link.store(large) == 0xC000
            assert link.store(replace(BAD, data=b"small nonsense")) == 0xC000
        assert refused(station) == 2


def test_a_study_with_two_patients_is_kept_for_a_person_to_decide(tmp_path: Path):
    other = builders.ct_series(slices=2, size=16, PatientID="SOMEONE ELSE")[1]
    with listening(tmp_path) as station:
        assert store(station.port, BAD, Raw.of(other)) == [0, 0]


# ---------------------------------------------------------------- below DIMSE

def associate_request(called: bytes = b"FIRSTLOOK", abstract_syntax: bytes = b"1.2.840.10008.1.1") -> bytes:
    """Return a minimal A-ASSOCIATE-RQ with one context, id 1, implicit VR little endian (PS3.8 9.3.2)."""
    def item(kind: int, body: bytes) -> bytes:
        return struct.pack(">BBH", kind, 0, len(body)) + body

    context = item(0x20, b"\1\0\0\0" + item(0x30, abstract_syntax) + item(0x40, b"1.2.840.10008.1.2"))
    user = item(0x50, item(0x51, struct.pack(">L", 16384)) + item(0x52, b"1.2.3"))
    body = struct.pack(">HH16s16s32x", 1, 0, called.ljust(16), b"MODALITY".ljust(16))
    body += item(0x10, b"1.2.840.10008.3.1.1.1") + context + user
    return struct.pack(">BBL", 1, 0, len(body)) + body


def talk(station: Station, *messages: bytes) -> bytes:
    """Send messages over TCP, each after the answer to the last; return all that comes back until the other closes."""
    answer = b""
    with socket.create_connection((HOST, station.port), timeout=20) as connection:
        try:
            for message in messages:
                connection.sendall(message)
                answer += connection.recv(65536)
            while got := connection.recv(65536):
                answer += got
        except (ConnectionResetError, BrokenPipeError):
            pass
    return answer


def store_request(sop_class_uid: bytes, sop_instance_uid: bytes, data: bytes) -> bytes:
    """Return one P-DATA-TF of a C-STORE-RQ on context 1, its command set exactly as given (PS3.7 9.3.1)."""
    def element(number: int, value: bytes) -> bytes:
        return struct.pack("<HHL", 0, number, len(value)) + value

    command = (element(0x0002, sop_class_uid) + element(0x0100, b"\1\0") + element(0x0110, b"\1\0")
               + element(0x0700, b"\0\0") + element(0x0800, b"\0\0") + element(0x1000, sop_instance_uid))
    command = element(0x0000, struct.pack("<L", len(command))) + command
    fragments = b"".join(struct.pack(">LBB", len(part) + 2, 1, control) + part
                         for control, part in ((3, command), (2, data)))
    return struct.pack(">BBL", 4, 0, len(fragments)) + fragments


@pytest.mark.parametrize("value", [b"../../../x", b"/etc/passwd", b"1.2\x003", b"1." + b"2" * 63, b"1." + b"2" * 5000,
                                   b"", "1.２".encode(), b"\xff\xfe"])
@pytest.mark.parametrize("place", ["class", "instance"])
def test_an_identifier_in_the_command_that_is_no_uid(tmp_path: Path, place: str, value: bytes):
    ct = CTImageStorage.encode()
    request = store_request(value if place == "class" else ct, value if place == "instance" else b"1.2.3", BAD.data)
    with besieged(tmp_path, idle_timeout_s=0.5) as station:
        assert echo_accepted(talk(station, associate_request(abstract_syntax=ct), request))


def test_random_damage_to_the_command(tmp_path: Path):
    ct = CTImageStorage.encode()
    whole = store_request(ct, b"1.2.3\0", BAD.data)
    random = np.random.default_rng(3)
    with besieged(tmp_path, idle_timeout_s=0.2) as station:
        for _ in range(60):
            damaged = bytearray(whole)
            for at in random.integers(6, 140, size=2):
                damaged[at] = random.integers(0, 256)
            assert echo_accepted(talk(station, associate_request(abstract_syntax=ct), bytes(damaged)))


@pytest.mark.parametrize(("padding", "answered"), [(1000, True), (100_000, False)])
def test_a_command_set_of_absurd_size_is_not_answered(tmp_path: Path, padding: int, answered: bool):
    """A C-ECHO-RQ that is right but for an element of padding (PS3.7 9.3.5)."""
    command = b"".join(struct.pack("<HHL", 0, number, len(value)) + value for number, value in (
        (0x0002, b"1.2.840.10008.1.1\0"), (0x0100, b"\x30\0"), (0x0110, b"\1\0"), (0x0800, b"\1\1"),
        (0x0901, bytes(padding))))
    command = struct.pack("<HHLL", 0, 0, 4, len(command)) + command
    fragment = struct.pack(">LBB", len(command) + 2, 1, 3) + command
    with besieged(tmp_path, idle_timeout_s=1.0) as station:
        answer = talk(station, associate_request(), struct.pack(">BBL", 4, 0, len(fragment)) + fragment)
        assert echo_accepted(answer)
        assert (b"\x30\x80" in answer) is answered


def echo_accepted(answer: bytes) -> bool:
    return answer[:1] == b"\2"


@pytest.mark.parametrize("message", [
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), bytes(100),
    b"\x99\0\0\0\0\4abcd", struct.pack(">BBL", 4, 0, 4) + b"abcd",
    struct.pack(">BBL", 1, 0, 100) + bytes(100), b"\1", struct.pack(">BBL", 1, 0, 68) + b"\xff" * 68,
], ids=["HTTP", "TLS", "zeros", "unknown PDU", "data first", "empty request", "one byte", "nonsense"])
def test_what_is_no_association_request_is_cut_off(tmp_path: Path, message: bytes):
    with besieged(tmp_path, association_timeout_s=0.5) as station:
        assert not echo_accepted(talk(station, message))


@pytest.mark.parametrize("pdu", [
    struct.pack(">BBL", 4, 0, 50) + bytes(10),
    b"\x99\0\0\0\0\0", struct.pack(">BBLLBB", 4, 0, 6, 2, 99, 3), struct.pack(">BBL", 4, 0, 4) + b"\xff" * 4,
], ids=["half a PDU", "unknown PDU", "unknown context", "PDV longer than its PDU"])
def test_nonsense_on_an_association_ends_it(tmp_path: Path, pdu: bytes):
    with besieged(tmp_path, idle_timeout_s=1.0) as station:
        assert echo_accepted(talk(station, associate_request(), pdu))
        wait_until(lambda: station.counted("firstlook_associations_total", outcome="aborted") == 1)


@pytest.mark.parametrize("established", [False, True])
def test_a_pdu_longer_than_agreed_is_cut_off_at_once(tmp_path: Path, established: bool):
    """The time-outs are longer than the test waits, so that only the length can be the cause."""
    long = struct.pack(">BBL", 4 if established else 1, 0, 0x7FFFFFFF) + bytes(1000)
    messages = [associate_request(), long] if established else [long]
    with besieged(tmp_path, association_timeout_s=60.0, idle_timeout_s=60.0, max_pdu_bytes=16384) as station:
        assert echo_accepted(talk(station, *messages)) is established


def acceptors() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("AcceptorThread")}


def test_silent_connections_take_no_ones_place(tmp_path: Path):
    before = acceptors()
    with besieged(tmp_path, association_timeout_s=0.5, max_associations=4) as station:
        silent = [socket.create_connection((HOST, station.port), timeout=20) for _ in range(20)]
        for connection in silent:
            assert connection.recv(1) == b""
            connection.close()
        wait_until(lambda: len(acceptors() - before) <= 3)


def test_however_many_silent_connections_of_one_address_there_are_a_sender_of_that_address_gets_in(tmp_path: Path):
    """Their time is longer than the test waits, so that only their number can be the cause."""
    with besieged(tmp_path, association_timeout_s=60.0, max_waiting=8, max_waiting_per_address=4) as station:
        silent = [socket.create_connection((HOST, station.port), timeout=20) for _ in range(12)]
        assert store(station.port, NORMAL) == [0]
        for connection in silent[:8]:
            assert connection.recv(1) == b""
        wait_until(lambda: station.counted(
            "firstlook_callers_turned_away_total", reason="too_many_waiting_of_address") >= 8)
        for connection in silent:
            connection.close()


def test_a_peer_that_falls_silent_half_way_is_cut_off(tmp_path: Path):
    with besieged(tmp_path, idle_timeout_s=0.5) as station:
        assert echo_accepted(talk(station, associate_request()))
        wait_until(lambda: station.counted("firstlook_associations_total", outcome="aborted") == 1)


def test_a_request_that_comes_drop_by_drop_is_cut_off(tmp_path: Path):
    with besieged(tmp_path, association_timeout_s=0.5) as station, \
            socket.create_connection((HOST, station.port), timeout=20) as connection:
        connection.settimeout(0.05)
        rest = iter(associate_request())
        assert wait_until(lambda: dripped(connection, rest))


def dripped(connection: socket.socket, rest: Iterator[int]) -> bool:
    """Send one more byte; tell whether the other side has closed."""
    try:
        connection.sendall(bytes([next(rest)]))
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def contexts_request(ids: list[int]) -> bytes:
    """Return an A-ASSOCIATE-RQ with a presentation context for each of these IDs."""
    plain = associate_request()
    at, end = plain.index(b"\x20\0", 74), plain.index(b"\x50\0", 74)  # after the titles, padded with blanks
    one = plain[at:end]
    body = plain[6:at] + b"".join(one[:4] + bytes([number]) + one[5:] for number in ids) + plain[end:]
    return struct.pack(">BBL", 1, 0, len(body)) + body


@pytest.mark.parametrize(("ids", "kind"), [
    (list(range(1, 256, 2)), 2), ([(2 * n + 1) % 256 for n in range(200)], 3), ([1, 3, 1], 3), ([1, 2, 3], 3), ([0], 3),
    ([], 3),
], ids=["128", "200", "one twice", "even", "zero", "none"])
def test_contexts_are_answered_or_rejected_or_cut_off(tmp_path: Path, ids: list[int], kind: int):
    """What cannot be read at all is aborted (7) or closed, not rejected (3); nothing but 128 good ones is accepted (2)."""
    with besieged(tmp_path, association_timeout_s=1.0, idle_timeout_s=1.0) as station:
        answer = talk(station, contexts_request(ids))
        assert answer[:1] == b"\2" if kind == 2 else answer[:1] in (b"\3", b"\7", b""), answer[:10]


def test_an_echo_of_a_wrong_called_title_is_rejected_below_too(tmp_path: Path):
    with besieged(tmp_path) as station:
        answer = talk(station, associate_request(called=b"OTHER"))
        assert struct.unpack(">BBLBBBB", answer[:10])[3:] == (0, 1, 1, 7)


