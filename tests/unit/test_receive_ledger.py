"""What the open associations are bringing."""

from __future__ import annotations

import threading

from service.receive.ledger import Closed, Ledger


def test_a_study_is_open_while_any_association_that_touched_it_is():
    ledger = Ledger()
    for association in ("a", "b"):
        ledger.open(association, "CT1")
        ledger.touch(association, "1.2")
    ledger.close("a")
    assert ledger.open_studies() == {"1.2"}
    ledger.close("b")
    assert ledger.open_studies() == frozenset()


def test_closing_tells_what_came_once():
    ledger = Ledger()
    ledger.open("a", "CT1")
    for uid, outcome in (("1.2", "stored"), ("1.2", "stored"), ("1.3", "duplicate")):
        ledger.count("a", uid, outcome)
    closed = ledger.close("a")
    assert closed is not None and closed.since > 0
    assert closed == Closed("CT1", {"1.2": {"stored": 2}, "1.3": {"duplicate": 1}}, closed.since)
    assert ledger.close("a") is None


def test_an_association_that_was_never_accepted_leaves_no_mark():
    ledger = Ledger()
    ledger.touch("x", "1.2")
    ledger.count("x", "1.2", "stored")
    ledger.begin_store("x")
    assert ledger.open_studies() == frozenset()
    assert ledger.close("x") is None


def test_waiting_for_idle_ends_with_the_answer_and_not_before():
    ledger = Ledger()
    ledger.open("a", "CT1")
    ledger.begin_store("a")
    assert not ledger.wait_until_idle("a", 0.01)
    waited: list[bool] = []
    waiter = threading.Thread(target=lambda: waited.append(ledger.wait_until_idle("a", 10)))
    waiter.start()
    ledger.end_store("a")
    waiter.join(10)
    assert waited == [True]


def test_waiting_for_empty_ends_with_the_last_association():
    ledger = Ledger()
    ledger.open("a", "CT1")
    assert not ledger.wait_until_empty(0.01)
    ledger.close("a")
    assert ledger.wait_until_empty(0.01)
