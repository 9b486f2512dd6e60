"""What every target promises: stored or an error of ours, whatever the peer does. A new target joins `TARGETS`."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)
from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification

from service.deliver.cstore import CStoreTarget
from service.deliver.target import Target
from service.errors import Defect, PeerUnavailable, RefusedByPeer
from tests import builders

TARGETS: list[Callable[[int], Target]] = [
    lambda port: CStoreTarget("pacs", "PACS", "127.0.0.1", port, "FIRSTLOOK", timeout_s=2.0),
]


@dataclass
class Peer:
    """A PACS that answers with `status`, stalls while `hold` is unset, or aborts; and remembers what it stored."""

    status: int = 0x0000
    classes: tuple[str, ...] = (CTImageStorage, ComputedRadiographyImageStorage)
    syntaxes: tuple[str, ...] = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
    abort: bool = False
    stall: bool = False
    knows: tuple[str, ...] = ()
    stored: list[str] = field(default_factory=list)
    associations: int = 0
    port: int = 0
    free: threading.Event = field(default_factory=threading.Event)

    def start(self) -> object:
        """Listen on a free port of this machine; returns the server."""
        entity = AE(ae_title="PACS")
        entity.require_calling_aet = list(self.knows)
        entity.add_supported_context(Verification)
        for sop_class in self.classes:
            entity.add_supported_context(sop_class, list(self.syntaxes))
        server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[
            (evt.EVT_C_STORE, self._store), (evt.EVT_C_ECHO, lambda _: 0x0000), (evt.EVT_ACCEPTED, self._count)])
        self.port = server.socket.getsockname()[1]
        return server

    def _count(self, _event: evt.Event) -> None:
        self.associations += 1

    def _store(self, event: evt.Event) -> int:
        if self.abort:
            event.assoc.abort()
            return 0x0000
        if self.stall:
            self.free.wait(30)
        if self.status == 0 or self.status >> 12 == 0xB:
            self.stored.append(str(event.request.AffectedSOPInstanceUID))
        return self.status


@pytest.fixture
def running() -> Iterator[Callable[..., Peer]]:
    """Start peers that behave as asked, and stop them after the test."""
    servers = []

    def start(**behaviour: object) -> Peer:
        peer = Peer(**behaviour)  # type: ignore[arg-type]
        servers.append((peer, peer.start()))
        return peer

    yield start
    for peer, server in servers:
        peer.free.set()
        server.shutdown()  # type: ignore[attr-defined]


@contextmanager
def stopping_relay(to_port: int, after_bytes: int) -> Iterator[int]:
    """Relay one connection to a port of this machine, and stop reading from the caller after so many bytes."""
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(("127.0.0.1", to_port)) as onward:

        def relay() -> None:
            caller, _ = listener.accept()
            with caller:
                back = threading.Thread(target=_pump, args=(onward, caller, 1 << 30))
                back.start()
                _pump(caller, onward, after_bytes)
                done.wait(30)
                onward.shutdown(socket.SHUT_RDWR)
                back.join()

        thread = threading.Thread(target=relay)
        thread.start()
        yield listener.getsockname()[1]
        done.set()
        thread.join()


def _pump(source: socket.socket, sink: socket.socket, limit: int) -> None:
    passed = 0
    with suppress(OSError):
        while passed < limit and (data := source.recv(65536)):
            sink.sendall(data)
            passed += len(data)


@pytest.fixture(params=TARGETS, ids=["cstore"])
def target_at(request: pytest.FixtureRequest) -> Callable[[int], Target]:
    """Make a target of each kind for a port."""
    made: Callable[[int], Target] = request.param
    return made


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two CT slices and a CR, as files."""
    images = [*builders.ct_series(slices=2, size=16), builders.radiograph(sop_class="CR", size=16)]
    return builders.write(images, tmp_path)


EXPECTED = [builders.uid(1, 1, 1, 1), builders.uid(1, 1, 1, 2), builders.uid(2, 1, 1, 1)]


def test_all_objects_are_stored_in_one_association(running, target_at, files):
    peer = running()
    assert target_at(peer.port).send(files) == EXPECTED
    assert peer.stored == EXPECTED
    assert peer.associations == 1


def test_sending_again_gives_the_same_answer(running, target_at, files):
    target = target_at(running().port)
    assert target.send(files) == target.send(files)


def test_no_files_is_no_work(target_at):
    assert target_at(1).send([]) == []


def test_a_warning_status_counts_as_stored(running, target_at, files):
    assert target_at(running(status=0xB007).port).send(files) == EXPECTED


