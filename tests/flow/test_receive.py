"""Images come in over real associations."""

from __future__ import annotations

import hashlib
import logging
import socket
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ComprehensiveSRStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.sop_class import Verification
from sqlalchemy import text
from sqlmodel import select

from service.receive.policy import Peer
from service.store.tables import Event, Instance, Study
from tests import builders
from tests.peers import FAST_PATH, HOST, Link, Raw, Station, listening, store, wait_until

SLICES = builders.ct_series(slices=6, size=32)
RAWS = [Raw.of(ds) for ds in SLICES]


@pytest.fixture(params=["true", "false"], ids=["fast", "plain"], autouse=True)
def both_paths(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test is run with the fast path and without."""
    monkeypatch.setenv(FAST_PATH, request.param)


def instances(station: Station) -> list[Instance]:
    with station.database.reading() as session:
        return list(session.exec(select(Instance).order_by(Instance.id)))


def studies(station: Station) -> list[Study]:
    with station.database.reading() as session:
        return list(session.exec(select(Study).order_by(Study.id)))


def events(station: Station) -> list[Event]:
    with station.database.reading() as session:
        return list(session.exec(select(Event).order_by(Event.id)))


def result(manufacturer: str = "Another maker", number: int = 500) -> Raw:
    """Return a structured report of the study of SLICES."""
    made = builders.radiograph(patient=1, study=1, instance=number, Manufacturer=manufacturer, Modality="SR",
                               SOPClassUID=ComprehensiveSRStorage)
    return Raw.of(made)


def safe(station: Station) -> set[str]:
    """Return the names of the images that a start would find: sealed in a ready file, or in their places already."""
    names = set()
    for file in station.spool.root.glob("ready/*/*"):
        with suppress(FileNotFoundError), file.open("rb") as opened:  # its name goes when the other is safe
            if opened.read(15) == b"firstlook image":
                names.add(file.name)
    return names | {Path(path).stem for path in station.spool.files()}


def test_images_are_kept_as_sent_and_written_down(tmp_path: Path):
    with listening(tmp_path) as station:
        assert store(station.port, *RAWS) == [0] * 6
        for row, raw in zip(instances(station), RAWS, strict=True):
            file = station.spool.locate(row.path).read_bytes()
            assert file.endswith(raw.data)
            assert row.sha256 == hashlib.sha256(raw.data).hexdigest()
            assert row.calling_aet == "MODALITY"
        assert [s.state for s in studies(station)] == ["receiving"]
        assert station.counted("firstlook_instances_received_total", modality="CT", outcome="stored") == 6
        assert station.counted("firstlook_received_bytes_total") == sum(len(r.data) for r in RAWS)


def test_the_file_is_there_when_the_answer_is_and_the_row_of_the_first_image_and_soon_of_the_others(tmp_path: Path):
    with listening(tmp_path) as station, Link(station.port, [(RAWS[0].sop_class_uid, ExplicitVRLittleEndian)]) as link:
        for count, raw in enumerate(RAWS, 1):
            assert link.store(raw) == 0
            assert len(safe(station)) == count
            assert instances(station)
            wait_until(lambda wanted=count: len(instances(station)) == wanted)


def test_a_second_copy_of_a_study_changes_nothing(tmp_path: Path):
    with listening(tmp_path) as station:
        store(station.port, *RAWS)
        wait_until(lambda: len(events(station)) == 1)
        before = studies(station)[0].model_dump()
        assert store(station.port, *RAWS) == [0] * 6
        assert studies(station)[0].model_dump() == before
        assert len(instances(station)) == len(list(station.spool.files())) == 6
        wait_until(lambda: len(events(station)) == 2)
        assert events(station)[1].text == "0 images received from MODALITY, 6 duplicates; association released"


def test_a_changed_copy_is_set_aside_and_answered_with_success(tmp_path: Path):
    changed = Raw.of(builders.ct_series(slices=6, size=32, StudyDescription="changed")[0])
    with listening(tmp_path) as station:
        assert store(station.port, RAWS[0], changed) == [0, 0]
        [row] = instances(station)
        assert station.spool.locate(row.path).read_bytes().endswith(RAWS[0].data)
        [aside] = (station.spool.root / "quarantine").iterdir()
        assert aside.read_bytes().endswith(changed.data)
        wait_until(lambda: len(events(station)) == 2)
        assert events(station)[0].data["reason"] == "changed_duplicate"
        assert station.counted("firstlook_instances_received_total", modality="CT", outcome="quarantined") == 1


def test_the_trace_tells_what_an_association_brought(tmp_path: Path):
    with listening(tmp_path) as station:
        store(station.port, *RAWS, RAWS[0])
        [event] = wait_until(lambda: events(station))
        assert event.text == "6 images received from MODALITY, 1 duplicate; association released"
        assert event.data == {"calling_aet": "MODALITY", "stored": 6, "duplicate": 1}


def test_a_study_is_open_until_its_last_association_ends(tmp_path: Path):
    contexts = [(RAWS[0].sop_class_uid, ExplicitVRLittleEndian)]
    study = {str(SLICES[0].StudyInstanceUID)}
    with listening(tmp_path) as station:
        with Link(station.port, contexts) as first:
            assert station.listener.open_studies() == frozenset()
            first.store(RAWS[0])
            with Link(station.port, contexts) as second:
                second.store(RAWS[1])
                assert station.listener.open_studies() == study
                assert station.counted("firstlook_associations_open") == 2
            wait_until(lambda: len(events(station)) == 1)
            assert station.listener.open_studies() == study
        wait_until(lambda: not station.listener.open_studies())
        wait_until(lambda: station.counted("firstlook_associations_open") == 0)


@pytest.mark.parametrize("ending", ["abort", "cut"])
def test_an_association_that_breaks_off_keeps_what_was_acknowledged_and_says_so(tmp_path: Path, ending: str):
    with listening(tmp_path) as station:
        with Link(station.port, [(RAWS[0].sop_class_uid, ExplicitVRLittleEndian)]) as link:
            link.store(RAWS[0])
            if ending == "abort":
                link.association.abort()
            else:
                link.association.dul.socket.socket.shutdown(socket.SHUT_RDWR)
                wait_until(lambda: not link.association.is_established)
        [event] = wait_until(lambda: events(station))
        assert event.text == "1 image received from MODALITY, 0 duplicates; association aborted by the peer"
        assert station.counted("firstlook_associations_total", outcome="aborted") == 1
        assert station.listener.open_studies() == frozenset()
        assert len(instances(station)) == 1


def test_a_caller_that_falls_silent_is_aborted_by_this_service(tmp_path: Path):
    with listening(tmp_path, idle_timeout_s=0.5) as station, \
            Link(station.port, [(RAWS[0].sop_class_uid, ExplicitVRLittleEndian)]) as link:
        link.store(RAWS[0])
        assert wait_until(lambda: events(station))[0].text.endswith("association aborted by this service")
        wait_until(lambda: not link.association.is_established)


def test_an_association_with_results_only_leaves_no_line_about_images(tmp_path: Path):
    with listening(tmp_path) as station:
        store(station.port, RAWS[0])
        store(station.port, result())
        wait_until(lambda: station.counted("firstlook_associations_open") == 0)
        assert sorted("image" in event.text for event in events(station)) == [False, True]


def test_own_results_that_come_back_are_accepted_and_not_kept(tmp_path: Path):
    by_uid, by_maker = result(number=500), result(manufacturer="firstlook", number=501)
    with listening(tmp_path, is_own=lambda uid: uid == by_uid.sop_instance_uid) as station:
        assert store(station.port, RAWS[0], by_uid, by_maker) == [0, 0, 0]
        assert len(instances(station)) == len(list(station.spool.files())) == 1
        wait_until(lambda: len(events(station)) == 3)
        assert [e.text for e in events(station)[:2]] == ["one of our own results came back; not assessed again"] * 2
        assert station.counted("firstlook_instances_received_total", modality="SR", outcome="own_result") == 2


def test_results_of_others_are_accepted_and_not_kept(tmp_path: Path):
    with listening(tmp_path) as station:
        assert store(station.port, result()) == [0]
        assert store(station.port, RAWS[0], result()) == [0, 0]
        assert len(instances(station)) == 1
        assert [s.modality for s in studies(station)] == ["CT"]
        wait_until(lambda: len(events(station)) == 2)
        assert events(station)[0].data["reason"] == "foreign_result"
        assert station.counted("firstlook_instances_received_total", modality="SR", outcome="foreign_result") == 2


def test_a_study_that_was_assessed_is_open_again_after_a_late_image_but_not_after_its_own_result(tmp_path: Path):
    with listening(tmp_path) as station:
        store(station.port, RAWS[0])
        with station.database.transaction() as session:
            session.exec(select(Study)).one().state = "assessed"
        store(station.port, result(), RAWS[0])
        assert studies(station)[0].state == "assessed"
        store(station.port, RAWS[1])
        assert studies(station)[0].state == "receiving"


def test_several_senders_of_one_study_at_once(tmp_path: Path):
    raws = [Raw.of(ds) for ds in builders.ct_series(slices=24, size=16)]
    answers: list[list[int | None]] = []
    with listening(tmp_path) as station:
        senders = [threading.Thread(target=lambda part=raws[n::3]: answers.append(store(station.port, *part, raws[0])))
                   for n in range(3)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join(60)
        assert answers == [[0] * 9] * 3
        assert len(instances(station)) == len(list(station.spool.files())) == 24
        assert len(studies(station)) == 1


def test_echo_is_answered(tmp_path: Path):
    with listening(tmp_path) as station:
        entity = AE("MODALITY")
        entity.add_requested_context(Verification, [ImplicitVRLittleEndian])
        association = entity.associate(HOST, station.port, ae_title="FIRSTLOOK")
        assert association.send_c_echo().Status == 0
        association.release()


@pytest.mark.parametrize(("called", "calling", "policy", "reason"), [
    ("OTHER", "CT1", {}, 7),
    ("FIRSTLOOK", "CT2", {"any_calling_ae": False, "peers": (Peer("CT1"),)}, 3),
    ("FIRSTLOOK", "CT1", {"any_calling_ae": False, "close_unlisted_addresses": False,
                          "peers": (Peer("CT1", "192.0.2.0/24"),)}, 3),
])
def test_who_is_not_admitted_is_rejected_with_the_reason(tmp_path: Path, called, calling, policy, reason: int, caplog):
    with listening(tmp_path, **policy) as station:
        entity = AE(calling)
        entity.add_requested_context(Verification)
        association = entity.associate(HOST, station.port, ae_title=called)
        answer = association.acceptor.primitive
        assert association.is_rejected
        assert (answer.result, answer.result_source, answer.diagnostic) == (1, 1, reason)
        wait_until(lambda: station.counted("firstlook_associations_total", outcome="rejected") == 1)
        assert station.counted("firstlook_associations_total", outcome="accepted") == 0
    (told,) = [r for r in caplog.records if r.getMessage() == "association rejected"]
    assert (vars(told)["called"], vars(told)["calling"]) == (repr(called), repr(calling))


def test_where_every_peer_has_an_address_no_byte_is_read_from_others(tmp_path: Path, caplog):
    with listening(tmp_path, any_calling_ae=False, peers=(Peer("CT1", "192.0.2.0/24"),)) as station:
        with socket.create_connection((HOST, station.port), timeout=20) as connection:
            assert connection.recv(1) == b""
        wait_until(lambda: station.counted("firstlook_callers_turned_away_total", reason="unlisted_address") == 1)
        assert station.counted("firstlook_associations_total", outcome="rejected") == 0
    (told,) = [vars(r) for r in caplog.records if r.getMessage() == "connection closed"]
    assert (told["because"], told["address"]) == ("unlisted_address", HOST)


def test_a_listed_peer_of_its_network_is_admitted(tmp_path: Path):
    with listening(tmp_path, any_calling_ae=False, peers=(Peer("CT1", "127.0.0.0/8"),)) as station:
        assert store(station.port, RAWS[0], calling="CT1") == [0]


def test_one_association_too_many_is_rejected_and_room_comes_back(tmp_path: Path):
    contexts = [(RAWS[0].sop_class_uid, ExplicitVRLittleEndian)]
    with listening(tmp_path, max_associations=2) as station:
        with Link(station.port, contexts), Link(station.port, contexts), Link(station.port, contexts) as refused:
            assert refused.association.is_rejected
            assert refused.association.acceptor.primitive.result_source == 3
        wait_until(lambda: station.counted("firstlook_associations_open") == 0)
        assert store(station.port, RAWS[0]) == [0]


def test_stopping_waits_for_the_store_under_way(tmp_path: Path):
    """The database is locked while the store is under way, so that stop comes in the middle of it."""
    with listening(tmp_path) as station:
        link = Link(station.port, [(RAWS[0].sop_class_uid, ExplicitVRLittleEndian)])
        answers: list[int | None] = []
        stopped: list[bool] = []
        sender = threading.Thread(target=lambda: answers.append(link.store(RAWS[0])))
        stopper = threading.Thread(target=lambda: stopped.append(station.listener.stop(30)))
        with station.database.transaction() as session:
            session.connection()  # takes the write lock
            sender.start()
            wait_until(lambda: station.listener.open_studies() == {str(SLICES[0].StudyInstanceUID)})
            assert len(list(station.spool.files())) == 1
            stopper.start()
            wait_until(lambda: not port_is_open(station))
            assert answers == stopped == []
        sender.join(30)
        stopper.join(30)
        link.close()
        assert (answers, stopped) == ([0], [True])
        assert len(instances(station)) == 1


def port_is_open(station: Station) -> bool:
    try:
        station.listener.port
    except RuntimeError:
        return False
    return True


def test_a_stopped_listener_can_be_followed_by_another_on_the_same_port(tmp_path: Path):
    with listening(tmp_path) as station:
        port = station.port
        store(port, RAWS[0])
    with listening(tmp_path, port=port) as station:
        assert station.port == port
        assert store(port, RAWS[0], RAWS[1]) == [0, 0]
        assert len(instances(station)) == 2


def test_the_ordered_priority_reaches_the_study(tmp_path: Path):
    item = Dataset()
    item.RequestedProcedurePriority = "STAT"
    with listening(tmp_path) as station:
        store(station.port, Raw.of(builders.radiograph(RequestAttributesSequence=[item])))
        assert studies(station)[0].ordered_priority == "STAT"


def test_a_database_that_is_away_is_answered_with_a_failure_and_the_second_try_is_kept_once(tmp_path: Path):
    with listening(tmp_path) as station:
        execute(station, "ALTER TABLE instance RENAME TO away")
        assert store(station.port, RAWS[0]) == [0x0110]
        execute(station, "ALTER TABLE away RENAME TO instance")
        assert instances(station) == []
        assert store(station.port, RAWS[0]) == [0]
    with listening(tmp_path) as station:
        [row] = instances(station)
        assert list(station.spool.files()) == [row.path]


def execute(station: Station, statement: str) -> None:
    with station.database.transaction() as session:
        session.connection().execute(text(statement))


def test_stopping_does_not_wait_for_a_caller_that_says_nothing(tmp_path: Path):
    before = set(threading.enumerate())
    with listening(tmp_path, association_timeout_s=60.0) as station, \
            socket.create_connection((HOST, station.port)) as silent:
        wait_until(lambda: [t for t in set(threading.enumerate()) - before if t.name.startswith("AcceptorThread")])
        began = time.monotonic()
        assert station.listener.stop()
        assert time.monotonic() - began < 5
        assert silent.recv(1) == b""


def test_logs_hold_no_patient_data(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    broken = replace(RAWS[0], data=RAWS[0].data[:-1])
    with caplog.at_level(logging.DEBUG), listening(tmp_path) as station:
        store(station.port, *RAWS, broken)
        wait_until(lambda: events(station))
        trace = [event.text + str(event.data) for event in events(station)]
    ours = [r.getMessage() + str(vars(r)) for r in caplog.records if r.name.startswith("firstlook")]
    assert len(ours) > 2
    for word in (str(SLICES[0].PatientName), str(SLICES[0].PatientID), "19600101"):
        assert not any(word in line for line in (*ours, *trace))
