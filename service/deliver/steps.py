"""Unified Procedure Steps as attributes (PS3.3 C.30): read what is offered, write progress, results and reasons."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

from service.domain import codes
from service.domain.codes import Code
from service.domain.workitem import Created, Offered, Performance

ASKED = ("SOPInstanceUID", "ProcedureStepState", "ScheduledProcedureStepPriority", "ScheduledWorkitemCodeSequence",
         "ScheduledStationNameCodeSequence", "InputReadinessState", "InputInformationSequence", "StudyInstanceUID")


def query() -> Dataset:
    """Return the identifier of a C-FIND for work items that nobody has claimed."""
    asked = Dataset()
    for keyword in ASKED:
        setattr(asked, keyword, [Dataset()] if keyword.endswith("Sequence") else None)
    asked.ProcedureStepState = "SCHEDULED"
    return asked


def tags() -> list[BaseTag]:
    """Return the tags of an N-GET that tells whose a work item is."""
    return [Tag("ProcedureStepState"), *(Tag(k) for k in ASKED[2:])]


def offered(found: Dataset, uid: str = "") -> Offered | None:
    """Read one answer of the query; None when it names no work item. uid: where the answer does not carry it."""
    uid = str(found.get("SOPInstanceUID") or uid)
    if not uid:
        return None
    studies = dict.fromkeys(str(i.StudyInstanceUID) for i in found.get("InputInformationSequence") or ()
                            if i.get("StudyInstanceUID"))
    own = str(found.get("StudyInstanceUID") or "")
    return Offered(
        uid, str(found.get("ScheduledProcedureStepPriority") or "MEDIUM").upper(),
        _codes(found.get("ScheduledWorkitemCodeSequence")), _codes(found.get("ScheduledStationNameCodeSequence")),
        tuple(studies) or ((own,) if own else ()), str(found.get("InputReadinessState") or "READY") == "READY")


def claim(transaction_uid: str, state: str) -> Dataset:
    """Return the action information that changes the state of a work item (PS3.4 CC.2.1)."""
    action = Dataset()
    action.TransactionUID, action.ProcedureStepState = transaction_uid, state
    return action


def subscription(ae_title: str) -> Dataset:
    """Return the action information that asks for reports on a work item (PS3.4 CC.2.3)."""
    action = Dataset()
    action.ReceivingAE, action.DeletionLock = ae_title, "FALSE"
    return action


def progress(transaction_uid: str, text: str, per_cent: int | None = None) -> Dataset:
    """Return the modifications that tell how far the work is. text: at most 1024 characters, free of patient data."""
    told = Dataset()
    told.ProcedureStepProgressDescription = text[:1024]
    if per_cent is not None:
        told.ProcedureStepProgress = str(per_cent)
    made = Dataset()
    made.TransactionUID, made.ProcedureStepProgressInformationSequence = transaction_uid, [told]
    return made


def performed(transaction_uid: str, station: str, done: Performance) -> Dataset:
    """Return the modifications that a final state needs: what was performed, where, when, and every object created."""
    item = Dataset()
    value, _, scheme = station.partition("^")
    item.PerformedStationNameCodeSequence = [_item(Code(value, scheme, value))]
    item.PerformedWorkitemCodeSequence = [_item(codes.COMPUTER_AIDED_DETECTION)]
    item.PerformedProcedureStepStartDateTime, item.PerformedProcedureStepEndDateTime = (
        _moment(at) for at in (done.began_at, done.ended_at))
    item.PerformedProcedureStepDescription = "Automatic image analysis, research use only"
    item.OutputInformationSequence = list(_outputs(done.study_instance_uid, done.created))
    made = Dataset()
    made.TransactionUID, made.UnifiedProcedureStepPerformedProcedureSequence = transaction_uid, [item]
    return made


def discontinued(transaction_uid: str, reason: str, at: float) -> Dataset:
    """Return the modifications that say why a work item is not done. reason: free of patient data."""
    made = progress(transaction_uid, reason)
    told = made.ProcedureStepProgressInformationSequence[0]
    told.ProcedureStepCancellationDateTime, told.ReasonForCancellation = _moment(at), reason[:1024]
    told.ProcedureStepDiscontinuationReasonCodeSequence = [_item(codes.DISCONTINUED)]
    return made


def _outputs(study_instance_uid: str, created: Sequence[Created]) -> Iterable[Dataset]:
    """Return an item for each series and place, with all of its objects."""
    for series, place in dict.fromkeys((c.series_instance_uid, c.retrieve_ae_title) for c in created):
        item = Dataset()
        item.TypeOfInstances, item.StudyInstanceUID, item.SeriesInstanceUID = "DICOM", study_instance_uid, series
        item.ReferencedSOPSequence = [_reference(c) for c in created
                                      if (c.series_instance_uid, c.retrieve_ae_title) == (series, place)]
        if place:
            retrieval = Dataset()
            retrieval.RetrieveAETitle = place
            item.DICOMRetrievalSequence = [retrieval]
        yield item


def _reference(created: Created) -> Dataset:
    made = Dataset()
    made.ReferencedSOPClassUID, made.ReferencedSOPInstanceUID = created.sop_class_uid, created.sop_instance_uid
    return made


def _codes(items: Iterable[Dataset] | None) -> frozenset[str]:
    return frozenset(f"{i.CodeValue}^{i.get('CodingSchemeDesignator', '')}" for i in items or () if i.get("CodeValue"))


def _item(code: Code) -> Dataset:
    made = Dataset()
    made.CodeValue, made.CodingSchemeDesignator, made.CodeMeaning = code.value, code.scheme, code.meaning
    return made


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y%m%d%H%M%S+0000")
