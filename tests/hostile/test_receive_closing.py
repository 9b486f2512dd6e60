"""Both sides end an association at the same time: no thread dies of it, and connection and association end."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_ASSOCIATE, A_RELEASE, P_DATA

from tests.hostile.test_receive import associate_request, besieged, echo_accepted
from tests.hostile.test_receive import both_paths as both_paths
from tests.peers import HOST, Station, wait_until

NONSENSE = struct.pack(">BBL", 4, 0, 4) + b"\xff" * 4  # a P-DATA-TF whose value is longer than itself
ABORT = struct.pack(">BBLBBBB", 7, 0, 4, 0, 0, 0, 0)
ABORT_OF_NOBODY = struct.pack(">BBLBBBB", 7, 0, 4, 0, 0, 3, 0)  # the source 3 is none (PS3.8 9.3.8)
Act = Callable[[Association], None]


def abort(association: Association) -> None:
    association.acse.send_abort(0x00)


def answer(association: Association) -> None:
    fragment = P_DATA()
    fragment.presentation_data_value_list = [(1, b"\3" + bytes(4))]
    association.dul.send_pdu(fragment)


def answer_to_release(association: Association) -> None:
    response = A_RELEASE()
    response.result = "affirmative"
    association.dul.send_pdu(response)


def accept(association: Association) -> None:
    primitive = A_ASSOCIATE()
    primitive.result = 0x00
    association.dul.send_pdu(primitive)


def several(association: Association) -> None:
    for act in (answer, abort, abort, answer_to_release):
        act(association)


def when_closing(station: Station, act: Act) -> None:
    """Have our side ask for something just as the machine of an association enters a state of closing."""
    def entered(event: Any) -> None:
        if event.next_state == "Sta13" != event.current_state:
            act(event.assoc)

    [server] = station.listener._servers
    server.bind(evt.EVT_FSM_TRANSITION, entered)


def upper_layers() -> set[threading.Thread]:
    return {t for t in threading.enumerate() if isinstance(t, Association) or hasattr(t, "state_machine")}


def end_of(connection: socket.socket) -> bytes:
    """Return what comes until the other side closes."""
    received = b""
    try:
        while got := connection.recv(65536):
            received += got
    except ConnectionResetError:
        pass
    return received


@pytest.mark.parametrize("act", [abort, answer, answer_to_release, accept, several])
@pytest.mark.parametrize("pdus", [[NONSENSE], [NONSENSE, ABORT], [NONSENSE, NONSENSE]], ids=["one", "abort", "two"])
def test_what_our_side_still_wants_of_a_closing_association_is_dropped(tmp_path: Path, act: Act, pdus: list[bytes]):
    before = upper_layers()
    with besieged(tmp_path, idle_timeout_s=30.0, association_timeout_s=30.0) as station:
        when_closing(station, act)
        with socket.create_connection((HOST, station.port), timeout=10) as connection:
            connection.sendall(associate_request())
            assert echo_accepted(connection.recv(65536))
            connection.sendall(b"".join(pdus))
            end_of(connection)
            wait_until(lambda: upper_layers() <= before, timeout_s=10)
        wait_until(lambda: station.counted("firstlook_associations_total", outcome="aborted") == 1)


def test_an_abort_that_cannot_be_acted_upon_ends_the_association(tmp_path: Path):
    before = upper_layers()
    with besieged(tmp_path, idle_timeout_s=30.0) as station, \
            socket.create_connection((HOST, station.port), timeout=10) as connection:
        connection.sendall(associate_request())
        assert echo_accepted(connection.recv(65536))
        connection.sendall(ABORT_OF_NOBODY)
        end_of(connection)
        wait_until(lambda: upper_layers() <= before, timeout_s=10)
        wait_until(lambda: station.counted("firstlook_associations_total", outcome="aborted") == 1)
