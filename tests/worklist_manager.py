"""A manager of Unified Procedure Steps with the rules of PS3.4 CC: states, transactions, final states, events."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import (
    UnifiedProcedureStepEvent,
    UnifiedProcedureStepPull,
    UnifiedProcedureStepPush,
    UnifiedProcedureStepWatch,
    Verification,
)

from tests.peers import HOST

SUCCESS, PENDING = 0x0000, 0xFF00
ALREADY_CANCELED, ALREADY_COMPLETED = 0xB304, 0xB306
MAY_NOT_CHANGE, WRONG_TRANSACTION, IN_PROGRESS, ONLY_BY_CREATE, NOT_MET, UNKNOWN, NOT_BEGUN = (
    0xC300, 0xC301, 0xC302, 0xC303, 0xC304, 0xC307, 0xC310)
FINAL = {"COMPLETED": ALREADY_COMPLETED, "CANCELED": ALREADY_CANCELED}
PERFORMED = ("PerformedStationNameCodeSequence", "PerformedProcedureStepStartDateTime", "PerformedWorkitemCodeSequence",
             "PerformedProcedureStepEndDateTime")
CANCEL_REQUESTED = 2


def step(uid: str, study: str, priority: str = "MEDIUM", code: str = "110004", ready: str = "READY",
         station: str = "") -> Dataset:
    """Return a step that asks for an algorithm to look at a study."""
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID = UnifiedProcedureStepPush, uid
    made.ProcedureStepState, made.ScheduledProcedureStepPriority, made.InputReadinessState = "SCHEDULED", priority, ready
    made.ProcedureStepLabel, made.StudyInstanceUID = "AI", study
    made.ScheduledWorkitemCodeSequence = [_code(code)]
    made.ScheduledStationNameCodeSequence = [_code(station)] if station else []
    source = Dataset()
    source.TypeOfInstances, source.StudyInstanceUID, source.SeriesInstanceUID = "DICOM", study, f"{study}.1"
    source.ReferencedSOPSequence = []
    made.InputInformationSequence = [source]
    return made


class WorklistManager:
    """The manager. steps: by UID, as they stand; history: state changes and progress in the order they came."""

    def __init__(self, ae_title: str = "MANAGER", subscriber: tuple[str, int] | None = None) -> None:
        self.ae_title, self.subscriber = ae_title, subscriber
        self.steps: dict[str, Dataset] = {}
        self.history: list[tuple[str, str]] = []
        self.subscribed: set[str] = set()
        self.drop_answers_to = ""  # the answer to a claim of this step is lost
        self._lock = threading.Lock()

    def __enter__(self) -> WorklistManager:
        entity = AE(self.ae_title)
        for uid in (Verification, UnifiedProcedureStepPull, UnifiedProcedureStepWatch, UnifiedProcedureStepPush):
            entity.add_supported_context(uid)
        self._server = entity.start_server((HOST, 0), block=False, evt_handlers=[
            (evt.EVT_C_ECHO, lambda event: SUCCESS), (evt.EVT_C_FIND, self._on_find), (evt.EVT_N_ACTION, self._on_action),
            (evt.EVT_N_SET, self._on_set)])
        self.port = int(self._server.server_address[1])
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()

    def add(self, made: Dataset) -> str:
        """Schedule a step; return its UID."""
        with self._lock:
            self.steps[made.SOPInstanceUID] = made
        return str(made.SOPInstanceUID)

    def state(self, uid: str) -> str:
        """Return the state of a step."""
        return str(self.steps[uid].ProcedureStepState)

    def claim_for_another(self, uid: str) -> None:
        """Let another performer claim a step."""
        self.steps[uid].ProcedureStepState, self.steps[uid].TransactionUID = "IN PROGRESS", generate_uid()

    def ask_to_cancel(self, uid: str, port: int, calling: str = "") -> int:
        """Report to the performer, on an association of ours as SCP, that somebody wants a step canceled."""
        entity = AE(calling or self.ae_title)
        entity.add_requested_context(UnifiedProcedureStepEvent)
        association = entity.associate(HOST, port, ae_title="FIRSTLOOK", ext_neg=[
            build_role(UnifiedProcedureStepEvent, scp_role=True, scu_role=False)])
        assert association.is_established
        told = Dataset()
        told.RequestingAE, told.ReasonForCancellation = "REQUESTER", "ordered by mistake"
        status, _ = association.send_n_event_report(
            told, CANCEL_REQUESTED, UnifiedProcedureStepPush, uid, meta_uid=UnifiedProcedureStepEvent)
        association.release()
        return int(status.Status)

    def _on_find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        wanted = str(event.identifier.get("ProcedureStepState") or "")
        with self._lock:
            found = [s for s in self.steps.values() if wanted in ("", s.ProcedureStepState)]
        for one in found:
            answer = Dataset()
            for element in event.identifier:
                if element.keyword in one and element.keyword != "TransactionUID":
                    answer.add(one[element.keyword])
            yield PENDING, answer

    def _on_action(self, event: Any) -> tuple[int, Dataset | None]:
        request = event.request
        uid = str(request.RequestedSOPInstanceUID)
        with self._lock:
            if uid not in self.steps:
                return UNKNOWN, None
            if request.ActionTypeID == 3:
                self.subscribed.add(uid)
                return SUCCESS, None
            status = self._change(self.steps[uid], event.action_information)
        if self.drop_answers_to == uid and not status:
            self.drop_answers_to = ""
            event.assoc.abort()
        return status, None

    def _change(self, one: Dataset, asked: Dataset) -> int:
        """Change a state, or say why not (PS3.4 Table CC.1.1-2)."""
        now, wanted, own = one.ProcedureStepState, str(asked.ProcedureStepState), one.get("TransactionUID")
        given = str(asked.get("TransactionUID") or "")
        if wanted == "SCHEDULED":
            return ONLY_BY_CREATE
        if now in FINAL:
            return FINAL[now] if wanted == now and given == own else MAY_NOT_CHANGE
        if not given:
            return WRONG_TRANSACTION
        if wanted == "IN PROGRESS":
            if now == "IN PROGRESS":
                return IN_PROGRESS
            one.TransactionUID = given
        else:
            if now == "SCHEDULED":
                return NOT_BEGUN
            if given != own:
                return WRONG_TRANSACTION
            if not self._met(one, wanted):
                return NOT_MET
        one.ProcedureStepState = wanted
        self.history.append((str(one.SOPInstanceUID), wanted))
        return SUCCESS

    def _met(self, one: Dataset, wanted: str) -> bool:
        """Tell whether a step has what its final state requires (PS3.4 Table CC.2.5-3)."""
        progress = (one.get("ProcedureStepProgressInformationSequence") or [Dataset()])[0]
        if wanted == "CANCELED":
            return bool(progress.get("ProcedureStepCancellationDateTime")
                        and progress.get("ProcedureStepDiscontinuationReasonCodeSequence"))
        done = (one.get("UnifiedProcedureStepPerformedProcedureSequence") or [Dataset()])[0]
        return all(done.get(keyword) for keyword in PERFORMED) and "OutputInformationSequence" in done

    def _on_set(self, event: Any) -> tuple[int, Dataset | None]:
        uid, changes = str(event.request.RequestedSOPInstanceUID), event.modification_list
        with self._lock:
            one = self.steps.get(uid)
            if one is None:
                return UNKNOWN, None
            if one.ProcedureStepState in FINAL:
                return MAY_NOT_CHANGE, None
            if one.ProcedureStepState == "SCHEDULED":
                if changes.get("TransactionUID"):
                    return NOT_BEGUN, None
            elif changes.get("TransactionUID") != one.TransactionUID:
                return WRONG_TRANSACTION, None
            for element in changes:
                if element.keyword != "TransactionUID":
                    one.add(element)
            for told in changes.get("ProcedureStepProgressInformationSequence") or ():
                self.history.append((uid, str(told.get("ProcedureStepProgressDescription", ""))))
        return SUCCESS, None


def _code(value: str) -> Dataset:
    made = Dataset()
    value, _, scheme = value.partition("^")
    made.CodeValue, made.CodingSchemeDesignator, made.CodeMeaning = value, scheme or "DCM", value
    return made
