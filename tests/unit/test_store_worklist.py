"""The queries of the worklist."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from service.domain.job import StudyState
from service.domain.order import NO_CAP, ReadingOrder
from service.domain.urgency import Urgency
from service.store import worklist
from service.store.database import Database
from service.store.tables import Job
from tests.browser import seed

NOW = 1_767_400_000.0
DAY_S = 86400.0


def _listed(database: Database, limit: int = 100, window_s: float = DAY_S,
            order: ReadingOrder = NO_CAP) -> list[worklist.Entry]:
    with database.reading() as session:
        return worklist.reading_list(session, limit, NOW, window_s, order)


def test_urgency_comes_first_then_waiting_time(database: Database) -> None:
    with database.transaction() as session:
        for number, age_s, reading in ((1, 10, "routine"), (2, 900, "routine"), (3, 5, "stat"), (4, 9000, "low")):
            session.add(seed.study(number, NOW, age_s, "assessed", reading=reading))
    assert [entry.study.patient_id for entry in _listed(database)] == ["P000003", "P000002", "P000001", "P000004"]
    assert [entry.waited_s for entry in _listed(database)] == [5, 900, 10, 9000]
    assert len(_listed(database, limit=2)) == 2


def test_a_study_that_waits_too_long_passes_all_but_stat(database: Database) -> None:
    with database.transaction() as session:
        for number, age_s, reading in (
                (1, 3600, "low"), (2, 3599, "routine"), (3, 60, "urgent"), (4, 5, "stat"), (5, 4000, "stat")):
            session.add(seed.study(number, NOW, age_s, "assessed", reading=reading))
    listed = _listed(database, order=ReadingOrder(3600))
    assert [entry.study.patient_id[-1] for entry in listed] == ["5", "4", "1", "3", "2"]
    assert [entry.overdue for entry in listed] == [False, False, True, False, False]
    assert [entry.study.patient_id[-1] for entry in _listed(database)] == ["5", "4", "3", "2", "1"]


@pytest.mark.parametrize("longest_wait_s", [0.0, 1.0, 1800.0, 5000.0, 1e9])
def test_the_query_orders_as_the_rule_does(database: Database, longest_wait_s: float) -> None:
    order, random = ReadingOrder(longest_wait_s), Random(7)
    with database.transaction() as session:
        for number in range(200):
            reading = random.choice(list(Urgency))
            session.add(seed.study(number, NOW, random.randrange(0, 7200, 30), "assessed", reading=reading))
    listed = [e.study for e in _listed(database, 500, order=order)]
    expected = sorted(listed, key=lambda s: (
        order.rank(s.reading_rank, NOW - s.first_received_at), s.first_received_at, s.id))
    assert [s.id for s in listed] == [s.id for s in expected] and len(listed) == 200


def test_the_place_is_that_of_the_waiting_job_of_the_current_revision(database: Database) -> None:
    with database.transaction() as session:
        studies = [seed.study(number, NOW, 100 * number, "queued", revision=2) for number in range(1, 5)]
        session.add_all(studies)
        session.flush()
        for study, deadline, state, revision, kind in (
            (studies[0], 50, "waiting", 2, "infer"), (studies[1], 40, "waiting", 2, "infer"),
            (studies[2], 10, "leased", 2, "infer"), (studies[3], 90, "waiting", 1, "infer"),
            (studies[0], 20, "cancelled", 1, "infer"), (studies[0], 5, "waiting", 2, "deliver"),
        ):
            session.add(Job(key=f"{study.id}-{deadline}", kind=kind, study_id=study.id or 0, revision=revision,
                            urgency="routine", state=state, queued_at=NOW, deadline_at=NOW + deadline))
    places = {entry.study.patient_id: entry.place for entry in _listed(database)}
    assert places == {"P000001": 2, "P000002": 1, "P000003": None, "P000004": None}


def test_a_study_without_a_new_image_for_long_leaves_the_list(database: Database) -> None:
    with database.transaction() as session:
        session.add(seed.study(1, NOW, 2 * DAY_S, "assessed", reading="stat"))
        session.add(seed.study(2, NOW, 2 * DAY_S, "assessed", last_received_at=NOW - 60))
    assert [entry.study.patient_id for entry in _listed(database)] == ["P000002"]


def test_every_state_is_counted_also_with_none(database: Database) -> None:
    with database.transaction() as session:
        for number, state in enumerate(("queued", "queued", "failed"), 1):
            session.add(seed.study(number, NOW, 60, state))
    with database.reading() as session:
        counts = worklist.census(session, NOW, DAY_S)
    assert counts.by_state == dict.fromkeys(StudyState, 0) | {StudyState.QUEUED: 2, StudyState.FAILED: 1}


def test_a_study_page_holds_only_what_is_of_this_study(database: Database, tmp_path: Path) -> None:
    made = seed.fill(database, NOW, tmp_path / "results")
    with database.reading() as session:
        page = worklist.study_page(session, made[0].study_instance_uid)
        other = worklist.study_page(session, made[3].study_instance_uid)
        assert worklist.study_page(session, "1.2.3") is None
    assert page is not None and other is not None
    assert {result.kind for result in page.results} == {"sr", "sc"}
    assert {sent.result_object_id for sent in page.deliveries} == {result.id for result in page.results}
    assert [event.at for event in page.events] == sorted(event.at for event in page.events)
    assert sum(page.images.values()) == 3
    assert (other.results, other.deliveries, other.events, other.images) == ((), (), (), {})
    assert [job.state for job in other.jobs] == ["parked"]


def test_a_result_object_is_found_only_under_its_study(database: Database, tmp_path: Path) -> None:
    made = seed.fill(database, NOW, tmp_path / "results")
    with database.reading() as session:
        page = worklist.study_page(session, made[0].study_instance_uid)
        assert page is not None
        sop = page.results[0].sop_instance_uid
        assert worklist.result_object(session, made[0].study_instance_uid, sop) is not None
        assert worklist.result_object(session, made[2].study_instance_uid, sop) is None
        assert len(worklist.image_paths(session, made[0].id or 0)) == 3
