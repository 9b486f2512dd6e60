"""Images over TLS: from pynetdicom and DCMTK, on both paths, from the right callers only."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from sqlmodel import select

from service.receive.policy import Peer
from service.store.tables import Instance
from service.tls.contexts import Demand
from tests import builders
from tests.certificates import DAY, now
from tests.hostile.test_receive import associate_request
from tests.hostile.test_receive_fast import CT, DATA, LAST, RELEASE, UID, command, pdu, status, value
from tests.peers import FAST_PATH, HOST, Raw, Station, dcmtk_run, store, wait_until
from tests.secured import ACCEPTED, Secured, first, rejection, request, secured


@pytest.fixture(params=["true", "false"], ids=["fast", "plain"], autouse=True)
def both_paths(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test is run with the fast path and without."""
    monkeypatch.setenv(FAST_PATH, request.param)


def kept(station: Station) -> dict[str, bytes]:
    """Return the pixels of what was kept, by SOP Instance UID."""
    with station.database.reading() as session:
        rows = list(session.exec(select(Instance)))
    return {row.sop_instance_uid: pydicom.dcmread(station.spool.locate(row.path)).PixelData for row in rows}


def test_images_arrive_whole_of_any_size_with_tls_and_without(tmp_path: Path):
    made = [*builders.ct_series(slices=3, size=16), builders.radiograph(size=700), builders.radiograph(patient=3, size=33)]
    raws = [Raw.of(ds) for ds in made]
    with secured(tmp_path) as door:
        assert store(door.station.tls_port, *raws, tls=door.context()) == [0] * len(made)
        assert store(door.station.port, *raws[:1]) == [0]
        assert kept(door.station) == {ds.SOPInstanceUID: ds.PixelData for ds in made}


@pytest.mark.parametrize("piece", [1, 7, 1000, 16384])
def test_records_of_any_size_make_the_same_stream(tmp_path: Path, piece: int):
    """A PDU may come in many TLS records, a record may hold several PDUs and pieces of them."""
    stream = pdu(value(1 | LAST, command()), value(0, DATA[:900])) + pdu(value(LAST, DATA[900:])) + RELEASE
    with secured(tmp_path) as door, socket.create_connection((HOST, door.station.tls_port), timeout=20) as plain, \
            door.context().wrap_socket(plain, server_hostname="localhost") as connection:
        connection.sendall(associate_request(abstract_syntax=CT))
        assert first(connection)[:1] == ACCEPTED
        for at in range(0, len(stream), piece):
            connection.sendall(stream[at:at + piece])
        assert status(first(connection)) == 0
        assert first(connection)[:1] == b"\6"
        assert [uid.encode() for uid in kept(door.station)] == [UID]


def dcmtk_send(door: Secured, paths: list[Path], *options: str | Path) -> int:
    """Send with DCMTK's storescu over TLS and return its exit code."""
    own = door.caller
    done = dcmtk_run("storescu", "+tls", own.key_path, own.path, "+cf", door.hospital.path, *options,
                     "-aec", "FIRSTLOOK", "-aet", "MODALITY", "localhost", door.station.tls_port, *paths)
    return done.returncode


@pytest.mark.peer
@pytest.mark.parametrize("profile", ["+py", "+px", "+pz"])
def test_dcmtk_sends_with_each_of_its_profiles(tmp_path: Path, profile: str):
    made = builders.ct_series(slices=8, size=256)
    with secured(tmp_path) as door:
        assert dcmtk_send(door, builders.write(made, tmp_path / "sent"), profile) == 0
        assert kept(door.station) == {ds.SOPInstanceUID: ds.PixelData for ds in made}


@pytest.mark.peer
def test_dcmtk_with_the_wrong_certificate_or_none_is_kept_out(tmp_path: Path):
    [path] = builders.write([builders.radiograph(size=16)], tmp_path / "sent")
    with secured(tmp_path) as door:
        other = replace(door, caller=door.hospital.issue("old", ends=now() - DAY * 0.5))
        assert dcmtk_send(other, [path]) != 0
        wait_until(lambda: door.turned_away("tls_certificate_expired") == 1)
        anonymous = dcmtk_run("storescu", "+tla", "-ic", "-aec", "FIRSTLOOK", "localhost", door.station.tls_port, path)
        assert anonymous.returncode != 0
        wait_until(lambda: door.turned_away("tls_no_certificate") == 1)
        assert kept(door.station) == {}
        assert dcmtk_send(door, [path]) == 0


