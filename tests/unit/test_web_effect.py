"""The page /effect: what was measured beside what was simulated, and what it says when one of them is missing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.domain.urgency import Urgency
from service.metrics import Metrics
from service.simulate.as_json import as_json
from service.simulate.department import Detector, example_department
from service.simulate.effect import Length, simulate
from service.store.database import Database
from service.store.tables import Job
from service.web.app import WebStyle, create_app
from service.web.page import RESEARCH_USE
from tests.browser import seed
from tests.browser.served import asked

NOW = 1_767_400_000.0


class Shown:
    """A store, a place for the simulation, and a client of the pages."""

    def __init__(self, folder: Path, opened: ExitStack) -> None:
        self.database = Database(f"sqlite:///{folder / 'effect.db'}")
        self.database.migrate()
        self.file = folder / "expectation.json"
        app = create_app(self.database, Metrics(), lambda: NOW, WebStyle(expectation=self.file), list, folder)
        self.client: httpx.Client = opened.enter_context(asked(app))

    def put(self, *studies: tuple[str, float, float, float], **given: Any) -> None:
        """Put assessed radiographs from (ordered urgency, queued, begun, result), seconds after their last image."""
        called = seed.summary(seed.finding("pneumonia", 0.9, urgency="urgent", bundle="cxr-pattern"))
        with self.database.transaction() as session:
            for number, (urgency, queued, began, result) in enumerate(studies, 1):
                last = NOW - 5000
                row = seed.study(number, last, 0, "assessed", ordered=urgency, reading=urgency, kind="cxr",
                                 last_received_at=last, assessed_at=last + result,
                                 summary=called)
                for name, value in given.items():
                    setattr(row, name, value)
                session.add(row)
                session.flush()
                session.add(Job(
                    key=str(number), kind="infer", study_id=row.id or 0, revision=1, urgency=urgency, state="done",
                    queued_at=last + queued, started_at=last + began, deadline_at=last))

    def text(self) -> str:
        """Return the words of the page."""
        answer = self.client.get("/effect")
        assert answer.status_code == 200
        return " ".join(re.sub(r"<[^>]*>", " ", answer.text).split())


@pytest.fixture
def shown(tmp_path: Path) -> Iterator[Shown]:
    with ExitStack() as opened:
        page = Shown(tmp_path, opened)
        yield page
        page.database.close()


def published() -> dict[str, Any]:
    detector = Detector("cxr-pattern", "pneumonia", 0.9, 0.9, Urgency.URGENT, "")
    effect = simulate(example_department().with_detectors({"cxr": (detector,)}), Length(3, 1, 1), 1)
    return {"made_at": NOW - 100.0, "command": "firstlook simulate", **as_json(effect)}


def test_without_studies_and_simulation_it_says_so_and_how_to_make_one(shown: Shown) -> None:
    said = shown.text()
    assert "No study of the last 7 days has a result." in said and "No simulation is published yet." in said
    assert "firstlook simulate --department FILE --publish" in said and RESEARCH_USE in said


def test_measured_stands_beside_expected(shown: Shown) -> None:
    result = published()
    shown.file.write_text(json.dumps(result))
    shown.put(("routine", 0, 30, 40), ("routine", 1, 40, 50), ("stat", 2, 10, 20))
    found = shown.client.get("/api/effect").json()
    assert found["notice"] == RESEARCH_USE and found["studies"] == 3 and found["problem"] == ""
    stat, routine = found["notified"]
    assert (stat["urgency"], stat["bundle"], stat["studies"], stat["median_s"]) == ("stat", "cxr-pattern", 1, 20)
    assert (routine["median_s"], routine["p95_s"]) == (45, 49.5)
    (told,) = [r for r in result["notification_s"] if (r["kind"], r["urgency"]) == ("cxr", "routine")]
    assert (routine["expected_s"], routine["expected_p95_s"]) == (told["to_result"], told["to_result_p95"][0])
    assert [(w["urgency"], w["studies"], w["median_s"], w["passed"]) for w in found["waited"]] == [
        ("stat", 1, 8, 2000.0), ("routine", 2, 34.5, 0.0)]
    assert found["waited"][0]["expected_s"] is not None
    said = shown.text()
    assert "cxr stat cxr-pattern 1 20.0 20.0" in said and "stat 1 8.00 8.00" in said
    assert "our order, no cap" in said and "Example: radiographs and CT of the chest" in said
    assert "The service does not see when a study is read" in said


def test_what_is_older_than_a_week_or_still_arrives_is_left_out(shown: Shown) -> None:
    shown.put(("routine", 0, 1, 2), first_received_at=NOW - 8 * 86400)
    with shown.database.transaction() as session:
        session.add(seed.study(50, NOW, 10, "receiving", assessed_at=NOW - 5))
    assert shown.client.get("/api/effect").json()["studies"] == 0


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"made_at": 1.0, "department": {"name": "x"}, "notification_s": [3]}',
                                  '{"made_at": 1.0, "department": {"name": "x"}, "notification_s": [], "waits_min": [{}]}'])
def test_a_simulation_that_cannot_be_read_is_told_and_breaks_nothing(shown: Shown, text: str) -> None:
    shown.file.write_text(text)
    shown.put(("routine", 0, 1, 2))
    assert "The published simulation cannot be read" in shown.text()
    found = shown.client.get("/api/effect").json()
    assert found["expected"] is None and found["notified"][0]["expected_s"] is None


def test_what_a_department_is_called_is_escaped(shown: Shown) -> None:
    result = published()
    result["department"]["name"] = "<script>alert(1)</script>"
    shown.file.write_text(json.dumps(result))
    assert "<script>alert" not in shown.client.get("/effect").text


def test_the_worklist_leads_there(shown: Shown) -> None:
    assert 'href="/effect"' in shown.client.get("/").text
