"""The bytes of a C-STORE that the fast path reads and writes itself, held against pynetdicom's own reading of them."""

from __future__ import annotations

import struct
from importlib.metadata import version
from io import BytesIO
from types import SimpleNamespace

import pynetdicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import CTImageStorage
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dimse_messages import C_STORE_RQ, C_STORE_RSP
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu import P_DATA_TF

from service.receive.pdata import (
    InvalidPData,
    StoreRequest,
    read_pdu_header,
    read_store_request,
    read_value_header,
    write_store_response,
)

REQUEST = StoreRequest(message_id=7, priority=2, sop_class_uid=CTImageStorage, sop_instance_uid="1.2.3")


def command(**changes: object) -> bytes:
    """Return the command set of a C-STORE-RQ as pynetdicom encodes it; changes: element number "e0700" -> value, or None."""
    primitive = C_STORE()
    primitive.MessageID, primitive.Priority = 7, 2
    primitive.AffectedSOPClassUID, primitive.AffectedSOPInstanceUID = CTImageStorage, "1.2.3"
    primitive.DataSet = BytesIO(b"\0\0")
    message = C_STORE_RQ()
    message.primitive_to_message(primitive)
    [first, *_] = message.encode_msg(1, 16384)
    plain = first.presentation_data_value_list[0][1][1:]
    elements = {}
    at = 0
    while at < len(plain):
        _, number, length = struct.unpack_from("<HHL", plain, at)
        elements[number] = plain[at + 8:at + 8 + length]
        at += 8 + length
    elements |= {int(name[1:], 16): value for name, value in changes.items()}
    return b"".join(struct.pack("<HHL", 0, number, len(value)) + value
                    for number, value in sorted(elements.items()) if isinstance(value, bytes))


def test_the_version_and_the_private_members_that_the_fast_path_relies_on():
    assert version("pynetdicom") == pynetdicom.__version__ == "3.0.4"
    association = Association(AE("X"), "acceptor")
    for name in ("_reactor_checkpoint", "_accepted_cx", "_kill", "_sent_abort", "_server"):
        assert hasattr(association, name), name
    for name in ("_run_loop_delay", "_kill_thread", "_idle_timer", "artim_timer", "event_queue", "to_provider_queue",
                 "to_user_queue", "state_machine", "_read_pdu_data"):
        assert hasattr(association.dul, name), name
    assert {"message", "msg_queue"} <= vars(association.dimse).keys()
    for method, names in ((DULServiceProvider.run_reactor, {"_run_loop_delay", "_is_transport_event", "sleep"}),
                          (DULServiceProvider._is_transport_event, {"ready", "_read_pdu_data"}),
                          (Association._run_reactor, {"_reactor_checkpoint", "wait", "idle_timer_expired"})):
        assert names <= set(method.__code__.co_names), method


def test_a_request_of_pynetdicom_is_read():
    assert read_store_request(command()) == REQUEST


@pytest.mark.parametrize("changes", [
    {"e0100": b"\x30\0"}, {"e0100": None}, {"e0100": b"\1"}, {"e0110": None}, {"e0700": b"\3\0"}, {"e0700": None},
    {"e0800": b"\1\1"}, {"e0800": None}, {"e0002": b"1.2.a "}, {"e0002": None}, {"e1000": b"../../x\0"},
    {"e1000": b"1.2\0003"}, {"e1000": None}, {"e1000": b"1" * 66},
])
def test_a_command_that_is_not_quite_a_store_request_is_left_alone(changes: dict[str, bytes | None]):
    assert read_store_request(command(**changes)) is None


@pytest.mark.parametrize("damage", [
    lambda c: c[:-1], lambda c: c + b"\0", lambda c: c + c[-16:], lambda c: b"\x08" + c[1:],
    lambda c: c[:4] + b"\xff\xff\xff\xff" + c[8:], lambda c: b"",
], ids=["cut", "one byte more", "one element twice", "another group", "a length past the end", "nothing"])
def test_a_malformed_command_is_left_alone(damage):
    assert read_store_request(damage(command())) is None


@pytest.mark.parametrize("status", [0x0000, 0x0110, 0xA700, 0xA900, 0xC000])
def test_the_answer_is_read_by_pynetdicom(status: int):
    pdu = P_DATA_TF()
    pdu.decode(write_store_response(5, REQUEST, status))
    message = C_STORE_RSP()
    assert message.decode_msg(pdu.to_primitive(), SimpleNamespace())
    answer = message.message_to_primitive()
    assert (message.context_id, answer.Status, answer.MessageIDBeingRespondedTo) == (5, status, 7)
    assert (answer.AffectedSOPClassUID, answer.AffectedSOPInstanceUID) == (CTImageStorage, "1.2.3")
    assert answer.DataSet is None


def test_the_answer_is_what_pynetdicom_would_have_sent():
    primitive = C_STORE()
    primitive.MessageIDBeingRespondedTo, primitive.Status = 7, 0xA900
    primitive.AffectedSOPClassUID, primitive.AffectedSOPInstanceUID = CTImageStorage, "1.2.3"
    message = C_STORE_RSP()
    message.primitive_to_message(primitive)
    [pdata] = message.encode_msg(5, 16384)
    assert write_store_response(5, REQUEST, 0xA900) == P_DATA_TF(pdata).encode()


@pytest.mark.parametrize(("length", "left"), [(0, 6), (1, 6), (3, 6), (0xFFFFFFFF, 100), (97, 100)])
def test_a_value_that_does_not_fit_is_invalid(length: int, left: int):
    with pytest.raises(InvalidPData):
        read_value_header(struct.pack(">LBB", length, 1, 0), 0, left)


def test_a_value_that_fills_its_pdu_is_read():
    value = read_value_header(b"xx" + struct.pack(">LBB", 96, 3, 2), 2, 100)
    assert (value.size_bytes, value.context_id, value.is_command, value.is_last) == (94, 3, False, True)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_a_request_or_none(data: bytes):
    request = read_store_request(data)
    assert request is None or isinstance(request, StoreRequest)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=4))
def test_a_damaged_command_is_a_request_or_none(damage: list[tuple[int, int]]):
    """What is read still says C-STORE-RQ with a data set, and its UIDs are UIDs."""
    data = bytearray(command())
    for at, value in damage:
        data[at % len(data)] = value
    request = read_store_request(bytes(data))
    assert request is None or (request.priority in (0, 1, 2) and set(request.sop_instance_uid) <= set("0123456789."))


@settings(max_examples=300, deadline=None)
@given(st.binary(min_size=6, max_size=12), st.integers(6, 2**32))
def test_any_head_of_a_value_is_within_its_pdu_or_invalid(data: bytes, left: int):
    kind, length = read_pdu_header(data)
    assert (kind, length) == (data[0], int.from_bytes(data[2:6], "big"))
    try:
        value = read_value_header(data, 0, left)
    except InvalidPData:
        return
    assert 0 <= value.size_bytes <= left - 6


