"""The DICOM listener: who may call, what is taken, and an answer of Success only for what can no longer be lost."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from pynetdicom import evt
from pynetdicom.association import Association

from service import logs
from service.audit.trail import Trail, silent
from service.errors import FirstlookError, OutOfSpace
from service.metrics import Metrics
from service.receive.door import Door, Seldom, Shut
from service.receive.fast import SUCCESS, FastServer, Taker
from service.receive.incoming import Incoming
from service.receive.ledger import Closed, Ledger, told
from service.receive.notified import notice_contexts, notice_handlers
from service.receive.policy import IMAGE_CLASSES, Policy, Refusal, are_well_numbered, contexts
from service.receive.quota import Quota
from service.receive.recovery import recover
from service.receive.reports import Record
from service.receive.returned import CORRECTION, Returned
from service.receive.server import Server, Tls, Watch, end
from service.receive.spool import Spool
from service.receive.step_reports import Cancel, event_handler, step_contexts
from service.receive.storing import Announced, Storing
from service.receive.tally import Tally
from service.receive.transport import BoundedBuffer, Handlers
from service.store.intake import Intake
from service.store.notices import Notices
from service.tls.handshake import Trouble, shown
from service.traces import Silent, Tracing

_IMAGES = frozenset(("stored", "duplicate", "quarantined"))
_AUDITED = _IMAGES | {CORRECTION}
_HURRIED_S = 0.5  # how soon hurry is noticed
_log = logs.get("receive.listener")


class Listener:
    """Accepts associations and stores images. `start` may be called once.

    spool: where images are kept; it takes `policy.min_free_bytes` from its own setting. intake: the rows.
    is_own: tells from a SOP Instance UID whether this service made the object. record: writes down the reports of storage
    commitment; None: they are refused. notices: writes down what others announce; None: it is refused. tls: listen with
    TLS too, or only so where the policy is not `plain`. trail: is told of images received and callers turned away.
    returned: keeps what may be a correction of a result of ours. tracing: of what each association brought.
    cancel: is told of work items that are to be canceled; None: reports on them are refused.
    """

    def __init__(self, policy: Policy, spool: Spool, intake: Intake, metrics: Metrics, is_own: Callable[[str], bool],
                 record: Record | None = None, notices: Notices | None = None, tls: Tls | None = None,
                 trail: Trail | None = None, returned: Returned | None = None,
                 tracing: Tracing | None = None, cancel: Cancel | None = None) -> None:
        self._policy, self._spool, self._intake, self._metrics = policy, spool, intake, metrics
        self._seldom = Seldom()
        self._ledger = Ledger()
        quota = Quota(policy.max_study_images, policy.max_study_bytes, intake.sizes_of, intake.study_too_large)
        self._storing = Storing(policy.max_object_bytes, spool, intake, is_own, quota, returned)
        self._stopping = threading.Event()
        self._servers: list[Server] = []
        self._record, self._notices, self._tls, self._trail = record, notices, tls, trail or silent()
        self._tracing: Tracing = tracing or Silent()
        self._cancel = cancel

    @property
    def port(self) -> int:
        """The TCP port listened on without TLS; with `policy.port` 0, the one the system chose."""
        return self._port(with_tls=False)

    @property
    def tls_port(self) -> int:
        """The TCP port listened on with TLS."""
        return self._port(with_tls=True)

    @property
    def ports(self) -> dict[str, int]:
        """Every TCP port listened on: `port` without TLS, `tls_port` with it."""
        return {"tls_port" if server.tls else "port": server.port for server in self._servers}

    def _port(self, with_tls: bool) -> int:
        for server in self._servers:
            if (server.tls is not None) is with_tls:
                return server.port
        raise RuntimeError(f"the listener does not listen {'with' if with_tls else 'without'} TLS")

    def start(self) -> None:
        """Bring spool and rows together, then listen.

        Raises: OSError when the port is taken or the spool unreadable; Unavailable when the database is away.
        """
        recover(self._spool, self._intake)
        self._spool.make_ready(self._policy.ready_bytes)
        door = Door(self._policy)
        try:
            for tls in [*([None] if self._policy.plain else []), *([self._tls] if self._tls else [])]:
                self._servers.append(self._server(door, tls))
        except OSError:
            for server in self._servers:
                server.server_close()
            self._servers = []
            self._spool.close()
            raise
        self._storing.backlog.start()
        for server in self._servers:
            server.start()

    def _server(self, door: Door, tls: Tls | None) -> Server:
        handlers: Handlers = [
            (evt.EVT_ACCEPTED, self._on_accepted), (evt.EVT_REJECTED, self._on_rejected),
            (evt.EVT_C_ECHO, self._on_echo), (evt.EVT_C_STORE, self._on_store)]
        offered = contexts()
        if self._record is not None or self._cancel is not None:
            handlers.append((evt.EVT_N_EVENT_REPORT, event_handler(self._record, self._cancel)))
        if self._cancel is not None:
            offered += step_contexts()
        if self._notices is not None:
            handlers += notice_handlers(self._notices, self._metrics)
            offered += notice_contexts()
        watch = Watch(self._judge, self._rejected, self._closed, self._on_ended, self._ledger.end_store)
        if not self._policy.fast_path:
            return Server(self._policy, offered, handlers, watch, door=door, tls=tls)
        taker = Taker(lambda announced: Incoming(self._storing, announced), self._answer, self._ledger.end_store,
                      self._storing.backlog.write)
        return FastServer(self._policy, offered, handlers, taker, watch, door, tls)

    def drain(self, notice_s: float, drain_s: float, hurry: threading.Event) -> bool:
        """Go on for a while, then close the ports and let the open associations end by themselves; `stop` must follow.

        notice_s: until whoever hands out connections has noticed; drain_s: at most so long after that; hurry: ends it at
        once. Returns whether all ended.
        """
        hurry.wait(notice_s)
        for server in self._servers:
            server.stop_accepting()
        deadline = time.monotonic() + drain_s
        ended = self._ledger.wait_until_empty(0)
        while not ended and not hurry.is_set() and (left := deadline - time.monotonic()) > 0:
            ended = self._ledger.wait_until_empty(min(_HURRIED_S, left))
        _log.info("drained", extra={"every_association_ended": ended})
        return ended

    def stop(self, timeout_s: float = 10.0) -> bool:
        """Close the ports and end every association, none in the middle of a store; False when time ran out first."""
        self._stopping.set()
        servers, self._servers = self._servers, []
        for server in servers:
            server.stop_accepting()
        deadline = time.monotonic() + timeout_s
        for association in [a for server in servers for a in server.active_associations]:
            self._ledger.wait_until_idle(association, max(0.0, deadline - time.monotonic()))
            end(association)
        ended = self._ledger.wait_until_empty(max(0.0, deadline - time.monotonic()))
        self._storing.backlog.stop()
        self._spool.close()
        if servers:
            _log.info("stopped listening", extra={"every_association_ended": ended})
        return ended

    def open_studies(self) -> frozenset[str]:
        """Return the Study Instance UIDs of which an association that is still open has brought images."""
        return self._ledger.open_studies()

    def _judge(self, association: Association) -> Refusal | None:
        """Tell why the policy does not admit an association; asked before anything is negotiated."""
        if self._stopping.is_set():
            return Refusal.STOPPING
        asked, upper = association.requestor.primitive, association.dul.socket
        if not are_well_numbered([context.context_id for context in asked.presentation_context_definition_list]):
            return Refusal.CONTEXTS
        certificate = shown(upper.socket if upper is not None else None)
        refusal = self._policy.refusal(
            asked.called_ae_title, asked.calling_ae_title, association.requestor.address, certificate)
        if refusal is None and self._is_full() and _asks_to_store(asked):
            return Refusal.OUT_OF_SPACE
        return refusal

    def _is_full(self) -> bool:
        return self._spool.free_bytes() < self._spool.min_free_bytes

    def _rejected(self, association: Association, refusal: Refusal) -> None:
        """Count and log a rejection; the AE titles offered are what an administrator has to compare."""
        asked = association.requestor.primitive
        self._metrics.associations.labels("rejected").inc()
        self._turned_away("association rejected", refusal, association.requestor.address,
                          called=ascii(asked.called_ae_title.strip()[:16]),
                          calling=ascii(asked.calling_ae_title.strip()[:16]))

    def _closed(self, because: Shut | Trouble, address: str) -> None:
        """Count and log a connection that did not come as far as an association."""
        self._turned_away("connection closed", because, address)

    def _on_rejected(self, event: Any) -> None:
        """Count an association that pynetdicom has rejected for a reason of its own."""
        self._metrics.associations.labels("rejected").inc()
        self._turned_away("association rejected", "negotiation", event.assoc.requestor.address)

    def _turned_away(self, what: str, because: str, address: str, **titles: str) -> None:
        self._metrics.turned_away.labels(because).inc()
        unsaid = self._seldom.due(because)
        if unsaid is not None:
            _log.warning(what, extra={
                "because": str(because), "address": address, "not_logged_since": unsaid, **titles})
            self._trail.turned_away(str(because), address, titles.get("calling", "").strip("'"), unsaid)

    def _on_accepted(self, event: Any) -> None:
        self._ledger.open(event.assoc, event.assoc.requestor.ae_title)
        self._metrics.associations.labels("accepted").inc()
        self._metrics.associations_open.inc()

    def _on_echo(self, event: Any) -> int:
        return SUCCESS

    def _on_store(self, event: Any) -> int:
        """Answer one C-STORE that pynetdicom has received."""
        request = event.request
        announced = Announced(
            sop_class_uid=str(request.AffectedSOPClassUID), sop_instance_uid=str(request.AffectedSOPInstanceUID),
            abstract_syntax=str(event.context.abstract_syntax), transfer_syntax_uid=str(event.context.transfer_syntax),
            calling_aet=event.assoc.requestor.ae_title)
        return self._answer(event.assoc, announced,
                            lambda tally: self._storing.store(announced, _data_set(request.DataSet), tally))

    def _answer(self, association: Association, announced: Announced, keep: Callable[[Tally], None]) -> int:
        """Return the status of one C-STORE; whatever goes wrong is logged, even what nobody foresaw."""
        began, finished = time.monotonic(), False
        self._ledger.begin_store(association)
        try:
            status = self._kept(association, announced, keep)
            finished = True
            return status
        finally:
            self._metrics.store_seconds.observe(time.monotonic() - began)
            if not finished:
                _log.error("a store failed for a reason unforeseen", exc_info=sys.exc_info())

    def _kept(self, association: Association, announced: Announced, keep: Callable[[Tally], None]) -> int:
        if self._stopping.is_set():
            return OutOfSpace.dimse_status
        try:
            keep(Tally(association, self._ledger, self._metrics))
        except FirstlookError as error:
            self._refused(error, announced)
            return error.dimse_status
        return SUCCESS

    def _refused(self, error: FirstlookError, announced: Announced) -> None:
        self._metrics.instances.labels("unknown", "refused").inc()
        self._metrics.instances_refused.labels(error.reason).inc()
        _log.warning("object refused", extra={
            "reason": error.reason, "detail": error.detail, "status": f"{error.dimse_status:04X}",
            "sop_class_uid": announced.abstract_syntax})

    def _on_ended(self, association: Association) -> None:
        """Write down what the association has left, and one line on the trace of every study that it touched."""
        self._storing.backlog.write()
        closed = self._ledger.close(association)
        if closed is None:
            return
        if not association.is_released:
            self._metrics.associations.labels("aborted").inc()
        for study_instance_uid, counts in closed.studies.items():
            if counts.keys() & _IMAGES:
                self._trace(closed, study_instance_uid, counts, _ending(association))
                self._tracing.past("receive", study_instance_uid, closed.since, calling_aet=closed.calling_aet,
                                   images=counts.get("stored", 0))
            if counts.keys() & _AUDITED:
                self._trail.received(closed.calling_aet, association.requestor.address or "", study_instance_uid,
                                     sum(counts[label] for label in _AUDITED & counts.keys()))
        self._metrics.associations_open.dec()

    def _trace(self, closed: Closed, study_instance_uid: str, counts: dict[str, int], ending: str) -> None:
        try:
            self._intake.trace(study_instance_uid, "receive", told(closed.calling_aet, counts, ending),
                               {"calling_aet": closed.calling_aet, **counts})
        except FirstlookError as error:
            _log.error("the trace could not be written", extra={"reason": error.reason, "detail": error.detail})


def _asks_to_store(asked: Any) -> bool:
    """Tell whether an association is for images: echoes and reports of storage commitment need no room."""
    return any(context.abstract_syntax in IMAGE_CLASSES for context in asked.presentation_context_definition_list)


def _ending(association: Association) -> str:
    if association.is_released:
        return "association released"
    return "association aborted by this service" if association._sent_abort else "association aborted by the peer"


def _data_set(buffer: BoundedBuffer | None) -> BoundedBuffer:
    return buffer if buffer is not None else BoundedBuffer(0)
