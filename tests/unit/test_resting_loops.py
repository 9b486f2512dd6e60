"""Loops rest while nothing has changed: what differs, how long they rest, and what wakes them."""

from __future__ import annotations

import sqlite3
from types import SimpleNamespace
from typing import Any

import pytest

from service.store.database import Database
from service.store.tables import Event, Study
from service.worker import assemble_step, when_changed


def add(database: Database) -> None:
    with database.transaction() as session:
        session.add(Study(study_instance_uid="1.2", state="receiving", first_received_at=0.0, last_received_at=0.0))
        session.flush()
        session.add(Event(study_id=1, at=0.0, stage="receive", text=""))


def test_a_commit_changes_the_number_and_reading_does_not(database: Database) -> None:
    before = database.changes()
    with database.reading() as session:
        assert session.get(Study, 1) is None
    assert before is not None and database.changes() == before
    add(database)
    after = database.changes()
    assert after != before and database.changes() == after


def test_what_is_undone_changes_nothing(database: Database) -> None:
    before = database.changes()
    with pytest.raises(KeyError), database.transaction() as session:
        session.add(Study(study_instance_uid="1.3", state="receiving", first_received_at=0.0, last_received_at=0.0))
        session.flush()
        raise KeyError
    assert database.changes() == before


def test_commits_of_rows_that_can_be_rebuilt_and_of_other_processes_count(database: Database) -> None:
    add(database)
    before = database.changes()
    with database.rebuildable() as connection:
        connection.exec_driver_sql("UPDATE event SET text = 'x'")
    then = database.changes()
    assert then != before
    other = sqlite3.connect(str(database.engine.url.database))
    other.execute("UPDATE event SET text = 'y'")
    other.commit()
    other.close()
    assert database.changes() != then


def test_of_a_database_in_memory_nobody_knows() -> None:
    database = Database("sqlite://")
    assert database.changes() is None
    database.close()


def test_a_step_rests_while_nothing_changes_and_for_a_second_at_most() -> None:
    now, number, asked, found = [100.0], [7], list[float](), [False]

    def step() -> bool:
        asked.append(now[0])
        return found[0]

    gated = when_changed(step, lambda: number[0], lambda: now[0])
    gated()
    for now[0] in (100.1, 100.9):
        assert gated() is False
    assert asked == [100.0]
    now[0] = 101.0
    gated()
    number[0] = 8
    gated()
    assert asked == [100.0, 101.0, 101.0]
    number[0], found[0] = 9, True
    assert gated() is True and gated() is True  # there was something to do: it looks again at once
    assert len(asked) == 5


def test_what_changes_during_a_step_or_goes_wrong_in_it_is_looked_at_again() -> None:
    number, asked = [1], list[int]()

    def step() -> bool:
        asked.append(number[0])
        if len(asked) == 1:
            number[0] = 2
        if len(asked) == 3:
            raise KeyError
        return False

    gated = when_changed(step, lambda: number[0], lambda: 0.0)
    gated()
    gated()
    assert asked == [1, 2]
    gated()
    assert asked == [1, 2]
    number[0] = 3
    with pytest.raises(KeyError):
        gated()
    gated()
    assert asked == [1, 2, 3, 3]


def test_where_nobody_knows_every_step_is_done() -> None:
    asked = list[int]()
    gated = when_changed(lambda: bool(asked.append(1)), lambda: None, lambda: 0.0)
    gated()
    gated()
    assert len(asked) == 2


def test_studies_are_judged_in_order_and_from_the_first_again_after_each_that_was_admitted() -> None:
    judged = list[int]()
    studies = [SimpleNamespace(id=k, study_instance_uid=f"1.{k}", last_received_at=float(k)) for k in (3, 2, 1)]

    def advance(study: Any) -> bool:
        judged.append(study.id)
        return study.id == 2 and judged.count(2) == 1

    assembler: Any = SimpleNamespace(open=lambda: studies, advance=advance, forget=lambda: 0)
    line: Any = SimpleNamespace(clock=lambda: 0.0)
    step = assemble_step(line, assembler)
    assert step() and judged == [3, 2]
    assert not step() and judged == [3, 2, 3, 2, 1]
