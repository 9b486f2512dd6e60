"""Saved views: each reader's own, without what was searched for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.metrics import Metrics
from service.store.database import Database
from service.store.views import MOST_VIEWS, TooManyViews, delete_view, save_view, views_of
from service.web.app import WebStyle, create_app
from tests.browser.served import asked

NOW = 1_767_400_000.0


@pytest.fixture
def client(database: Database, tmp_path: Path) -> Iterator[httpx.Client]:
    with asked(create_app(database, Metrics(), lambda: NOW, WebStyle(), tuple, tmp_path)) as http:
        yield http


def test_a_view_is_saved_shown_used_and_deleted(client: httpx.Client) -> None:
    answer = client.post("/views", data={"name": "  Night   CT ", "query": "modality=CT&urgency=urgent"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/?modality=CT&urgency=urgent")
    page = client.get(answer.headers["location"]).text
    assert ">Night CT</a>" in page and 'aria-current="true">Night CT' in page
    number = page.split("/views/")[1].split("/delete")[0]
    assert client.post(f"/views/{number}/delete").status_code == 303
    assert "Night CT" not in client.get("/").text
    assert client.post(f"/views/{number}/delete").status_code == 404


@pytest.mark.parametrize("given", [
    {"name": ""}, {"name": "x" * 41}, {"name": "a\x07"}, {"name": "n", "query": "modality=MR"}])
def test_what_is_no_view_is_refused_with_what_is_accepted(client: httpx.Client, given: dict[str, str]) -> None:
    answer = client.post("/views", data=given)
    assert answer.status_code == 422 and "accepted" in answer.text


def test_a_view_keeps_no_text_that_was_searched_for(client: httpx.Client, database: Database) -> None:
    client.post("/views", data={"name": "v", "query": "modality=CT&text=Okafor&theme=light"})
    with database.reading() as session:
        assert [view.query for view in views_of(session, "unknown")] == ["modality=CT"]


def test_a_name_with_markup_is_escaped(client: httpx.Client) -> None:
    client.post("/views", data={"name": "<b>x</b>", "query": ""})
    assert "<b>x</b>" not in client.get("/").text


def test_views_belong_to_their_reader_and_are_not_endless(database: Database) -> None:
    with database.transaction() as session:
        first = save_view(session, "anna", "mine", "modality=CT", NOW)
        save_view(session, "anna", "mine", "modality=DX", NOW)
        session.flush()
        for number in range(MOST_VIEWS - 1):
            save_view(session, "anna", f"v{number}", "", NOW)
        session.flush()
        with pytest.raises(TooManyViews, match="at most 20"):
            save_view(session, "anna", "one more", "", NOW)
        assert views_of(session, "bert") == []
        assert not delete_view(session, "bert", first.id or 0) and delete_view(session, "anna", first.id or 0)
    with database.reading() as session:
        assert [v.name for v in views_of(session, "anna")] == sorted(f"v{n}" for n in range(MOST_VIEWS - 1))
