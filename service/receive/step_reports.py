"""Reports on work items (N-EVENT-REPORT of Unified Procedure Steps, PS3.4 CC.2.4), beside those of storage commitment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.sop_class import UnifiedProcedureStepEvent, UnifiedProcedureStepPush

from service import logs
from service.errors import FirstlookError
from service.receive.policy import UNCOMPRESSED
from service.receive.reports import (
    NO_SUCH_EVENT_TYPE,
    NO_SUCH_SOP_CLASS,
    PROCESSING_FAILURE,
    SUCCESS,
    Record,
    report_handler,
)

_EVENT_TYPES, _CANCEL_REQUESTED = (1, 2, 3, 4, 5), 2
_log = logs.get("receive.steps")

Cancel = Callable[[str, str], bool]
"""Takes the UID of a work item and who calls, and notes that it is to be canceled; False when it is no work of ours."""


def step_contexts() -> list[PresentationContext]:
    """Return the presentation context on which reports are taken: the manager that calls is the SCP."""
    reports = build_context(UnifiedProcedureStepEvent, list(UNCOMPRESSED))
    reports.scu_role = reports.scp_role = True
    return [reports]


def event_handler(record: Record | None, cancel: Cancel | None) -> Callable[[Any], tuple[int, Dataset | None]]:
    """Return a handler of EVT_N_EVENT_REPORT for both kinds of reports. Never raises."""
    of_commitment = report_handler(record) if record is not None else None

    def handle(event: Any) -> tuple[int, Dataset | None]:
        request = event.request
        if cancel is None or request.AffectedSOPClassUID != UnifiedProcedureStepPush:
            return of_commitment(event) if of_commitment is not None else (NO_SUCH_SOP_CLASS, None)
        if request.EventTypeID not in _EVENT_TYPES:
            return NO_SUCH_EVENT_TYPE, None
        if request.EventTypeID == _CANCEL_REQUESTED:
            try:
                known = cancel(str(request.AffectedSOPInstanceUID), event.assoc.requestor.ae_title)
            except FirstlookError as error:
                _log.error("a request to cancel could not be written down", extra={"detail": error.detail})
                return PROCESSING_FAILURE, None
            _log.info("a work item is to be canceled", extra={"ours": known})
        return SUCCESS, None

    return handle
