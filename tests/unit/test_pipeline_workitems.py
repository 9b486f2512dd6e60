"""What becomes of a work item as its study goes its way: the rows are as the service writes them, the manager is real."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlmodel import select

from service.deliver.cstore import CStoreTarget
from service.deliver.ups import StepManager
from service.domain.job import JobKind
from service.domain.workitem import ItemState
from service.metrics import Metrics
from service.pipeline.workitems import ItemRules, Watcher
from service.store.database import Database
from service.store.files import Folder
from service.store.tables import Delivery, Event, Job, ResultObject, Study
from service.store.workitems import WorkItem, ask_to_cancel
from service.triage.rules import RULES
from tests.builders import radiograph, uid, write
from tests.peers import HOST
from tests.worklist_manager import WorklistManager, step

ITEM, STUDY = uid(70, 1), uid(2, 1)
RULES_OF = ItemRules(("110004^DCM",), poll_s=1.0, most=2, wait_s=100.0, subscribe=True)


@dataclass
class Desk:
    """A watcher and what is around it; the clock stands still until it is moved."""

    manager: WorklistManager
    database: Database
    line: Any
    now: list[float]

    def watcher(self, rules: ItemRules = RULES_OF) -> Watcher:
        """Return a watcher as a new start of the service makes it."""
        peer = CStoreTarget("orders", "MANAGER", HOST, self.manager.port, "FIRSTLOOK", 5.0)
        return Watcher(self.line, StepManager(peer, "FIRSTLOOK", "FIRSTLOOK^99FIRSTLOOK"), rules)

    def add(self, *rows: Any) -> None:
        """Write rows."""
        with self.database.transaction() as session:
            session.add_all(rows)

    def study(self, **changes: Any) -> Study:
        """Write the study, or change it."""
        with self.database.transaction() as session:
            found = session.exec(select(Study)).first() or Study(
                study_instance_uid=STUDY, state="receiving", first_received_at=900.0, last_received_at=900.0, kind="cxr")
            for name, value in changes.items():
                setattr(found, name, value)
            session.add(found)
        return found

    def item(self, which: str = ITEM) -> WorkItem:
        """Return the row of a work item."""
        with self.database.reading() as session:
            return session.exec(select(WorkItem).where(WorkItem.uid == which)).one()

    def told(self) -> list[str]:
        """Return what the manager was told of the item."""
        return [text for which, text in self.manager.history if which == ITEM]

    def trace(self) -> list[str]:
        """Return the trace of the study."""
        with self.database.reading() as session:
            return [f"{e.stage}: {e.text}" for e in session.exec(select(Event)).all()]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    database = Database(f"sqlite:///{tmp_path / 'firstlook.db'}")
    database.migrate()
    now = [1000.0]
    pacs = SimpleNamespace(target=SimpleNamespace(ae_title="PACS"))
    line = SimpleNamespace(
        database=database, metrics=Metrics(), clock=lambda: now[0], targets={"pacs": pacs}, archives={}, rules=RULES,
        results_dir=Folder(tmp_path), target_s=lambda urgency: 60.0 * (urgency.rank + 1))
    with WorklistManager() as manager:
        yield Desk(manager, database, line, now)
    database.close()


def test_progress_follows_the_study_and_completion_waits_for_the_delivery(desk: Desk, tmp_path: Path) -> None:
    desk.manager.add(step(ITEM, STUDY, "HIGH"))
    watcher = desk.watcher()
    for _ in range(3):
        watcher.step()
    assert desk.told() == ["IN PROGRESS", "waiting for images"] and ITEM in desk.manager.subscribed
    study = desk.study(state="queued", completed_at=950.0, revision=1, urgency="low", urgency_rank=3, reading_urgency="low",
                       reading_rank=3)
    desk.add(Job(key="infer:1", kind=JobKind.INFER, study_id=study.id or 0, revision=1, urgency="low", queued_at=950.0,
                 deadline_at=9999.0))
    watcher.step()
    raised = desk.study()
    assert (raised.urgency, raised.reading_urgency, raised.deadline_at) == ("urgent", "urgent", 900 + 120)
    with desk.database.reading() as session:
        assert session.exec(select(Job)).one().deadline_at == 1020
    desk.study(state="inferring")
    watcher.step()
    path = write([radiograph()], tmp_path / "made")[0]
    desk.add(ResultObject(id=5, study_id=study.id or 0, revision=1, kind="sr", sop_class_uid="1.2", sop_instance_uid="1.2.3",
                          path=str(path.relative_to(tmp_path)), created_at=960.0))
    desk.study(state="assessed", delivery="pending", started_at=955.0)
    watcher.step()
    desk.study(delivery="parked")
    watcher.step()
    assert desk.told()[2:] == ["queued", "a model is looking at the images", "a result was made and is being sent",
                               "a result was made; its delivery needs a person"]
    desk.add(Delivery(result_object_id=5, target="pacs", stored_at=999.0, proven_at=999.0))
    desk.study(delivery="delivered")
    watcher.step()
    done = desk.manager.steps[ITEM].UnifiedProcedureStepPerformedProcedureSequence[0]
    (listed,) = done.OutputInformationSequence
    assert listed.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == "1.2.3"
    assert (listed.SeriesInstanceUID, listed.DICOMRetrievalSequence[0].RetrieveAETitle) == (uid(2, 1, 1), "PACS")
    assert desk.item().state == ItemState.COMPLETED and desk.trace()[-1] == "work_item: orders: completed"
    watcher.step()
    assert desk.told()[-1] == "COMPLETED"


def test_what_is_not_assessed_is_canceled_with_the_reason_once_that_is_final(desk: Desk) -> None:
    desk.manager.add(step(ITEM, STUDY))
    watcher = desk.watcher()
    watcher.step()
    desk.study(state="not_assessed", state_reason="lateral_view", completed_at=None)
    watcher.step()
    assert desk.item().state == ItemState.OURS, "images may still come"
    desk.study(completed_at=960.0)
    watcher.step()
    told = desk.manager.steps[ITEM].ProcedureStepProgressInformationSequence[0]
    assert desk.manager.state(ITEM) == "CANCELED" and told.ReasonForCancellation.startswith("lateral_view: Only lateral")


def test_canceled_on_request_and_for_want_of_images(desk: Desk) -> None:
    other = desk.manager.add(step(uid(70, 2), uid(3, 1)))
    desk.manager.add(step(ITEM, STUDY))
    watcher = desk.watcher()
    watcher.step()
    with desk.database.transaction() as session:
        assert not ask_to_cancel(session, ITEM, {"orders": "MANAGER"}, "STRANGER", 1001.0)
        assert ask_to_cancel(session, ITEM, {"orders": "MANAGER "}, "MANAGER", 1001.0)
    watcher.step()
    assert (desk.manager.state(ITEM), desk.manager.state(other)) == ("CANCELED", "IN PROGRESS")
    desk.now[0] += 101
    watcher.step()
    assert desk.manager.state(other) == "CANCELED"
    with desk.database.transaction() as session:
        assert not ask_to_cancel(session, ITEM, {"orders": "MANAGER"}, "MANAGER", 1001.0), "it has ended"


def test_a_claim_whose_answer_was_lost_is_ours_and_one_of_another_is_not(desk: Desk) -> None:
    desk.manager.drop_answers_to = desk.manager.add(step(ITEM, STUDY))
    desk.watcher().step()
    assert desk.manager.state(ITEM) == "IN PROGRESS" and desk.item().state == ItemState.CLAIMING
    restarted = desk.watcher()
    restarted.step()
    assert desk.item().state == ItemState.OURS
    foreign = desk.manager.add(step(uid(70, 2), uid(3, 1)))
    desk.add(WorkItem(uid=foreign, manager="orders", transaction_uid=uid(80, 1), study_instance_uid=uid(3, 1),
                      priority="LOW", state=ItemState.CLAIMING, found_at=990.0))
    desk.manager.claim_for_another(foreign)
    restarted.step()
    assert desk.item(foreign).state == ItemState.LOST


def test_what_the_manager_gave_away_is_left_alone(desk: Desk) -> None:
    desk.manager.add(step(ITEM, STUDY))
    watcher = desk.watcher()
    watcher.step()
    desk.manager.claim_for_another(ITEM)
    desk.study(state="queued")
    watcher.step()
    assert desk.item().state == ItemState.LOST and desk.manager.state(ITEM) == "IN PROGRESS"


def test_no_more_is_claimed_than_wanted_the_most_urgent_first_and_a_manager_that_is_away_rests(desk: Desk) -> None:
    for n, priority in enumerate(("LOW", "HIGH", "MEDIUM"), 1):
        desk.manager.add(step(uid(70, n), uid(3, n), priority))
    watcher = desk.watcher()
    watcher.step()
    desk.now[0] += 10
    watcher.step()
    assert [desk.manager.state(uid(70, n)) for n in (1, 2, 3)] == ["SCHEDULED", "IN PROGRESS", "IN PROGRESS"]
    away = Watcher(desk.line, StepManager(CStoreTarget("away", "X", HOST, 1, "FIRSTLOOK", 1.0), "F", "A^B"), RULES_OF)
    away.step()
    assert away._rest_until > desk.now[0]
