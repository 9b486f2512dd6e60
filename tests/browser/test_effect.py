"""The page /effect and the simulation's report in Chromium: readable in both themes, nothing cut off, nothing fetched."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser

from service import DISCLAIMER
from service.domain.urgency import Urgency
from service.metrics import Metrics
from service.simulate.as_json import as_json
from service.simulate.department import Detector, example_department
from service.simulate.effect import Effect, Length, simulate
from service.simulate.report import report
from service.store.database import Database
from service.store.tables import Job
from service.web.app import WebStyle, create_app
from tests.browser import seed
from tests.browser.chromium import Tab, new_tab
from tests.browser.served import served
from tests.browser.test_pages import CONTRAST

pytestmark = pytest.mark.peer
FITS = "document.documentElement.scrollWidth <= innerWidth"


@pytest.fixture
def tab(chromium: Browser) -> Iterator[Tab]:
    with new_tab(chromium) as opened:
        yield opened


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = Path(os.environ.get("FIRSTLOOK_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def effect() -> Effect:
    detector = Detector("cxr-pattern", "pneumonia", 0.9, 0.9, Urgency.URGENT, "measured out of fold on 10 with it")
    return simulate(example_department().with_detectors({"cxr": (detector,)}), Length(4, 1, 1), seed=1)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_report_is_readable_and_whole_and_fetches_nothing(
    tab: Tab, effect: Effect, tmp_path: Path, pictures: Path, theme: Literal["dark", "light"],
) -> None:
    file = tmp_path / "effect.html"
    file.write_text(report(effect, DISCLAIMER), encoding="utf-8")
    tab.prefer(theme)
    tab.open(file.as_uri())
    assert tab.ask(CONTRAST) == [] and tab.ask(FITS)
    assert tab.ask("getComputedStyle(document.body).backgroundColor == 'rgb(255, 255, 255)'") is (theme == "light")
    assert tab.ask("performance.getEntriesByType('resource').length") == 0
    marks = tab.ask("[...document.querySelectorAll('svg[role=img]')].map(s => s.getBoundingClientRect().height > 100)")
    assert marks == [True] * 5
    beyond = ("[...document.querySelectorAll('svg[role=img] text')].filter(t => { const b = t.getBoundingClientRect(), "
              "s = t.closest('svg').getBoundingClientRect(); return b.right > s.right + 1 || b.left < s.left - 1; }).length")
    assert tab.ask(beyond) == 0
    tab.size(1280, int(tab.ask("document.documentElement.scrollHeight")))
    tab.photograph(pictures / f"report-{theme}.png")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_is_readable_in_both_themes(
    tab: Tab, effect: Effect, tmp_path: Path, pictures: Path, theme: str,
) -> None:
    database, now, file = Database(f"sqlite:///{tmp_path / 'effect.db'}"), time.time(), tmp_path / "expectation.json"
    database.migrate()
    file.write_text(json.dumps({"made_at": now, "command": "firstlook simulate", **as_json(effect)}))
    with database.transaction() as session:
        row = seed.study(1, now, 100, "assessed", kind="cxr", last_received_at=now - 90, assessed_at=now - 80)
        session.add(row)
        session.flush()
        session.add(Job(key="1", kind="infer", study_id=row.id or 0, revision=1, urgency="routine", state="done",
                        queued_at=now - 89, started_at=now - 88, deadline_at=now))
    app = create_app(database, Metrics(), time.time, WebStyle(expectation=file), tuple, tmp_path)
    with served(app) as address:
        tab.open(f"{address}/effect?theme={theme}")
        assert tab.ask(CONTRAST) == [] and tab.ask(FITS)
        assert tab.ask("document.querySelectorAll('tbody tr').length") > 15
        tab.photograph(pictures / f"effect-{theme}.png")
    database.close()
