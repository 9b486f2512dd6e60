"""Unified Procedure Steps against a manager that keeps the rules of PS3.4 CC: each answer becomes what we do next."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pydicom.dataset import Dataset

from service.deliver import steps
from service.deliver.cstore import CStoreTarget
from service.deliver.ups import StepManager, Told
from service.domain.workitem import Created, Performance
from service.errors import PeerUnavailable
from tests.builders import uid
from tests.peers import HOST, free_port
from tests.worklist_manager import WorklistManager, step

ITEM, STUDY, OURS = uid(70, 1), uid(1, 1), uid(80, 1)
DONE = Performance(STUDY, 1.7e9, 1.7e9 + 12, (
    Created("1.2.840.10008.5.1.4.1.1.66.4", uid(90, 1), uid(90, 100), "PACS"),
    Created("1.2.840.10008.5.1.4.1.1.88.34", uid(90, 2), uid(90, 200), "PACS"),
    Created("1.2.840.10008.5.1.4.1.1.88.34", uid(90, 3), uid(90, 200))))


def client(port: int) -> StepManager:
    return StepManager(CStoreTarget("orders", "MANAGER", HOST, port, "FIRSTLOOK", 5.0), "FIRSTLOOK", "FIRSTLOOK^99FIRSTLOOK")


@pytest.fixture
def manager() -> Iterator[WorklistManager]:
    with WorklistManager() as running:
        yield running


def test_offered_are_those_that_nobody_claimed(manager: WorklistManager) -> None:
    manager.add(step(ITEM, STUDY, "HIGH"))
    manager.claim_for_another(manager.add(step(uid(70, 2), STUDY)))
    client(manager.port).echo()
    (one,) = client(manager.port).offered()
    assert (one.uid, one.priority, one.rank, one.study_instance_uids) == (ITEM, "HIGH", 0, (STUDY,))
    assert one.is_for(("110004^DCM",), "A^B") and not one.is_for(("110003^DCM",), "A^B")


def test_what_is_offered_is_for_us_by_code_station_readiness_and_one_study() -> None:
    def is_ours(**changes: object) -> bool:
        made = step(ITEM, STUDY, station="CT^99", **{k: v for k, v in changes.items() if k == "ready"})  # type: ignore[arg-type]
        if "studies" in changes:
            made.InputInformationSequence, made.StudyInstanceUID = changes["studies"], ""
        one = steps.offered(made)
        return one is not None and one.is_for(("110004^DCM",), str(changes.get("ours", "CT^99")))

    other = Dataset()
    other.StudyInstanceUID = uid(2, 1)
    same = step(ITEM, STUDY).InputInformationSequence[0]
    assert is_ours() and is_ours(studies=[same, same])
    assert not is_ours(ours="MR^99") and not is_ours(ready="INCOMPLETE")
    assert not is_ours(studies=[same, other]) and not is_ours(studies=[])
    assert steps.offered(Dataset()) is None


def test_from_claim_to_completed(manager: WorklistManager) -> None:
    ours = client(manager.port)
    manager.add(step(ITEM, STUDY))
    assert ours.progress(ITEM, OURS, "too early") is Told.NOT_BEGUN
    assert ours.claim(ITEM, OURS) is Told.DONE and ours.subscribe(ITEM) and ITEM in manager.subscribed
    assert ours.claim(ITEM, OURS) is Told.TAKEN and ours.progress(ITEM, OURS, "reading") is Told.DONE
    assert ours.progress(ITEM, uid(80, 2), "of somebody else") is Told.TAKEN
    assert ours.complete(ITEM, OURS, DONE) is Told.DONE and ours.complete(ITEM, OURS, DONE) is Told.ENDED
    listed = manager.steps[ITEM].UnifiedProcedureStepPerformedProcedureSequence[0].OutputInformationSequence
    assert [(o.SeriesInstanceUID, len(o.ReferencedSOPSequence), "DICOMRetrievalSequence" in o) for o in listed] == [
        (uid(90, 100), 1, True), (uid(90, 200), 1, True), (uid(90, 200), 1, False)]
    assert [h[1] for h in manager.history] == ["IN PROGRESS", "reading", "COMPLETED"]


def test_canceled_with_a_reason_and_what_was_made_all_the_same(manager: WorklistManager) -> None:
    ours = client(manager.port)
    manager.add(step(ITEM, STUDY))
    assert ours.claim(ITEM, OURS) is Told.DONE and ours.cancel(ITEM, OURS, "lateral_view: no", DONE) is Told.DONE
    told = manager.steps[ITEM].ProcedureStepProgressInformationSequence[0]
    assert told.ReasonForCancellation == "lateral_view: no" and manager.state(ITEM) == "CANCELED"
    assert ours.claim(uid(70, 9), OURS) is Told.ENDED, "it is no longer there"


def test_a_manager_that_is_away_may_be_back_later() -> None:
    with pytest.raises(PeerUnavailable):
        client(free_port()).offered()
