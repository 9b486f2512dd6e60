"""What is done beside a look; and guarded runs that are nice to others."""

from __future__ import annotations

import os
import sys
import threading
from contextvars import ContextVar

import pytest

from service.infer.guard import Guard
from service.pipeline.beside import Beside

HERE = ContextVar("here", default="")


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="only there a thread has a priority of its own")
def test_runs_of_a_nice_guard_step_back_and_neither_the_caller_nor_other_guards_do() -> None:
    nice, plain, before = Guard(30.0, niceness=10), Guard(30.0), niceness()
    for _ in range(2):
        assert nice.run(niceness, lambda: None) == max(before, 10)
        assert plain.run(niceness, lambda: None) == niceness() == before


def test_what_is_done_beside_is_done_once_from_when_it_is_begun_in_the_context_of_its_maker() -> None:
    done: list[str] = []
    HERE.set("maker")
    with Beside(lambda: done.append(HERE.get()) or len(done)) as one:
        assert not done
        one.begin()
        assert one.begin().result() == one.result() == 1
    assert done == ["maker"]


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
