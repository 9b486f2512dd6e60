"""A request of ours begins only once the thread of the association has stood aside."""

from __future__ import annotations

import threading
from pathlib import Path

from pynetdicom import AE
from pynetdicom.sop_class import Verification

from service.deliver.steady import Checkpoint, steady
from tests.peers import HOST, ScriptedPacs

LONG_S = 30.0


def test_clearing_waits_for_a_thread_that_has_just_passed() -> None:
    passed, go_on, cleared, ends = threading.Event(), threading.Event(), threading.Event(), threading.Event()
    seen: list[bool] = []

    def reactor() -> None:
        while not ends.is_set():
            checkpoint.wait()
            seen.append(cleared.is_set())
            passed.set()
            assert go_on.wait(LONG_S)

    def request() -> None:
        checkpoint.clear()
        cleared.set()

    thread = threading.Thread(target=reactor)
    checkpoint = Checkpoint(thread)
    thread.start()
    assert passed.wait(LONG_S)
    asking = threading.Thread(target=request)
    asking.start()
    assert not cleared.wait(0.2), "the thread is still beyond the checkpoint"
    go_on.set()
    assert cleared.wait(LONG_S)
    while_stopped = len(seen)
    ends.set()
    assert len(seen) == while_stopped
    checkpoint.set()
    thread.join(LONG_S)
    asking.join(LONG_S)
    assert not thread.is_alive() and True not in seen[:while_stopped]
    checkpoint.clear()
    assert not checkpoint.is_set(), "a thread that has ended holds nobody up"


def test_every_answer_of_a_quick_peer_reaches_the_one_who_asked(tmp_path: Path) -> None:
    with ScriptedPacs(tmp_path / "pacs") as pacs:
        entity = AE("ASKER")
        entity.add_requested_context(Verification)
        association = steady(entity.associate(HOST, pacs.port, ae_title="PACS"))
        assert association.is_established
        assert {association.send_c_echo().Status for _ in range(300)} == {0}
        association.release()
        association.join(LONG_S)


def test_data_that_meets_our_release_is_dropped(tmp_path: Path) -> None:
    with ScriptedPacs(tmp_path / "pacs") as pacs:
        entity = AE("ASKER")
        entity.add_requested_context(Verification)
        association = steady(entity.associate(HOST, pacs.port, ae_title="PACS"))
        assert association.send_c_echo().Status == 0
        association.release()
        association.join(LONG_S)
        association.dul.join(LONG_S)
    machine = association.dul.state_machine
    for state in ("Sta1", "Sta7", "Sta13"):  # no connection; our release is not answered yet; the connection is closing
        machine.current_state = state
        machine.dul.to_provider_queue.put("an answer")
        machine.do_action("Evt9")
        assert machine.dul.to_provider_queue.empty() and machine.current_state == state