@pytest.mark.peer
def test_dcmtk_may_come_without_a_certificate_where_none_is_asked_for(tmp_path: Path):
    [path] = builders.write([builders.radiograph(size=16)], tmp_path / "sent")
    with secured(tmp_path, Demand.NONE) as door:
        done = dcmtk_run("storescu", "+tla", "+cf", door.hospital.path, "-aec", "FIRSTLOOK", "localhost",
                         door.station.tls_port, path)
        assert done.returncode == 0, done.stderr
        assert len(kept(door.station)) == 1


def bound(door: Secured, how: str) -> Peer:
    return {"fingerprint": Peer("CT1", fingerprint=door.caller.fingerprint), "name": Peer("CT1", name="ct1.example"),
            "address": Peer("CT1", "127.0.0.0/8", name="10.1.2.3"),
            "elsewhere": Peer("CT1", "192.0.2.1", name="ct1.example"),
            "other name": Peer("CT1", name="ct2.example"), "other fingerprint": Peer("CT1", fingerprint="0" * 64)}[how]


@pytest.mark.parametrize(("how", "reason"), [
    ("fingerprint", ""), ("name", ""), ("address", ""), ("elsewhere", "address"), ("other name", "certificate"),
    ("other fingerprint", "certificate")])
def test_an_ae_title_is_bound_to_a_certificate_and_an_address(tmp_path: Path, how: str, reason: str, caplog):
    with secured(tmp_path, any_calling_ae=False, close_unlisted_addresses=False) as door:
        let_in(door, bound(door, how))
        answer = door.says("CT1")
        assert rejection(answer) == ((1, 1, 3) if reason else None)
        assert (answer[:1] == ACCEPTED) is not bool(reason)
        if reason:
            wait_until(lambda: door.turned_away(reason) == 1)
            [told] = wait_until(lambda: [vars(r) for r in caplog.records if r.getMessage() == "association rejected"])
            assert (told["because"], told["calling"]) == (reason, "'CT1'")


def let_in(door: Secured, *peers: Peer) -> None:
    """Let these peers call from now on."""
    door.station.listener._policy = replace(door.station.listener._policy, peers=peers)


@pytest.mark.parametrize("way", ["another certificate", "no certificate", "no TLS"])
def test_a_bound_ae_title_is_nobody_elses(tmp_path: Path, way: str):
    with secured(tmp_path, Demand.OPTIONAL, any_calling_ae=False) as door:
        let_in(door, Peer("CT1", fingerprint=door.caller.fingerprint), Peer("CT2"))
        if way == "another certificate":
            answer = door.says("CT1", door.hospital.issue("other", "ct2.example"))
        else:
            with socket.create_connection((HOST, door.station.port if way == "no TLS" else door.station.tls_port), 20) as c:
                context = door.context()
                if way == "no certificate":
                    context = ssl.create_default_context(cafile=str(door.hospital.path))
                connection = c if way == "no TLS" else context.wrap_socket(c, server_hostname="localhost")
                with connection:
                    connection.sendall(request("CT1"))
                    answer = first(connection)
        assert rejection(answer) == (1, 1, 3)
        wait_until(lambda: door.turned_away("certificate") == 1)
        assert door.says("CT1")[:1] == ACCEPTED
        assert door.says("CT2")[:1] == ACCEPTED


def test_a_new_certificate_is_used_without_a_new_start(tmp_path: Path):
    with secured(tmp_path) as door:
        def presented() -> bytes | None:
            with socket.create_connection((HOST, door.station.tls_port), timeout=20) as c, \
                    door.context().wrap_socket(c, server_hostname="localhost") as connection:
                return connection.getpeercert(binary_form=True)

        before = presented()
        assert presented() == before
        door.hospital.issue("service", "localhost", "new.example")
        assert presented() != before


def test_a_revoked_certificate_is_out_with_the_next_connection(tmp_path: Path):
    with secured(tmp_path, revoked=True) as door:
        assert door.says()[:1] == ACCEPTED
        other = door.hospital.issue("other")
        door.hospital.revoke(door.caller)
        assert broken(lambda: door.says()) == b""
        wait_until(lambda: door.turned_away("tls_certificate_revoked") == 1)
        assert door.says(shown=other)[:1] == ACCEPTED


def broken(speak: Callable[[], bytes]) -> bytes:
    """Return what a caller hears; nothing when its handshake is refused."""
    try:
        return speak()
    except OSError:
        return b""


@pytest.mark.parametrize("plain", [True, False])
def test_the_plain_port_is_there_only_where_it_is_wanted(tmp_path: Path, plain: bool):
    with secured(tmp_path, plain=plain) as door:
        assert door.says()[:1] == ACCEPTED
        if plain:
            assert door.station.port != door.station.tls_port
        else:
            with pytest.raises(RuntimeError, match="does not listen without TLS"):
                door.station.port
