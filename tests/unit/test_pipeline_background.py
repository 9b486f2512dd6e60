"""Threads of a look: what is done beside it, and what runs behind all else."""

from __future__ import annotations

import os
import sys
import threading
from contextvars import ContextVar

import pytest

from service.infer.guard import Guard
from service.pipeline.background import Beside, in_background, stepped_back

HERE = ContextVar("here", default="")
linux = pytest.mark.skipif(sys.platform != "linux", reason="only there a thread has a priority of its own")


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, 0)


@linux
def test_what_runs_in_the_background_has_stepped_back_with_all_it_starts_and_the_caller_has_not() -> None:
    before = niceness()
    assert in_background(lambda: (niceness(), in_background(niceness))) == (max(before, 10), max(before, 10))
    assert niceness() == before


def test_the_background_has_the_callers_context_and_its_errors_come_back() -> None:
    HERE.set("caller")
    assert in_background(HERE.get) == "caller"
    with pytest.raises(KeyError, match="gone"):
        in_background(lambda: {}["gone"])


@linux
def test_a_loop_steps_back_before_its_first_step() -> None:
    found: list[int] = []
    step = stepped_back(lambda: found.append(niceness()) or True)
    loop = threading.Thread(target=lambda: (step(), step()))
    loop.start()
    loop.join()
    assert found == [max(10, niceness())] * 2


@linux
def test_a_guarded_run_is_as_nice_as_its_caller_whoever_was_served_before() -> None:
    guard, before = Guard(30.0), niceness()
    for _ in range(2):
        assert in_background(lambda: guard.run(niceness, lambda: None)) == max(before, 10)
        assert guard.run(niceness, lambda: None) == before


def test_what_is_done_beside_is_done_once_from_when_it_is_begun() -> None:
    done: list[str] = []
    with Beside(lambda: done.append(HERE.get()) or len(done)) as one:
        assert not done
        one.begin()
        assert one.begin().result() == one.result() == 1
    assert len(done) == 1


def test_what_was_begun_beside_has_ended_on_leaving_and_its_error_comes_where_its_result_is_asked_for() -> None:
    go = threading.Event()
    with Beside(lambda: go.wait(10)) as one:
        one.begin()
        go.set()
    assert one.result() is True
    with Beside(lambda: {}["gone"]) as broken:
        broken.begin()
    with pytest.raises(KeyError):
        broken.result()
