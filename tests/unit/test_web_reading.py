"""Marks of reading: what leaves the list, what comes back, and when a long wait puts a study first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from sqlmodel import select

from service.domain.order import NO_CAP, ReadingOrder, marks_are_kept
from service.metrics import Metrics
from service.store.database import Database
from service.store.tables import Study
from service.web.app import WebStyle, create_app
from tests import builders
from tests.browser import seed
from tests.browser.served import asked

NOW = 1_767_400_000.0
HOUR_S = 3600.0


class Desk:
    """A store, its pages over HTTP, and a clock that can be moved."""

    def __init__(self, database: Database) -> None:
        self.database, self.metrics, self.now = database, Metrics(), NOW
        self.client: httpx.Client

    def put(self, *studies: Study) -> None:
        with self.database.transaction() as session:
            session.add_all(studies)

    def change(self, number: int, **values: object) -> None:
        with self.database.transaction() as session:
            found = session.exec(select(Study).where(Study.study_instance_uid == uid(number))).one()
            for name, value in values.items():
                setattr(found, name, value)

    def mark(self, number: int, what: str = "read") -> httpx.Response:
        return self.client.post(f"/api/studies/{uid(number)}/{what}")

    def listed(self, shown: str = "open") -> list[str]:
        answer = self.client.get(f"/api/worklist?shown={shown}").json()
        return [study["study_instance_uid"] for study in answer["studies"]]


def uid(number: int) -> str:
    return str(builders.uid(number, 1))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(Database(f"sqlite:///{tmp_path / 'reading.db'}"))
    desk.database.migrate()
    style = WebStyle(order=ReadingOrder(8 * HOUR_S))
    app = create_app(desk.database, desk.metrics, lambda: desk.now, style, tuple, tmp_path / "results")
    with asked(app) as desk.client:
        yield desk
    desk.database.close()


def test_a_study_that_is_read_leaves_the_open_list_and_comes_back_when_the_mark_is_taken_back(desk: Desk) -> None:
    desk.put(*(seed.study(n, NOW, 100 * n, "assessed") for n in (1, 2, 3)))
    answer = desk.mark(2).json()
    assert answer == {"study_instance_uid": uid(2), "read_at": NOW, "read_by": "unknown"}
    assert (desk.listed(), desk.listed("read"), desk.listed("all")) == ([uid(3), uid(1)], [uid(2)], [uid(3), uid(2), uid(1)])
    assert desk.mark(2, "unread").json()["read_at"] is None
    assert desk.listed() == [uid(3), uid(2), uid(1)]
    trace = desk.client.get(f"/api/studies/{uid(2)}").json()["trace"]
    assert [(e["stage"], e["data"]) for e in trace] == [("read", {"by": "unknown"}), ("unread", {"by": "unknown"})]


def test_the_first_mark_stays_and_is_written_down_once(desk: Desk) -> None:
    desk.put(seed.study(1, NOW, 100, "assessed"))
    desk.mark(1)
    desk.now = NOW + 60
    assert desk.mark(1).json()["read_at"] == NOW
    assert len(desk.client.get(f"/api/studies/{uid(1)}").json()["trace"]) == 1


def test_images_that_come_after_the_mark_open_the_study_again_and_the_row_says_so(desk: Desk) -> None:
    desk.put(seed.study(1, NOW, 100, "assessed"))
    desk.mark(1)
    desk.change(1, last_received_at=NOW + 5)
    desk.now = NOW + 10
    assert desk.listed() == [uid(1)] and desk.listed("read") == []
    assert "images came after it was read" in desk.client.get("/").text
    desk.mark(1)
    assert desk.listed() == []


def test_a_model_that_raises_a_study_after_the_mark_opens_it_again_but_a_result_as_before_does_not(desk: Desk) -> None:
    desk.put(seed.study(1, NOW, 100, "queued"), seed.study(2, NOW, 100, "assessed", reading="stat", flag="pneumonia 99%"))
    desk.mark(1)
    desk.mark(2)
    desk.change(2, assessed_at=NOW + 5)
    assert desk.listed() == []
    desk.change(1, state="assessed", reading_rank=1, reading_urgency="urgent", flag="pneumonia 91%")
    assert desk.listed() == [uid(1)]
    assert "raised after it was read; raised by AI: pneumonia 91%" in desk.client.get("/").text


def test_a_study_unread_for_too_long_passes_what_is_urgent_and_says_why(desk: Desk) -> None:
    desk.put(*(seed.study(n, NOW, 9 * HOUR_S + n, "assessed") for n in (1, 2)),
             seed.study(3, NOW, 60, "assessed", reading="urgent"), seed.study(4, NOW, 60, "assessed", reading="stat"))
    assert desk.listed() == [uid(4), uid(3), uid(2), uid(1)], "nobody marks what is read: no study counts as overdue"
    assert "No wait puts a study first" in desk.client.get("/").text
    desk.mark(2)
    assert desk.listed() == [uid(4), uid(1), uid(3)]
    assert "unread for 9 h 00 min, so it counts as urgent; no priority stated" in desk.client.get("/").text
    assert "so it counts as urgent" in desk.client.get(f"/studies/{uid(1)}").text
    assert "A study unread for 8 h 00 min counts as urgent." in desk.client.get("/").text


@pytest.mark.parametrize(("read", "old", "kept"), [(0, 0, False), (0, 5, False), (1, 1, True), (1, 2, True), (1, 3, False),
                                                   (500, 1000, True), (499, 1000, False)])
def test_marks_count_as_kept_when_half_of_the_old_studies_have_one(read: int, old: int, kept: bool) -> None:
    assert marks_are_kept(read, old) is kept


def test_a_site_that_has_only_begun_to_mark_is_not_flooded_with_old_studies(desk: Desk) -> None:
    desk.put(*(seed.study(n, NOW, 9 * HOUR_S + n, "assessed") for n in range(10, 40)),
             seed.study(1, NOW, 60, "assessed", reading="urgent"))
    for number in range(10, 20):
        desk.mark(number)
    assert desk.listed()[0] == uid(1)


def test_the_time_to_reading_is_measured_once_from_the_last_image(desk: Desk) -> None:
    desk.put(seed.study(1, NOW, 700, "assessed", reading="urgent"))
    desk.mark(1)
    desk.mark(1)
    told = desk.client.get("/metrics").text
    assert 'firstlook_time_to_reading_seconds_count{kind="ct",urgency="urgent"} 1.0' in told
    assert f'firstlook_time_to_reading_seconds_sum{{kind="ct",urgency="urgent"}} {700 - 42:.1f}' in told


def test_the_buttons_work_without_a_script_and_lead_back(desk: Desk) -> None:
    desk.put(seed.study(1, NOW, 100, "assessed"))
    page = desk.client.get("/").text
    assert f'formaction="/studies/{uid(1)}/read"' in page
    answer = desk.client.post(f"/studies/{uid(1)}/read")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    page = desk.client.get("/?shown=read").text
    assert f'formaction="/studies/{uid(1)}/unread"' in page and "by unknown" in page
    answer = desk.client.post(f"/studies/{uid(1)}/unread", data={"from": "study"})
    assert (answer.status_code, answer.headers["location"]) == (303, f"/studies/{uid(1)}")
    assert desk.listed() == [uid(1)]


def test_marks_of_another_site_or_of_no_study_are_refused(desk: Desk) -> None:
    desk.put(seed.study(1, NOW, 100, "assessed"))
    assert desk.mark(9).status_code == 404 and desk.client.post("/studies/1.2.3/read").status_code == 404
    assert desk.mark(9, "unread").status_code == 404
    foreign = desk.client.post(f"/studies/{uid(1)}/read", headers={"Sec-Fetch-Site": "cross-site"})
    assert foreign.status_code == 403 and desk.listed() == [uid(1)]
    assert desk.client.get("/?shown=everything").status_code == 422


def test_without_a_cap_in_the_settings_nothing_is_said_of_it(tmp_path: Path, desk: Desk) -> None:
    app = create_app(desk.database, Metrics(), lambda: NOW, WebStyle(order=NO_CAP), tuple, tmp_path)
    with asked(app) as client:
        text = client.get("/").text
    assert "No wait puts" not in text and "counts as urgent" not in text
