"""The fast path: C-STORE requests for images go from the socket into the spool without pynetdicom's hands on them.

pynetdicom decodes a C-STORE-RQ into data sets and encodes the answer from one, about 3 ms for each object, and copies
every byte several times. Here one thread, the upper layer's, reads the PDUs of such a request into one buffer, writes
them to the `.part` file as they come, and answers itself. What it takes over:

- PS3.8 9.3.5, Annex E: P-DATA-TF PDUs that carry a C-STORE-RQ: lengths of PDU and values, context, order of fragments.
- PS3.7 9.1.1, 9.3.1: the command sets of C-STORE-RQ and C-STORE-RSP, as far as `pdata` reads and writes them.

Everything else stays pynetdicom's: negotiation, C-ECHO, release, abort, the state machine. So does every C-STORE that
is not plain: a command set in several fragments, or not quite as the standard says, or of another SOP class than its
context, and results (SEG, SR, SC). The decision falls after the command set, before any byte is taken from pynetdicom.
Fragments that are out of order or pass their PDU end the association as any invalid PDU does (Evt19, A-ABORT).

One difference is known: on a full disk every image gets 0xA700, also one that would have been refused as malformed.

Relied on in pynetdicom 3.0.4, beside what `waiting` names: DULServiceProvider._read_pdu_data (called when there is
something to read), state_machine, event_queue, Association._accepted_cx, DIMSEServiceProvider.message.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pynetdicom import evt
from pynetdicom.association import MODE_ACCEPTOR, Association
from pynetdicom.presentation import PresentationContext

from service import logs
from service.receive.door import Door
from service.receive.fast_socket import FastSocket
from service.receive.incoming import Incoming
from service.receive.inflow import Inflow, wait_readable
from service.receive.machine import CONNECTION_CLOSED, INVALID_PDU
from service.receive.pdata import (
    MAX_COMMAND_BYTES,
    P_DATA,
    PDU_HEADER_BYTES,
    PDV_HEADER_BYTES,
    InvalidPData,
    StoreRequest,
    read_pdu_header,
    read_store_request,
    read_value_header,
    write_store_response,
)
from service.receive.policy import IMAGE_CLASSES, Policy
from service.receive.server import Connection, Server, Tls, Watch
from service.receive.storing import Announced
from service.receive.tally import Tally
from service.receive.transport import Handlers
from service.receive.waiting import RingingQueue, WakefulAssociation, WakefulProvider

SUCCESS = 0x0000
HEADS_BYTES = PDU_HEADER_BYTES + PDV_HEADER_BYTES
_NOTHING_BYTES = 65_536
_PLAIN_CONTEXT = 0x00
_LINGER_S = 0.005
_log = logs.get("receive.fast")


@dataclass(frozen=True)
class Taker:
    """Who takes the images.

    begin: opens an image; answer: keeps it by the given call and returns the status; answered: the answer was sent;
    write: writes down what was answered before.
    """

    begin: Callable[[Announced], Incoming]
    answer: Callable[[Association, Announced, Callable[[Tally], None]], int]
    answered: Callable[[Association], None]
    write: Callable[[], None]


@dataclass(frozen=True)
class _Store:
    """A C-STORE that is under way."""

    context_id: int
    request: StoreRequest
    announced: Announced
    image: Incoming


class FastProvider(WakefulProvider):
    """The upper layer of one association, with C-STORE in its own hands."""

    def __init__(self, association: Association, told: Callable[[], None], taker: Taker, policy: Policy) -> None:
        super().__init__(association, told)
        self._taker, self._policy = taker, policy
        self._store: _Store | None = None
        self._storing = self._stored = False
        self._deadline = 0.0

    def idle_timer_expired(self) -> bool:
        """Tell whether the peer was silent for too long; while we store, the silence is ours."""
        return not self._storing and bool(super().idle_timer_expired())

    def holds(self) -> bool:
        """Tell whether something was received that nobody has read."""
        return self.socket is not None and self.socket.socket is not None and self.socket.inflow.has_more

    def ended(self) -> None:
        """Remove what was half received, and let go of the buffer: dead associations are not collected at once."""
        if self.socket is not None:
            self.socket.inflow.close()
        if self._store is not None:
            self._store.image.end()
            self._store = None

    def _read_pdu_data(self) -> None:
        """Take the PDUs that have come as long as they are ours; leave the first that is not to pynetdicom."""
        try:
            while self._take_pdu():
                self._idle_timer.restart()
                if self._kill_thread or not self.to_provider_queue.empty():
                    return
        except InvalidPData as error:
            _log.warning("P-DATA that cannot be read; the association ends", extra={"detail": str(error)})
            self.socket.inflow.take(self.socket.inflow.held_bytes)
            self.event_queue.put(INVALID_PDU)
        except OSError as error:
            _log.warning("the connection broke off", extra={"error": type(error).__name__})
            self.event_queue.put(CONNECTION_CLOSED)

    def _take_pdu(self) -> bool:
        """Take one PDU; tell whether to look at once for another, part of which is here."""
        inflow: Inflow = self.socket.inflow
        self._deadline = time.monotonic() + self._policy.idle_timeout_s
        if self.state_machine.current_state != "Sta6" or not self._ready():
            super()._read_pdu_data()
            return False
        if not inflow.fill(PDU_HEADER_BYTES, self._deadline):
            self.event_queue.put(CONNECTION_CLOSED)
            return False
        kind, length = read_pdu_header(inflow.peek(PDU_HEADER_BYTES))
        ours = kind == P_DATA and length <= self._policy.max_pdu_bytes
        if ours and self._store is None:
            left = self._begin(length)
            ours = left is not None
        else:
            left = length
            inflow.take(PDU_HEADER_BYTES if ours else 0)
        if not ours or left is None:
            if self._stored:
                self._taker.write()
            super()._read_pdu_data()
            return False
        self._take_values(left)
        return inflow.has_more or wait_readable(self.socket.socket, _LINGER_S)

    def _ready(self) -> bool:
        """Wait until the association is written down as open: its peer may be faster than our other thread."""
        left_s = self._deadline - time.monotonic()
        return bool(self.assoc.is_established or (self.assoc.opened.wait(left_s) and self.assoc.is_established))

    def _begin(self, length: int) -> int | None:
        """Begin an image if this PDU does; return how many bytes of the PDU come after the command, None if not ours."""
        inflow: Inflow = self.socket.inflow
        if length < PDV_HEADER_BYTES or self.assoc.dimse.message is not None:
            return None
        self._need(HEADS_BYTES)
        try:
            value = read_value_header(inflow.peek(PDV_HEADER_BYTES, PDU_HEADER_BYTES), 0, length)
        except InvalidPData:
            return None
        context = self.assoc._accepted_cx.get(value.context_id)
        if not (value.is_command and value.is_last and value.size_bytes <= MAX_COMMAND_BYTES) or context is None:
            return None
        self._need(HEADS_BYTES + value.size_bytes)
        request = read_store_request(bytes(inflow.peek(value.size_bytes, HEADS_BYTES)))
        if request is None or not _is_plain(context, request):
            return None
        inflow.take(HEADS_BYTES + value.size_bytes)
        announced = Announced(
            sop_class_uid=request.sop_class_uid, sop_instance_uid=request.sop_instance_uid,
            abstract_syntax=str(context.abstract_syntax), transfer_syntax_uid=str(context.transfer_syntax[0]),
            calling_aet=self.assoc.requestor.ae_title)
        self._store = _Store(value.context_id, request, announced, self._taker.begin(announced))
        return length - PDV_HEADER_BYTES - value.size_bytes

    def _take_values(self, left: int) -> None:
        """Take the fragments of a data set that one PDU holds; answer when the last has come."""
        inflow: Inflow = self.socket.inflow
        store = self._store
        while left and store is not None:
            if left < PDV_HEADER_BYTES:
                raise InvalidPData(f"{left} bytes at the end of a PDU")
            self._need(PDV_HEADER_BYTES)
            value = read_value_header(inflow.peek(PDV_HEADER_BYTES), 0, left)
            left -= PDV_HEADER_BYTES + value.size_bytes
            if value.is_command or value.context_id != store.context_id or (value.is_last and left):
                raise InvalidPData("a fragment that does not belong to the data set under way")
            inflow.take(PDV_HEADER_BYTES)
            self._take_fragment(store.image, value.size_bytes, PDV_HEADER_BYTES if left else HEADS_BYTES)
            if value.is_last:
                self._finish(store)

    def _take_fragment(self, image: Incoming, left: int, beyond: int) -> None:
        """Take the bytes of a fragment straight into the room of the image.

        beyond: how many bytes come after it at least, unless it is the last; they are read along.
        """
        inflow: Inflow = self.socket.inflow
        while left:
            room = image.room()
            if room is None:
                room = memoryview(bytearray(min(left, _NOTHING_BYTES)))
            got = inflow.pour(room[:left], self._deadline, beyond)
            if not got:
                raise TimeoutError
            left -= got
            image.filled(got)

    def _finish(self, store: _Store) -> None:
        """Keep the image and answer; what can wait for that is done afterwards, while the peer gets the next one ready."""
        self._storing = True
        try:
            status = self._taker.answer(self.assoc, store.announced, store.image.keep)
            self.socket.send(write_store_response(store.context_id, store.request, status))
            self._stored = self._stored or status == SUCCESS
            store.image.end()
            self._store = None
            self._taker.answered(self.assoc)
        finally:
            self._idle_timer.restart()
            self._storing = False

    def _need(self, wanted_bytes: int) -> None:
        if not self.socket.inflow.fill(wanted_bytes, self._deadline):
            raise TimeoutError


def _is_plain(context: Any, request: StoreRequest) -> bool:
    """Tell whether a request for this context is one for the fast path."""
    return (context.result == _PLAIN_CONTEXT and context.as_scp is True and context.abstract_syntax in IMAGE_CLASSES
            and context.abstract_syntax == request.sop_class_uid)


class _FastAssociation(WakefulAssociation):
    """An association with the fast path. opened: set when it is established and our ledger knows of it."""

    def __init__(self, server: FastServer) -> None:
        super().__init__(server.ae, MODE_ACCEPTOR,
                         lambda association, told: FastProvider(association, told, server.taker, server.policy))
        self.opened = threading.Event()
        self.bind(evt.EVT_ESTABLISHED, lambda event: self.opened.set())


class _FastConnection(Connection):
    """One connection with the fast path."""

    server: FastServer

    def _create_association(self) -> Association:
        """Return an association as pynetdicom sets it up, but of our class, and without a copy of the contexts.

        Negotiation only reads the contexts; copying them takes longer than all the rest.
        """
        server = self.server
        association = _FastAssociation(server)
        association._server = server
        association.name = f"AcceptorThread@{self.client_address[0]}:{self.client_address[1]}"
        own = association.acceptor
        own.maximum_length, own.ae_title, own.address_info = server.ae.maximum_pdu_size, server.ae_title, self.local
        own.supported_contexts, association.requestor.address_info = server.contexts, self.remote
        for event, bound in server._handlers.items():
            for handler, arguments in [bound] if event.is_intervention else bound:
                association.bind(event, handler, arguments)
        self._secure(association, FastSocket(association, self.request, server.policy))
        association.dimse.msg_queue = RingingQueue(association.told)
        return association


class FastServer(Server):
    """A server whose associations have the fast path; else as Server."""

    def __init__(self, policy: Policy, contexts: list[PresentationContext], handlers: Handlers, taker: Taker,
                 watch: Watch, door: Door, tls: Tls | None = None) -> None:
        self.taker = taker
        super().__init__(policy, contexts, handlers, watch, _FastConnection, door, tls)
