"""The order of the reading list and the history on a real PostgreSQL: the same as on SQLite."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from service.domain.order import ReadingOrder
from service.domain.urgency import Urgency
from service.store.database import Database
from service.store.history import passages
from service.store.tables import Job
from service.store.worklist import reading_list
from tests.browser import seed
from tests.unit.test_store_migrations import postgres as postgres

NOW = 1_767_400_000.0


def filled(url: str) -> Database:
    """Return a database with the same sixty studies each time."""
    database, random = Database(url), Random(3)
    database.migrate()
    with database.transaction() as session:
        for number in range(1, 61):
            row = seed.study(number, NOW, random.randrange(0, 7200, 30), "assessed", kind="cxr", assessed_at=NOW,
                             reading=random.choice(list(Urgency)), summary=seed.summary(seed.finding("pneumonia", 0.9)))
            session.add(row)
            session.flush()
            session.add(Job(key=str(number), kind="infer", study_id=row.id or 0, revision=1, urgency="routine",
                            queued_at=NOW - 60, started_at=NOW - 30, deadline_at=NOW, state="done"))
    return database


@pytest.mark.peer
def test_postgresql_orders_and_remembers_as_sqlite_does(postgres: str, tmp_path: Path) -> None:
    there, here = filled(postgres), filled(f"sqlite:///{tmp_path / 'here.db'}")
    listed, seen = [], []
    for database in (there, here):
        with database.reading() as session:
            entries = reading_list(session, 100, NOW, 86400, ReadingOrder(3600))
            listed.append([(e.study.study_instance_uid, e.overdue) for e in entries])
            seen.append(passages(session, NOW - 3600, 100, bundles=True))
        database.close()
    assert listed[0] == listed[1] and len(listed[0]) == 60 and any(overdue for _, overdue in listed[0])
    assert seen[0] == seen[1] and 0 < len(seen[0]) < 60
