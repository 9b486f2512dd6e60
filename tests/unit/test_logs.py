"""Log lines: JSON, with the ids of the work under way, and without the text of an error."""

from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Iterator

import pytest

from service import logs
from service.errors import FirstlookError
from service.worker import attempt


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    root, stream = logging.getLogger(), io.StringIO()
    before = root.handlers[:]
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.JsonFormatter())
    root.handlers[:] = [handler]
    yield stream
    root.handlers[:] = before


def read(lines: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in lines.getvalue().splitlines()]


def test_every_line_of_work_on_a_study_names_it_whoever_writes_it(lines: io.StringIO) -> None:
    def work() -> None:
        logs.get("one").warning("deep inside")
        with logs.about(stage="infer", study=""):
            logs.get("two").warning("deeper", extra={"kind": "shadow"})
        logging.getLogger("a.library").warning("elsewhere")

    attempt(work, lambda error: None, study="1.2.3", job=7, kind="infer", target="")
    logs.get("one").warning("after it")
    said = read(lines)
    assert [line.get("study") for line in said] == ["1.2.3", "1.2.3", "1.2.3", None]
    assert [(line.get("job"), line.get("kind"), line.get("stage")) for line in said] == [
        (7, "infer", None), (7, "shadow", "infer"), (7, "infer", None), (None, None, None)]
    assert "target" not in said[0]


def test_other_threads_have_ids_of_their_own(lines: io.StringIO) -> None:
    def other() -> None:
        with logs.about(study="9"):
            logs.get("x").warning("other")

    with logs.about(study="1"):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        logs.get("x").warning("mine")
    assert [line["study"] for line in read(lines)] == ["9", "1"]


def test_a_defect_is_logged_by_its_place_and_not_by_its_text(lines: io.StringIO) -> None:
    failed: list[FirstlookError] = []

    def broken() -> None:
        raise ValueError("Doe^Jane")

    attempt(broken, failed.append, study="1.2.3")
    (line,) = read(lines)
    assert line["error"] == "ValueError" and line["study"] == "1.2.3" and "broken" in str(line["where"])
    assert "Doe" not in lines.getvalue() and failed[0].detail == "ValueError"
