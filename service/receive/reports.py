"""Reports of storage commitment (N-EVENT-REPORT, PS3.4 J.3.3): read, written down, answered. Never raises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

from service import logs
from service.domain.commitment import Answer, UnreadableReport, read_report
from service.errors import FirstlookError
from service.receive.machine import UNREADABLE

SUCCESS, PROCESSING_FAILURE = 0x0000, 0x0110
NO_SUCH_EVENT_TYPE, INVALID_ARGUMENT_VALUE, NO_SUCH_SOP_CLASS = 0x0113, 0x0115, 0x0118
_EVENT_TYPES = (1, 2)  # all is kept; some is not
_log = logs.get("receive.reports")

Record = Callable[[Answer], bool]
"""Writes an answer down; False when nobody waits for it. Raises: Unavailable."""


def report_handler(record: Record) -> Callable[[Any], tuple[int, Dataset | None]]:
    """Return a handler of EVT_N_EVENT_REPORT, for an association in either direction.

    A report of an unknown transaction, or a second one, is answered with Success and ignored: a peer that was told of a
    failure would send it again and again.
    """

    def handle(event: Any) -> tuple[int, Dataset | None]:
        request = event.request
        if request.AffectedSOPClassUID != StorageCommitmentPushModel or (
                request.AffectedSOPInstanceUID != StorageCommitmentPushModelInstance):
            return NO_SUCH_SOP_CLASS, None
        if request.EventTypeID not in _EVENT_TYPES:
            return NO_SUCH_EVENT_TYPE, None
        try:
            answer = _read(event)
            if not record(answer):
                _log.warning("a report of storage commitment that nobody waits for is ignored",
                             extra={"objects": len(answer.kept) + len(answer.failed)})
        except UnreadableReport as error:
            _log.warning("a report of storage commitment cannot be read", extra={"detail": str(error)})
            return INVALID_ARGUMENT_VALUE, None
        except FirstlookError as error:
            _log.error("a report of storage commitment could not be written down", extra={"detail": error.detail})
            return PROCESSING_FAILURE, None
        return SUCCESS, None

    return handle


def _read(event: Any) -> Answer:
    """Read the report of an event. Raises: UnreadableReport, also when its bytes are no data set."""
    try:
        return read_report(event.event_information)
    except UnreadableReport:
        raise
    except UNREADABLE as error:
        raise UnreadableReport(f"not a data set ({type(error).__name__})") from error