def test_a_peer_that_knows_only_implicit_vr_gets_that(running, target_at, files):
    peer = running(syntaxes=(ImplicitVRLittleEndian,))
    assert target_at(peer.port).send(files) == EXPECTED


def test_compressed_pixels_are_refused_by_a_peer_that_takes_only_plain_ones(running, target_at, tmp_path):
    ds = builders.radiograph(sop_class="CR", size=16)
    ds.compress(RLELossless, generate_instance_uid=False)
    paths = builders.write([ds], tmp_path)
    with pytest.raises(RefusedByPeer, match="does not accept Computed Radiography"):
        target_at(running(classes=(ComputedRadiographyImageStorage,)).port).send(paths)
    assert target_at(running(syntaxes=(RLELossless,)).port).send(paths) == [ds.SOPInstanceUID]


@pytest.mark.parametrize("status", [0xA900, 0xC000, 0x0122, 0x0124])
def test_a_final_status_is_a_refusal_that_names_status_and_class(running, target_at, files, status):
    with pytest.raises(RefusedByPeer, match=f"0x{status:04X} for CT Image Storage"):
        target_at(running(status=status).port).send(files)


@pytest.mark.parametrize("status", [0xA700, 0xA7FF, 0x0110])
def test_a_passing_status_may_be_tried_again(running, target_at, files, status):
    with pytest.raises(PeerUnavailable, match=f"0x{status:04X}"):
        target_at(running(status=status).port).send(files)


def test_a_class_that_the_peer_does_not_take_is_refused_before_anything_is_sent(running, target_at, files):
    peer = running(classes=(CTImageStorage,))
    with pytest.raises(RefusedByPeer, match="does not accept Computed Radiography Image Storage"):
        target_at(peer.port).send(files)
    assert peer.stored == []


def test_a_peer_that_takes_no_class_at_all_refuses(running, target_at, files):
    with pytest.raises(RefusedByPeer, match="does not accept CT Image Storage, Computed Radiography Image Storage"):
        target_at(running(classes=()).port).send(files)


def test_an_unknown_calling_ae_title_is_told_to_the_administrator(running, target_at, files):
    peer = running(knows=("OTHER",))
    with pytest.raises(PeerUnavailable, match=r"rejected the association .* calling AE title 'FIRSTLOOK'"):
        target_at(peer.port).send(files)


def test_an_abort_may_be_tried_again(running, target_at, files):
    with pytest.raises(PeerUnavailable):
        target_at(running(abort=True).port).send(files)


def test_a_peer_that_stalls_ends_by_time_out(running, target_at, files):
    with pytest.raises(PeerUnavailable, match="no valid response within 2 s"):
        target_at(running(stall=True).port).send(files)


def test_a_peer_that_stops_reading_in_the_middle_ends_by_time_out(running, target_at, tmp_path):
    large = builders.radiograph(sop_class="CR", size=4096)
    (path,) = builders.write([large], tmp_path)
    with stopping_relay(running().port, after_bytes=1_000_000) as port:
        began = time.monotonic()
        with pytest.raises(PeerUnavailable):
            target_at(port).send([path])
        assert time.monotonic() - began < 15


def test_a_peer_that_accepts_tcp_and_says_nothing_ends_by_time_out(target_at, files):
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(PeerUnavailable):
        target_at(silent.getsockname()[1]).send(files)


def test_nobody_listening_may_be_tried_again(target_at, files):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(PeerUnavailable, match="could not be reached"):
        target_at(port).send(files)


def test_echo_answers_or_says_that_the_peer_is_away(running, target_at):
    target_at(running().port).echo()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(PeerUnavailable):
        target_at(port).echo()


@pytest.mark.parametrize("content", [None, b"not DICOM"])
def test_a_file_of_ours_that_cannot_be_read_is_our_defect(target_at, tmp_path, content):
    path = tmp_path / "gone.dcm"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Defect):
        target_at(1).send([path])


def test_a_host_name_that_does_not_exist_may_be_tried_again(files):
    target = CStoreTarget("pacs", "PACS", "pacs.invalid", 104, "FIRSTLOOK", timeout_s=2.0)
    with pytest.raises(PeerUnavailable):
        target.send(files)


def test_logs_hold_no_patient_and_no_text_of_the_peer(running, target_at, files, caplog):
    with caplog.at_level(logging.DEBUG, logger="firstlook"):
        target_at(running().port).send(files)
    written = "\n".join(str(vars(r)) for r in caplog.records if r.name.startswith("firstlook"))
    assert builders.uid(1, 1, 1, 1) in written
    assert "Test^Patient" not in written and "P0001" not in written
