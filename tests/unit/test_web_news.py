"""News as they happen: who listens is told of each change, and of nothing else."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.metrics import Metrics
from service.store.database import Database
from service.store.marks import mark_read, mark_unread
from service.store.pulse import pulse
from service.store.tables import Study
from service.web.app import WebStyle, create_app
from tests.browser import seed
from tests.browser.served import asked

NOW = 1_767_400_000.0


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'news.db'}")
    database.migrate()
    seed.fill(database, NOW, tmp_path / "results")
    yield database
    database.close()


def _pulse(database: Database) -> tuple[object, ...]:
    with database.reading() as session:
        return pulse(session, NOW - 86400)


def test_whatever_the_list_shows_changes_what_stands_for_it(database: Database) -> None:
    uid, seen = str(seed.builders.uid(1, 1)), {_pulse(database)}
    assert _pulse(database) in seen

    def changed(**given: object) -> None:
        with database.transaction() as session:
            study = session.get_one(Study, 1)
            for name, value in given.items():
                setattr(study, name, value)
            session.add(study)
        now = _pulse(database)
        assert now not in seen, given
        seen.add(now)

    for given in ({"state": "failed"}, {"delivery": "parked"}, {"reading_rank": 0}, {"last_received_at": NOW + 1},
                  {"revision": 9}, {"assessed_at": NOW + 2}, {"completed_at": NOW + 3}):
        changed(**given)
    for act in (lambda s: mark_read(s, uid, NOW, "anna"), lambda s: mark_unread(s, uid, NOW, "anna")):
        with database.transaction() as session:
            act(session)
        now = _pulse(database)
        assert now not in seen
        seen.add(now)


def test_who_listens_is_told_at_once_and_again_when_a_study_comes(database: Database, tmp_path: Path) -> None:
    app = create_app(database, Metrics(), lambda: NOW, WebStyle(), tuple, tmp_path)
    with asked(app) as http, http.stream("GET", "/news") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        told = (line for line in answer.iter_lines() if line.startswith("data: "))
        first = next(told)
        with database.transaction() as session:
            session.add(seed.study(90, NOW, 5, "queued"))
        assert next(told) != first


def test_a_server_that_ends_lets_nobody_wait(database: Database, tmp_path: Path) -> None:
    ending = threading.Event()
    app = create_app(database, Metrics(), lambda: NOW, WebStyle(), tuple, tmp_path, stopping=ending.is_set)
    with asked(app) as http, http.stream("GET", "/news") as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith("retry")
        ending.set()
        assert len(list(lines)) < 20, "the stream has an end"


def test_news_are_for_those_who_may_see_the_pages(database: Database, tmp_path: Path) -> None:
    app = create_app(database, Metrics(), lambda: NOW, WebStyle(access_token="t0ken"), tuple, tmp_path)
    with asked(app) as http:
        assert http.get("/news").status_code == 401

