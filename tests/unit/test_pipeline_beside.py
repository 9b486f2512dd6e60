"""What is done beside a look: once, in the context of its maker, and ended when that goes on."""

from __future__ import annotations

import threading
from contextvars import ContextVar

import pytest

from service.pipeline.beside import Beside

HERE = ContextVar("here", default="")


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
