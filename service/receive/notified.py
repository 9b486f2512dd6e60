"""Take notices of others (N-CREATE and N-SET): read, written down durably, then answered. Never raises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import evt
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.sop_class import InstanceAvailabilityNotification, ModalityPerformedProcedureStep

from service import logs
from service.domain.notice import Notified
from service.errors import BadInstance, FirstlookError
from service.metrics import Metrics
from service.receive.header import is_uid
from service.receive.notices import read_availability, read_step
from service.receive.policy import UNCOMPRESSED
from service.receive.transport import BoundedBuffer, Handlers
from service.store.notices import Notices, Written

SUCCESS, PROCESSING_FAILURE = 0x0000, 0x0110
INVALID_VALUE, DUPLICATE, NO_SUCH_INSTANCE, INVALID_INSTANCE, NO_SUCH_CLASS = 0x0106, 0x0111, 0x0112, 0x0117, 0x0118
MAY_NOT_CHANGE = 0xA710  # Error ID with a processing failure: the step has ended (PS3.4 F.7.2.2.2)
_ANSWERS = {Written.NEW: SUCCESS, Written.DUPLICATE: DUPLICATE, Written.UNKNOWN: NO_SUCH_INSTANCE}
_log = logs.get("receive.notices")

Answer = tuple[int | Dataset, Dataset | None]


def notice_contexts() -> list[PresentationContext]:
    """Return the presentation contexts on which notices are taken."""
    return [build_context(c, list(UNCOMPRESSED))
            for c in (InstanceAvailabilityNotification, ModalityPerformedProcedureStep)]


def notice_handlers(notices: Notices, metrics: Metrics) -> Handlers:
    """Return the handlers of N-CREATE and N-SET. notices: where they are written down."""

    def created(event: Any) -> Answer:
        request = event.request
        sop_class, uid = request.AffectedSOPClassUID, str(request.AffectedSOPInstanceUID or "")
        if not is_uid(uid):
            return INVALID_INSTANCE, None
        if sop_class == InstanceAvailabilityNotification:
            read, write = read_availability, notices.available
        elif sop_class == ModalityPerformedProcedureStep:
            read, write = read_step, notices.begun
        else:
            return NO_SUCH_CLASS, None
        return _taken(event, request.AttributeList, lambda data, implicit: read(uid, data, implicit), write, metrics)

    def changed(event: Any) -> Answer:
        request = event.request
        if request.RequestedSOPClassUID != ModalityPerformedProcedureStep:
            return NO_SUCH_CLASS, None
        uid = str(request.RequestedSOPInstanceUID or "")
        return _taken(event, request.ModificationList, lambda data, implicit: read_step(uid, data, implicit),
                      notices.changed, metrics)

    return [(evt.EVT_N_CREATE, created), (evt.EVT_N_SET, changed)]


def _taken(event: Any, encoded: BoundedBuffer | None, read: Callable[[memoryview, bool], Notified],
           write: Callable[[Notified, str], Written], metrics: Metrics) -> Answer:
    implicit = event.context.transfer_syntax == ImplicitVRLittleEndian
    try:
        with (encoded if encoded is not None else BoundedBuffer(0)).getbuffer() as data:
            notified = read(data, implicit)
        written = write(notified, event.assoc.requestor.ae_title)
    except BadInstance as error:
        metrics.notices.labels("unknown", "refused").inc()
        _log.warning("a notice cannot be read", extra={"detail": error.detail})
        return INVALID_VALUE, None
    except FirstlookError as error:
        _log.error("a notice could not be written down", extra={"detail": error.detail})
        return PROCESSING_FAILURE, None
    metrics.notices.labels(notified.kind.value, written.value).inc()
    _log.info("notice", extra={"kind": notified.kind.value, "listed": len(notified.listed), "outcome": written.value})
    return (_ended() if written is Written.ENDED else _ANSWERS[written]), None


def _ended() -> Dataset:
    status = Dataset()
    status.Status, status.ErrorID = PROCESSING_FAILURE, MAY_NOT_CHANGE
    status.ErrorComment = "Performed Procedure Step Object may no longer be updated"
    return status
