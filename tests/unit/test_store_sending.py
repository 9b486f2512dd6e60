"""A listener tells all who judge studies of which it is being sent images."""

from __future__ import annotations

from sqlmodel import select

from service.store.database import Database
from service.store.sending import Sending
from service.store.tables import SendingNow


class Clock:
    """A clock that the test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_what_is_sent_to_one_listener_is_open_for_all_until_it_ends_or_is_lost(database: Database) -> None:
    clock, mine = Clock(), {"1.2"}
    listener = Sending(database, "a:1:1", clock, lambda: frozenset(mine))
    other = Sending(database, "b:1:1", clock, lambda: frozenset({"1.9"}))
    listener.tell()
    other.tell()
    worker = Sending(database, "c:1:1", clock, frozenset)
    assert worker.open_studies() == {"1.2", "1.9"} and listener.open_studies() == {"1.2", "1.9"}
    mine.add("1.3")
    listener.tell()
    clock.now += 1
    assert worker.open_studies() == {"1.2", "1.3", "1.9"}
    mine.clear()
    listener.tell()
    clock.now += 1
    assert worker.open_studies() == {"1.9"}
    for _ in range(4):
        clock.now += 4
        other.tell()
        assert worker.open_studies() == {"1.9"}
    clock.now += 11  # it is lost, and can say no more
    assert worker.open_studies() == frozenset()


def test_nothing_is_written_while_nothing_changes_and_a_clock_put_back_leaves_nothing_open(database: Database) -> None:
    clock = Clock()
    listener = Sending(database, "a:1:1", clock, lambda: frozenset({"1.2"}))
    for _ in range(3):
        listener.tell()
        clock.now += 0.1
    with database.reading() as session:
        assert [row.until_at for row in session.exec(select(SendingNow)).all()] == [1010.0]
    clock.now -= 3600
    assert Sending(database, "c:1:1", clock, frozenset).open_studies() == frozenset()
    listener.tell()
    clock.now += 1
    assert Sending(database, "c:1:1", clock, frozenset).open_studies() == {"1.2"}
