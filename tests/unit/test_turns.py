"""Looks under way give way to the more urgent ones, between chunks of work and not for ever."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context

import pytest

from service.domain.urgency import Urgency
from service.triage.turns import GaveWay, Pace, PassedOver, Turns
from tests.peers import wait_until

LONG_S = 30.0


@contextmanager
def look_elsewhere(
    turns: Turns, urgency: Urgency, pace: Pace = Pace.WHOLE, due_in_s: float = math.inf,
) -> Iterator[threading.Event]:
    """Have a look under way in another loop until the event is set, or this context ends."""
    begun, end = threading.Event(), threading.Event()

    def look() -> None:
        with turns.taken(urgency, pace=pace, due_in_s=due_in_s):
            begun.set()
            assert end.wait(LONG_S)

    other = threading.Thread(target=look)
    other.start()
    try:
        assert begun.wait(LONG_S)
        yield end
    finally:
        end.set()
        other.join(LONG_S)


def test_outside_of_a_look_and_for_the_most_urgent_there_is_no_waiting() -> None:
    turns = Turns(LONG_S)
    with look_elsewhere(turns, Urgency.ROUTINE), look_elsewhere(turns, Urgency.LOW):
        turns.give_way()
        with turns.taken(Urgency.ROUTINE) as turn:
            turns.give_way()
            with ThreadPoolExecutor(1) as pool:
                pool.submit(copy_context().run, turns.give_way).result(LONG_S)
        assert turn.held_s == 0 and turns.front is not None and turns.front.urgency is Urgency.ROUTINE
    assert turns.front is None


@pytest.mark.parametrize("threads", [1, 3])
def test_every_thread_of_a_look_stands_still_until_the_more_urgent_one_has_ended(threads: int) -> None:
    turns = Turns(LONG_S)
    with (turns.taken(Urgency.ROUTINE) as turn, ThreadPoolExecutor(threads) as pool,
          look_elsewhere(turns, Urgency.URGENT) as end):
        chunks = [pool.submit(copy_context().run, turns.give_way) for _ in range(threads)]
        while turn.standing < threads:
            assert not any(chunk.done() for chunk in chunks)
        assert turns.front is not None and turns.front.urgency is Urgency.URGENT
        end.set()
        for chunk in chunks:
            chunk.result(LONG_S)
    assert turn.held_s > 0 and turn.standing == 0


def test_a_look_stands_still_no_longer_than_allowed_in_all() -> None:
    turns = Turns(0.02)
    with turns.taken(Urgency.LOW) as turn, look_elsewhere(turns, Urgency.STAT):
        turns.give_way()
        stood = turn.held_s
        assert stood >= 0.02
        turns.give_way()
        assert turn.held_s - stood < stood, "what was used up is not given again"


def test_of_equals_the_quick_one_goes_first_and_never_before_a_more_urgent_one() -> None:
    turns = Turns(LONG_S)
    with look_elsewhere(turns, Urgency.ROUTINE, pace=Pace.MOMENT) as end, turns.taken(Urgency.ROUTINE) as turn:
        assert turns.front is not None and turns.front.pace is Pace.MOMENT
        threading.Timer(0.05, end.set).start()
        turns.give_way()
        assert turn.held_s > 0
    with look_elsewhere(turns, Urgency.ROUTINE), turns.taken(Urgency.ROUTINE, pace=Pace.MOMENT) as turn:
        turns.give_way()
        assert turn.held_s == 0
    with look_elsewhere(turns, Urgency.LOW, pace=Pace.MOMENT), turns.taken(Urgency.ROUTINE) as turn:
        turns.give_way()
        assert turn.held_s == 0


def test_a_ct_goes_before_another_until_its_first_look_is_told_and_then_the_one_that_is_due_first() -> None:
    turns = Turns(LONG_S)
    with (look_elsewhere(turns, Urgency.STAT, due_in_s=50) as end,
          turns.taken(Urgency.STAT, pace=Pace.FIRST, due_in_s=60) as turn):
        turns.give_way()
        assert turn.held_s == 0 and turns.front is turn and turns.under_way_of(Urgency.STAT) == 2
        turns.has_told()
        assert turns.front is not turn
        threading.Timer(0.05, end.set).start()
        turns.give_way()
        assert turn.held_s > 0
    with look_elsewhere(turns, Urgency.STAT, due_in_s=60), turns.taken(Urgency.STAT, due_in_s=50) as turn:
        turns.give_way()
        assert turn.held_s == 0
    with look_elsewhere(turns, Urgency.STAT, Pace.MOMENT) as end, turns.taken(Urgency.STAT, pace=Pace.FIRST) as turn:
        threading.Timer(0.05, end.set).start()
        turns.give_way()
        assert turn.held_s > 0, "a radiograph goes before a first look"


def test_a_radiograph_goes_before_the_documents_of_another_and_these_before_a_ct() -> None:
    turns = Turns(LONG_S)
    with look_elsewhere(turns, Urgency.STAT, Pace.MOMENT) as end, turns.taken(Urgency.STAT, pace=Pace.MOMENT) as turn:
        turns.give_way()
        assert turn.held_s == 0, "one of two that take a moment"
        turns.has_told()
        assert turns.front is not turn
        threading.Timer(0.05, end.set).start()
        turns.give_way()
        assert turn.held_s > 0
    with look_elsewhere(turns, Urgency.STAT, Pace.FIRST), turns.taken(Urgency.STAT, pace=Pace.MOMENT) as turn:
        turns.has_told()
        turns.has_told()
        turns.give_way()
        assert turn.held_s == 0 and turns.front is turn


def test_who_waits_for_a_first_look_goes_on_when_it_is_told() -> None:
    turns = Turns(LONG_S)
    told, gone_on = threading.Event(), threading.Event()

    def other() -> None:
        with turns.taken(Urgency.STAT, pace=Pace.FIRST, due_in_s=60):
            told.wait(LONG_S)
            turns.has_told()
            assert gone_on.wait(LONG_S)

    with ThreadPoolExecutor(1) as pool, turns.taken(Urgency.STAT, due_in_s=50) as turn:
        done = pool.submit(other)
        while turns.under_way_of(Urgency.STAT) < 2:
            continue
        threading.Timer(0.05, told.set).start()
        turns.give_way()
        assert turn.held_s > 0
        gone_on.set()
        done.result(LONG_S)


def test_a_look_that_fails_holds_nobody_up() -> None:
    turns = Turns(LONG_S)
    with pytest.raises(ValueError, match="broken"), turns.taken(Urgency.STAT):
        raise ValueError("broken")
    with turns.taken(Urgency.LOW) as turn:
        turns.give_way()
    assert turn.held_s == 0


def test_work_ahead_goes_behind_a_look_of_its_urgency_and_before_a_less_urgent_one() -> None:
    turns = Turns(60.0)
    assert turns.free_ahead(Urgency.ROUTINE)
    with turns.taken(Urgency.ROUTINE):
        assert turns.free_ahead(Urgency.STAT) and not turns.free_ahead(Urgency.ROUTINE)
        assert not turns.free_ahead(Urgency.LOW)
    with turns.taken(Urgency.STAT, ahead=True):
        assert turns.front is None, "a look may be begun beside it"


def test_work_ahead_is_dropped_where_a_look_would_stand_still() -> None:
    turns = Turns(LONG_S)
    with turns.taken(Urgency.ROUTINE, ahead=True):
        turns.give_way()
        with look_elsewhere(turns, Urgency.LOW):
            turns.give_way()
        with look_elsewhere(turns, Urgency.ROUTINE), pytest.raises(GaveWay):
            turns.give_way()


def test_near_its_end_work_ahead_is_not_dropped_and_a_look_still_gives_way() -> None:
    turns = Turns(0.05)
    with turns.taken(Urgency.ROUTINE, ahead=True), look_elsewhere(turns, Urgency.STAT):
        turns.pause()
    turns.pause()
    with turns.taken(Urgency.ROUTINE, lets_go=True), look_elsewhere(turns, Urgency.STAT), pytest.raises(PassedOver):
        turns.pause()


def test_less_urgent_look_stands_still_for_work_ahead_that_is_more_urgent() -> None:
    turns, passed = Turns(LONG_S), threading.Event()

    def look() -> None:
        with turns.taken(Urgency.ROUTINE):
            turns.give_way()
            passed.set()

    with turns.taken(Urgency.STAT, ahead=True):
        routine = threading.Thread(target=look)
        routine.start()
        wait_until(lambda: any(turn.standing for turn in turns.under_way))
        assert not passed.is_set()
    routine.join(LONG_S)
    assert passed.is_set()


def test_a_look_behind_all_others_lets_go_rather_than_go_on_beside_one() -> None:
    turns = Turns(0.05)
    with turns.taken(None, lets_go=True):
        turns.give_way()
    with look_elsewhere(turns, Urgency.LOW), turns.taken(None, lets_go=True) as turn:
        with pytest.raises(PassedOver):
            turns.give_way()
        assert turn.held_s >= 0.05
    with look_elsewhere(turns, Urgency.LOW), turns.taken(None):
        turns.give_way()
