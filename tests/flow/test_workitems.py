"""Work of a manager is claimed, done and ended by the rules of PS3.4 CC; it survives a restart, and can be canceled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from sqlmodel import select

from service.app import App
from service.domain.workitem import ItemState
from service.store.workitems import WorkItem
from tests.builders import as_bytes, ct_series, radiograph, uid
from tests.hospital import TINY, Hospital, hospital, settings_for, tiny_models
from tests.peers import HOST, ScriptedPacs, free_port, orthanc, wait_until
from tests.worklist_manager import WorklistManager, step

CT, CXR = uid(1, 1), uid(2, 1)
ITEM, OTHER = uid(70, 1), uid(70, 2)
QUICK = {"quiet_ct_s": 0.3, "quiet_cxr_s": 0.2, "start_early": False}


def sections(folder: Path, manager: WorklistManager, **more: Any) -> dict[str, Any]:
    models = folder / "models"
    place = {"name": "orders", "ae_title": manager.ae_title, "host": HOST, "port": manager.port, "timeout_s": 5.0,
             "poll_s": 0.2, "codes": ["110004^DCM"]} | more
    return {"infer": TINY | {"models_dir": models if models.exists() else tiny_models(models)}, "assemble": QUICK,
            "workitems": {"managers": [place]}}


@contextmanager
def working(folder: Path, **more: Any) -> Iterator[tuple[Hospital, WorklistManager]]:
    with WorklistManager() as manager, hospital(folder / "house", **sections(folder, manager, **more)) as house:
        yield house, manager


def ended(manager: WorklistManager, item: str, state: str) -> Dataset:
    wait_until(lambda: manager.state(item) == state, 60)
    return manager.steps[item]


def row(app: App, item: str) -> WorkItem | None:
    with app.database.reading() as session:
        return session.exec(select(WorkItem).where(WorkItem.uid == item)).first()


def outputs(made: Dataset) -> dict[str, tuple[str, str]]:
    """Return every object that a step lists: series and retrieve AE title by SOP Instance UID."""
    done = made.UnifiedProcedureStepPerformedProcedureSequence[0]
    return {r.ReferencedSOPInstanceUID: (o.SeriesInstanceUID, o.DICOMRetrievalSequence[0].RetrieveAETitle)
            for o in done.OutputInformationSequence for r in o.ReferencedSOPSequence}


def test_claimed_done_and_completed_with_every_object_listed(tmp_path: Path) -> None:
    with working(tmp_path) as (house, manager):
        manager.add(step(ITEM, CT, "HIGH"))
        for n, skipped in enumerate((step(uid(71, 1), CT, code="110003"), step(uid(71, 2), CT, ready="UNAVAILABLE"),
                                     step(uid(71, 3), CT, station="ANOTHER^99SITE")), 1):
            assert manager.add(skipped) == uid(71, n)
        wait_until(lambda: (ITEM, "waiting for images") in manager.history)
        assert ITEM in manager.subscribed
        house.send(*ct_series())
        study = house.delivered(CT)
        assert (study.urgency, study.ordered_priority) == ("urgent", "HIGH")
        made = ended(manager, ITEM, "COMPLETED")
        assert outputs(made) == {ds.SOPInstanceUID: (ds.SeriesInstanceUID, "PACS") for ds in house.in_pacs(CT)}
        steps = [text for item, text in manager.history if item == ITEM]
        assert steps[0] == "IN PROGRESS" and steps[-1] == "COMPLETED" and steps.index("waiting for images") == 1
        assert all(manager.state(uid(71, n)) == "SCHEDULED" for n in (1, 2, 3))
        assert any(f"orders asks for it as work item {ITEM}, priority HIGH" in line for line in house.trace(CT))
        wait_until(lambda: any("work_item: orders: completed" in line for line in house.trace(CT)))
        count = house.app.metrics.registry.get_sample_value
        for outcome in ("claimed", "completed"):
            assert count("firstlook_work_items_total", {"manager": "orders", "outcome": outcome}) == 1


def test_a_refusal_ends_the_work_as_canceled_with_its_reason(tmp_path: Path) -> None:
    with working(tmp_path) as (house, manager):
        manager.add(step(ITEM, CXR))
        house.send(radiograph(ViewPosition="LL"))
        made = ended(manager, ITEM, "CANCELED")
        told = made.ProcedureStepProgressInformationSequence[0]
        assert told.ReasonForCancellation.startswith("lateral_view: Only lateral or other non-frontal views")
        assert told.ProcedureStepDiscontinuationReasonCodeSequence[0].CodeValue == "110513"
        (report,) = house.in_pacs(CXR)
        assert list(outputs(made)) == [report.SOPInstanceUID]


def test_work_is_canceled_on_request_of_its_manager_only(tmp_path: Path) -> None:
    with working(tmp_path) as (house, manager):
        manager.add(step(ITEM, CT))
        wait_until(lambda: (ITEM, "waiting for images") in manager.history)
        assert house.app.listener is not None
        port = house.app.listener.port
        assert manager.ask_to_cancel(ITEM, port, calling="STRANGER") == 0
        assert manager.ask_to_cancel(uid(99, 9), port) == 0
        found = row(house.app, ITEM)
        assert found is not None and found.cancel_at is None
        assert manager.ask_to_cancel(ITEM, port) == 0
        made = ended(manager, ITEM, "CANCELED")
        assert made.ProcedureStepProgressInformationSequence[0].ReasonForCancellation == "canceled on request"


def test_without_images_the_work_is_given_back(tmp_path: Path) -> None:
    with working(tmp_path, wait_h=0.0001) as (_, manager):
        manager.add(step(ITEM, CT))
        made = ended(manager, ITEM, "CANCELED")
        assert "no image of the study came" in made.ProcedureStepProgressInformationSequence[0].ReasonForCancellation


def test_a_restart_goes_on_with_what_was_claimed_even_where_the_answer_was_lost(tmp_path: Path) -> None:
    with WorklistManager() as manager, ScriptedPacs(tmp_path / "pacs") as pacs:
        manager.drop_answers_to = manager.add(step(ITEM, CT))
        manager.add(step(OTHER, CXR))
        first = App(settings_for(tmp_path, pacs, **sections(tmp_path, manager)))
        first.start()
        wait_until(lambda: manager.state(OTHER) == "IN PROGRESS")
        first.stop()
        assert manager.state(ITEM) == "IN PROGRESS"
        second = App(settings_for(tmp_path, pacs, **sections(tmp_path, manager)))
        second.start()
        try:
            house = Hospital(second, pacs, tmp_path)
            house.send(*ct_series())
            house.send(radiograph())
            for item, study in ((ITEM, CT), (OTHER, CXR)):
                assert set(outputs(ended(manager, item, "COMPLETED"))) == {
                    ds.SOPInstanceUID for ds in house.in_pacs(study)}
            assert [h for h in manager.history if h[1] == "IN PROGRESS"] == [(ITEM, "IN PROGRESS"), (OTHER, "IN PROGRESS")]
        finally:
            second.stop()


def test_what_another_performer_took_is_left_to_it(tmp_path: Path) -> None:
    with working(tmp_path) as (house, manager):
        manager.add(step(ITEM, CT))
        wait_until(lambda: (ITEM, "waiting for images") in manager.history)
        manager.claim_for_another(ITEM)
        house.send(*ct_series())
        house.delivered(CT)
        wait_until(lambda: (found := row(house.app, ITEM)) and found.state == ItemState.LOST)
        assert manager.state(ITEM) == "IN PROGRESS"


@pytest.mark.peer
def test_images_that_are_not_here_are_fetched_from_the_archive(tmp_path: Path) -> None:
    port = free_port()
    with orthanc(tmp_path / "orthanc", {"FIRSTLOOK": (HOST, port)}) as server, WorklistManager() as manager:
        for image in ct_series():
            server.post("/instances", as_bytes(image))
        archive = {"name": "archive", "ae_title": server.ae_title, "host": HOST, "port": server.port, "retrieve": "get"}
        given = sections(tmp_path, manager, archive="archive") | {"priors": {"archives": [archive]}}
        with hospital(tmp_path / "house", **given) as house:
            manager.add(step(ITEM, CT))
            made = ended(manager, ITEM, "COMPLETED")
            study = house.study(CT)
            assert not study.fetched and set(outputs(made)) == {ds.SOPInstanceUID for ds in house.in_pacs(CT)}
