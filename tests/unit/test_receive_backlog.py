"""Rows that follow: all of them, in batches, whatever the database does meanwhile."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import text
from sqlmodel import select

from service.metrics import Metrics
from service.receive.backlog import BATCH, MOST_UNFINISHED, Backlog, Entry
from service.receive.ledger import Ledger
from service.receive.tally import Tally
from service.store.database import Database
from service.store.intake import Arrival, Intake, Outcome
from service.store.tables import Instance
from tests.peers import wait_until
from tests.unit.test_receive_intake import HEADER


@pytest.fixture
def settled() -> list[Outcome]:
    return []


@pytest.fixture
def backlog(database: Database, settled: list[Outcome]) -> Backlog:
    return Backlog(Intake(database, lambda: 1000.0), lambda entry, outcome: settled.append(outcome))


def entry(number: int, study: str = "1.2.3", sha256: str = "aa", path: str = "") -> Entry:
    header = replace(HEADER, sop_instance_uid=f"1.2.3.{number}", study_instance_uid=study)
    return Entry(Arrival(header, sha256, 7, path or f"ab/{number}.dcm", "MOD", 900.0 + number),
                 Tally("association", Ledger(), Metrics()))


def add(backlog: Backlog, one: Entry, here: bool = False) -> None:
    backlog.add(lambda: one, here)


def rows(database: Database) -> list[Instance]:
    with database.reading() as session:
        return list(session.exec(select(Instance).order_by(Instance.id)))


def execute(database: Database, statement: str) -> None:
    with database.transaction() as session:
        session.connection().execute(text(statement))


def test_what_is_added_waits_until_it_is_written(database: Database, backlog: Backlog, settled: list[Outcome]):
    for number in range(3):
        add(backlog, entry(number))
    assert rows(database) == []
    backlog.write()
    assert [(row.path, row.received_at, row.calling_aet) for row in rows(database)] == [
        ("ab/0.dcm", 900.0, "MOD"), ("ab/1.dcm", 901.0, "MOD"), ("ab/2.dcm", 902.0, "MOD")]
    assert settled == [Outcome.STORED] * 3


def test_a_full_batch_is_written_at_once(database: Database, backlog: Backlog, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("service.receive.backlog.LONGEST_S", 3600.0)
    backlog.start()
    for number in range(BATCH):
        add(backlog, entry(number))
    wait_until(lambda: len(rows(database)) == BATCH)
    backlog.stop()


def test_what_the_other_thread_is_too_late_for_is_done_by_who_adds_it(database: Database, backlog: Backlog):
    done = []
    for number in range(MOST_UNFINISHED + 1):
        backlog.add(lambda number=number: done.append(number))
        assert done == ([] if number < MOST_UNFINISHED else [MOST_UNFINISHED])
    backlog.write()
    assert sorted(done) == list(range(MOST_UNFINISHED + 1))
    assert rows(database) == [], "None: no entry"


def test_what_nobody_writes_is_written_soon(database: Database, backlog: Backlog):
    backlog.start()
    add(backlog, entry(1))
    wait_until(lambda: rows(database))
    add(backlog, entry(2))
    wait_until(lambda: len(rows(database)) == 2)
    backlog.stop()


def test_stopping_writes_what_is_left(database: Database, backlog: Backlog):
    backlog.start()
    add(backlog, entry(1))
    backlog.stop()
    assert len(rows(database)) == 1


def test_several_studies_duplicates_and_changed_copies_in_one_batch_are_told_apart(
        database: Database, backlog: Backlog, settled: list[Outcome]):
    brought = [entry(1), entry(2, "1.2.4"), entry(1, path="cd/1.dcm"), entry(3), entry(2, "1.2.4", "bb", "cd/2.dcm")]
    for one in brought:
        add(backlog, one)
    backlog.write()
    assert settled == [Outcome.STORED, Outcome.STORED, Outcome.DUPLICATE, Outcome.STORED, Outcome.CHANGED_DUPLICATE]
    assert [row.path for row in rows(database)] == ["ab/1.dcm", "ab/2.dcm", "ab/3.dcm"]


def test_while_the_database_is_away_everything_waits_and_then_follows(database: Database, backlog: Backlog):
    execute(database, "ALTER TABLE instance RENAME TO away")
    for number in range(3):
        add(backlog, entry(number))
    backlog.write()
    assert backlog.stuck
    execute(database, "ALTER TABLE away RENAME TO instance")
    backlog.write()
    assert not backlog.stuck
    assert sorted(row.path for row in rows(database)) == ["ab/0.dcm", "ab/1.dcm", "ab/2.dcm"]


def add_four(database: Database, backlog: Backlog, refused: str) -> None:
    """Write down four images; the database refuses these paths until the trigger is dropped."""
    execute(database, f"CREATE TRIGGER no BEFORE INSERT ON instance WHEN NEW.path IN ({refused}) "
                      "BEGIN SELECT RAISE(ABORT, 'no'); END")
    for number in range(4):
        add(backlog, entry(number))
    backlog.write()


def test_one_row_that_cannot_be_written_holds_up_no_other(database: Database, backlog: Backlog):
    add_four(database, backlog, refused="'ab/1.dcm'")
    assert sorted(row.path for row in rows(database)) == ["ab/0.dcm", "ab/2.dcm", "ab/3.dcm"]
    assert backlog.stuck
    execute(database, "DROP TRIGGER no")
    backlog.write()
    assert len(rows(database)) == 4


def test_rows_that_cannot_be_written_do_not_stay_before_the_others(database: Database, backlog: Backlog):
    add_four(database, backlog, refused="'ab/0.dcm', 'ab/1.dcm'")
    assert rows(database) == [], "after two failures the database may be away"
    backlog.write()
    assert [row.path for row in rows(database)] == ["ab/2.dcm", "ab/3.dcm"]


def test_what_is_finished_at_once_is_written_soon_and_with_the_rest(database: Database, backlog: Backlog):
    add(backlog, entry(1), here=True)
    add(backlog, entry(2))
    backlog.write()
    assert sorted(row.path for row in rows(database)) == ["ab/1.dcm", "ab/2.dcm"]
    backlog.start()
    for number in (3, 4):
        add(backlog, entry(number), here=True)
        wait_until(lambda number=number: len(rows(database)) == number)
    add(backlog, entry(5), here=True)
    backlog.stop()
    assert len(rows(database)) == 5


def test_who_finishes_faster_than_rows_are_written_writes_them(
        database: Database, backlog: Backlog, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("service.receive.backlog.MOST_FINISHED", 3)
    for number in range(4):
        assert rows(database) == []
        add(backlog, entry(number), here=True)
    assert len(rows(database)) == 4
