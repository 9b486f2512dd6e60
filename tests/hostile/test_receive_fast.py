"""The fast path under attack: half objects, fragments out of order, nonsense; nothing stays, and the next is served."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import CTImageStorage, ImplicitVRLittleEndian

from service.receive.incoming import Incoming
from service.receive.storing import Announced
from tests import builders
from tests.hostile.test_receive import associate_request, besieged, refused, store_request
from tests.peers import HOST, Link, Raw, Station, listening, store, wait_until

CT = CTImageStorage.encode()
SLICE = Raw.of(builders.ct_series(slices=1, size=64)[0])
IMPLICIT = builders.ct_series(slices=1, size=64)[0]
IMPLICIT.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
DATA = Raw.of(IMPLICIT).data or b""
UID = str(IMPLICIT.SOPInstanceUID).encode()
RELEASE, ABORT = struct.pack(">BBLL", 5, 0, 4, 0), struct.pack(">BBLL", 7, 0, 4, 0)
COMMAND, LAST = 1, 2
numbers = count(1)


def value(control: int, data: bytes, context_id: int = 1, length: int | None = None) -> bytes:
    """Return one presentation data value."""
    return struct.pack(">LBB", len(data) + 2 if length is None else length, context_id, control) + data


def pdu(*values: bytes, kind: int = 4) -> bytes:
    """Return one PDU, P-DATA-TF unless said otherwise."""
    body = b"".join(values)
    return struct.pack(">BBL", kind, 0, len(body)) + body


def command() -> bytes:
    """Return the command set of the C-STORE-RQ of the slice."""
    whole = store_request(CT, UID + b"\0" * (len(UID) % 2), b"")
    length = struct.unpack_from(">L", whole, 6)[0]
    return whole[12:10 + length]


@contextmanager
def associated(station: Station) -> Iterator[socket.socket]:
    """Open an association for CT in implicit VR little endian."""
    watch(station)
    with socket.create_connection((HOST, station.port), timeout=20) as connection:
        connection.sendall(associate_request(abstract_syntax=CT))
        assert connection.recv(65536)[:1] == b"\2"
        yield connection


def watch(station: Station) -> None:
    """Have the listener remember which images were begun, for `parts`."""
    if hasattr(station.listener, "begun"):
        return
    [server] = station.listener._servers
    station.listener.begun, begin = [], server.taker.begin

    def begun(announced: Announced) -> Incoming:
        station.listener.begun.append(begin(announced))
        return station.listener.begun[-1]

    server.taker = replace(server.taker, begin=begun)


def parts(station: Station) -> list[object]:
    """Return what is half received: images with a buffer, and files."""
    held = [image for image in getattr(station.listener, "begun", []) if image._part is not None]
    return [*held, *station.spool.root.rglob("*.part")]


def status(answer: bytes) -> int:
    """Return the status of a C-STORE-RSP."""
    at = answer.index(struct.pack("<HHL", 0, 0x0900, 2))
    return int(struct.unpack_from("<H", answer, at + 8)[0])


def rest(connection: socket.socket) -> bytes:
    """Return all that comes until the other side closes."""
    answer = b""
    try:
        while got := connection.recv(65536):
            answer += got
    except ConnectionResetError:
        pass
    return answer


HALF = pdu(value(COMMAND | LAST, command()), value(0, DATA[:3000]))


@pytest.mark.parametrize("ending", [b"", ABORT, RELEASE, pdu(value(0, b""))[:3], pdu(value(0, DATA[3000:5000]))[:-7]],
                         ids=["closed", "abort", "release", "half a header", "half a fragment"])
def test_an_object_that_breaks_off_leaves_nothing(tmp_path: Path, ending: bytes):
    with besieged(tmp_path) as station:
        with associated(station) as connection:
            connection.sendall(HALF)
            wait_until(lambda: parts(station))
            connection.sendall(ending)
            connection.shutdown(socket.SHUT_WR)
            rest(connection)
        wait_until(lambda: not parts(station))


def test_a_peer_that_falls_silent_in_the_middle_of_an_object_is_cut_off(tmp_path: Path):
    with besieged(tmp_path, idle_timeout_s=0.5) as station, associated(station) as connection:
        connection.sendall(HALF)
        wait_until(lambda: parts(station))
        assert rest(connection)[:1] == b"\7"
        wait_until(lambda: not parts(station))


def test_stopping_ends_an_object_that_is_half_received(tmp_path: Path):
    with listening(tmp_path) as station, associated(station) as connection:
        connection.sendall(HALF)
        wait_until(lambda: parts(station))
        assert station.listener.stop()
        assert rest(connection)[:1] == b"\7"
        assert not parts(station)


@pytest.mark.parametrize("after", [
    pdu(value(COMMAND | LAST, command())), pdu(value(COMMAND, command()[:20])), pdu(value(0, b"xx", context_id=3)),
    pdu(value(LAST, DATA[3000:]), value(0, b"more")), pdu(value(0, b"xxxx", length=1)), pdu(value(0, b"xxxx", length=99)),
    pdu(b"\0\0\0"),
], ids=["a second command", "part of a command", "another context", "more after the last", "shorter than its head",
        "longer than its PDU", "three bytes"])
def test_a_fragment_that_does_not_belong_ends_the_association(tmp_path: Path, after: bytes):
    with besieged(tmp_path) as station, associated(station) as connection:
        connection.sendall(HALF)
        wait_until(lambda: parts(station))
        connection.sendall(after)
        assert rest(connection)[:1] == b"\7"
        wait_until(lambda: not parts(station))
        wait_until(lambda: station.counted("firstlook_associations_total", outcome="aborted") == 1)


def test_a_pdu_longer_than_agreed_in_the_middle_of_an_object_is_cut_off_at_once(tmp_path: Path):
    with besieged(tmp_path, max_pdu_bytes=300_000, idle_timeout_s=60.0) as station, associated(station) as connection:
        connection.sendall(HALF)
        wait_until(lambda: parts(station))
        connection.sendall(struct.pack(">BBL", 4, 0, 300_001) + bytes(1000))
        rest(connection)
        wait_until(lambda: not parts(station))


@pytest.mark.parametrize("pieces", [1, 2, 7, 400])
def test_an_object_arrives_whole_however_it_is_cut(tmp_path: Path, pieces: int):
    """In fragments, in PDUs, and with the bytes of the stream cut anywhere."""
    step = -(-len(DATA) // pieces)
    cuts = [DATA[at:at + step] for at in range(0, len(DATA), step)]
    stream = pdu(value(COMMAND | LAST, command())) + b"".join(
        pdu(value(0, cut[:5]), value(0, cut[5:])) for cut in cuts) + pdu(value(LAST, b""))
    with listening(tmp_path) as station, associated(station) as connection:
        for at in range(0, len(stream), 1711):
            connection.sendall(stream[at:at + 1711])
        assert status(connection.recv(65536)) == 0
        [path] = station.spool.files()
        assert station.spool.locate(path).read_bytes().endswith(DATA)


def test_a_command_in_two_fragments_is_taken_too(tmp_path: Path):
    with listening(tmp_path) as station, associated(station) as connection:
        connection.sendall(pdu(value(COMMAND, command()[:30])) + pdu(value(COMMAND | LAST, command()[30:]))
                           + pdu(value(LAST, DATA)))
        assert status(connection.recv(65536)) == 0
        assert len(list(station.spool.files())) == 1


def test_an_object_that_passes_the_limit_is_refused_and_its_file_goes_at_once(tmp_path: Path):
    with besieged(tmp_path, max_object_bytes=6000) as station, associated(station) as connection:
        connection.sendall(HALF)
        wait_until(lambda: parts(station))
        connection.sendall(pdu(value(0, DATA[3000:7000])))
        wait_until(lambda: not parts(station))
        connection.sendall(pdu(value(LAST, DATA[7000:])))
        assert status(connection.recv(65536)) == 0xC000
        assert refused(station) == 1


def test_after_a_refusal_the_association_goes_on(tmp_path: Path):
    with listening(tmp_path) as station:
        with Link(station.port, [(SLICE.sop_class_uid, SLICE.transfer_syntax_uid)]) as link:
            assert link.store(replace(SLICE, data=b"nonsense" * 9)) == 0xC000
            assert link.store(replace(SLICE, sop_instance_uid="1.2.3")) == 0xA900
            assert link.store(SLICE) == 0
        assert parts(station) == []


def test_an_abort_of_an_unknown_source_ends_the_association(tmp_path: Path):
    with besieged(tmp_path) as station:
        with associated(station) as connection:
            connection.sendall(HALF)
            wait_until(lambda: parts(station))
            connection.sendall(pdu(b"\0\0\xf3\0", kind=7))
            rest(connection)
        wait_until(lambda: not parts(station))


fragments = st.builds(value, st.integers(0, 3), st.binary(max_size=40), st.sampled_from([1, 1, 1, 3, 0]),
                      st.none() | st.none() | st.integers(0, 60))
damaged = st.tuples(st.integers(0, 400), st.integers(0, 255)).map(
    lambda change: HALF[:change[0]] + bytes([change[1]]) + HALF[change[0] + 1:])
messages = st.lists(
    st.just(HALF) | damaged | st.lists(fragments, max_size=3).map(lambda values: pdu(*values))
    | st.builds(pdu, st.binary(max_size=30), kind=st.integers(0, 8)) | st.binary(max_size=12),
    min_size=1, max_size=4)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Station]:
    with listening(tmp_path_factory.mktemp("fuzz"), idle_timeout_s=0.3) as station:
        yield station


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(messages)
def test_whatever_comes_is_answered_or_ends_the_association_and_the_next_is_served(target: Station, sent: list[bytes]):
    with associated(target) as connection:
        try:
            for message in sent:
                connection.sendall(message)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        rest(connection)
    wait_until(lambda: target.counted("firstlook_associations_open") == 0)
    assert parts(target) == []
    number = next(numbers)
    assert store(target.port, Raw.of(builders.radiograph(patient=5, instance=number, size=16))) == [0]
