"""Read and write the few bytes of a C-STORE that the fast path takes over from pynetdicom.

PS3.8 9.3.5 and Annex E: the P-DATA-TF PDU, its presentation data values and their control header.
PS3.7 6.3.1, 9.1.1 and 9.3.1: the command sets of C-STORE-RQ and C-STORE-RSP, implicit VR little endian.
Nothing here touches a socket; every length is checked against the bytes that are there.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from service.receive.header import is_uid

P_DATA = 0x04
PDU_HEADER_BYTES = 6
PDV_HEADER_BYTES = 6
COMMAND, LAST = 0x01, 0x02
MAX_COMMAND_BYTES = 4096

_PDU_HEADER = struct.Struct(">BxL")
_PDV_HEADER = struct.Struct(">LBB")
_ELEMENT = struct.Struct("<HHL")
_C_STORE_RQ, _C_STORE_RSP = 0x0001, 0x8001
_NO_DATA_SET = 0x0101
_GROUP_LENGTH, _SOP_CLASS, _COMMAND_FIELD, _MESSAGE_ID = 0x0000, 0x0002, 0x0100, 0x0110
_ANSWERED_ID, _PRIORITY, _DATA_SET_TYPE, _STATUS, _SOP_INSTANCE = 0x0120, 0x0700, 0x0800, 0x0900, 0x1000


class InvalidPData(ValueError):
    """Bytes that are no P-DATA-TF PDU as PS3.8 9.3.5 has it, or fragments out of order: the association is aborted."""


@dataclass(frozen=True)
class Value:
    """The head of a presentation data value. size_bytes: of the fragment that follows, without the head."""

    size_bytes: int
    context_id: int
    is_command: bool
    is_last: bool


@dataclass(frozen=True)
class StoreRequest:
    """What a C-STORE-RQ says; both UIDs are valid. priority: 0 medium, 1 high, 2 low."""

    message_id: int
    priority: int
    sop_class_uid: str
    sop_instance_uid: str


def read_pdu_header(data: bytes | bytearray | memoryview, at: int = 0) -> tuple[int, int]:
    """Return (type, length in bytes of what follows) of the PDU whose 6 header bytes begin at `at`."""
    kind, length = _PDU_HEADER.unpack_from(data, at)
    return kind, length


def read_value_header(data: bytes | bytearray | memoryview, at: int, left_bytes: int) -> Value:
    """Return the head of the presentation data value that begins at `at`, 6 bytes.

    left_bytes: of its PDU, from `at` on.  Raises: InvalidPData when the value is shorter than its head (PS3.8 E.2)
    or passes the end of its PDU.
    """
    length, context_id, control = _PDV_HEADER.unpack_from(data, at)
    if length < 2 or length + 4 > left_bytes:
        raise InvalidPData(f"a presentation data value of {length} bytes, {left_bytes} left in its PDU")
    return Value(length - 2, context_id, bool(control & COMMAND), bool(control & LAST))


def read_store_request(data: bytes) -> StoreRequest | None:
    """Return the request that a command set holds, None when it is none or not quite as PS3.7 9.3.1.1 says.

    What is not understood here is left to pynetdicom, which answers it as it would without the fast path.
    """
    found = _elements(data)
    if found is None:
        return None
    numbers = [_unsigned(found.get(n)) for n in (_COMMAND_FIELD, _MESSAGE_ID, _PRIORITY, _DATA_SET_TYPE)]
    command, message_id, priority, data_set = numbers
    if command != _C_STORE_RQ or message_id is None or priority not in (0, 1, 2) or data_set in (None, _NO_DATA_SET):
        return None
    sop_class_uid, sop_instance_uid = _uid(found.get(_SOP_CLASS)), _uid(found.get(_SOP_INSTANCE))
    if not sop_class_uid or not sop_instance_uid:
        return None
    return StoreRequest(message_id, priority, sop_class_uid, sop_instance_uid)


def write_store_response(context_id: int, request: StoreRequest, status: int) -> bytes:
    """Return the P-DATA-TF PDU of the C-STORE-RSP to a request (PS3.7 9.3.1.2), in one value."""
    body = b"".join((
        _written(_SOP_CLASS, _padded(request.sop_class_uid)), _written(_COMMAND_FIELD, _short(_C_STORE_RSP)),
        _written(_ANSWERED_ID, _short(request.message_id)), _written(_DATA_SET_TYPE, _short(_NO_DATA_SET)),
        _written(_STATUS, _short(status)), _written(_SOP_INSTANCE, _padded(request.sop_instance_uid))))
    command = _written(_GROUP_LENGTH, struct.pack("<L", len(body))) + body
    value = _PDV_HEADER.pack(len(command) + 2, context_id, COMMAND | LAST) + command
    return _PDU_HEADER.pack(P_DATA, len(value)) + value


def _elements(data: bytes) -> dict[int, bytes] | None:
    """Return the values of a command set by element number; None when it is malformed or holds one twice."""
    found: dict[int, bytes] = {}
    at, end = 0, len(data)
    while at < end:
        if at + 8 > end:
            return None
        group, number, length = _ELEMENT.unpack_from(data, at)
        at += 8
        if group != 0 or number in found or length > end - at:
            return None
        found[number] = data[at:at + length]
        at += length
    return found


def _unsigned(value: bytes | None) -> int | None:
    return int.from_bytes(value, "little") if value is not None and len(value) == 2 else None


def _uid(value: bytes | None) -> str:
    """Return a UID without its padding, "" when the bytes are none."""
    text = (value or b"").removesuffix(b"\0").decode("ascii", "replace")
    return text if is_uid(text) else ""


def _written(number: int, value: bytes) -> bytes:
    return _ELEMENT.pack(0, number, len(value)) + value


def _short(number: int) -> bytes:
    return number.to_bytes(2, "little")


def _padded(uid: str) -> bytes:
    value = uid.encode("ascii")
    return value + b"\0" * (len(value) % 2)
