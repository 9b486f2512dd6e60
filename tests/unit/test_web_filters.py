"""Filters and search of the worklist: what they let through, and that no name gets into an address."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.metrics import Metrics
from service.store.database import Database
from service.store.tables import Study
from service.web.app import WebStyle, create_app
from tests.browser import seed
from tests.browser.served import asked

NOW = 1_767_400_000.0


class Desk:
    """A seeded store and its pages over HTTP."""

    def __init__(self, folder: Path) -> None:
        self.database, self.folder = Database(f"sqlite:///{folder / 'filters.db'}"), folder
        self.database.migrate()
        self.studies = seed.fill(self.database, NOW, folder / "results")
        self.client: httpx.Client

    def listed(self, query: str) -> list[int]:
        answer = self.client.get(f"/api/worklist?{query}")
        assert answer.status_code == 200, answer.text
        return [int(study["study_instance_uid"].split(".")[-2]) for study in answer.json()["studies"]]

    def found(self, text: str, query: str = "") -> list[int]:
        page = self.client.post(f"/rows?{query}", data={"text": text})
        assert page.status_code == 200, page.text
        return [int(uid.split(".")[-2]) for uid in re.findall(r'<tr data-uid="([^"]+)"', page.text)]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    app = create_app(desk.database, Metrics(), lambda: NOW, WebStyle(), tuple, tmp_path / "results")
    with asked(app) as desk.client:
        yield desk
    desk.database.close()


@pytest.mark.parametrize(("query", "numbers"), [
    ("state=queued", [9, 10]), ("state=not_assessed", [7, 8]), ("urgency=stat", [1, 2]), ("urgency=low", [12]),
    ("modality=CR", [1]), ("modality=DX", [5, 6, 8, 10]), ("finding=covid_pneumonia", [3]), ("finding=pneumonia", [1]),
    ("age=child", [9]), ("age=older", [2]), ("hours=4&state=receiving", [11, 12]), ("urgency=urgent&modality=CT", [3, 4]),
    ("shown=read", []), ("finding=no_such_thing", []),
    ("", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])])
def test_each_filter_lets_through_what_it_names_in_the_order_of_the_list(desk: Desk, query: str, numbers: list[int]) -> None:
    assert sorted(desk.listed(query)) == numbers
    assert desk.listed(query) == [n for n in desk.listed("") if n in numbers]


def test_a_study_of_several_modalities_is_found_under_each(desk: Desk) -> None:
    with desk.database.transaction() as session:
        session.get_one(Study, desk.studies[0].id).modality = "CR/CT"
    assert 1 in desk.listed("modality=CR") and 1 in desk.listed("modality=CT") and 1 not in desk.listed("modality=DX")


def test_the_hours_reach_further_back_than_the_page_does(desk: Desk) -> None:
    with desk.database.transaction() as session:
        session.add(seed.study(50, NOW, 5 * 86400, "assessed", completed_at=NOW - 5 * 86400 + 100))
    assert 50 not in desk.listed("") and 50 in desk.listed("hours=168")


@pytest.mark.parametrize(("text", "numbers"), [
    ("lindqvist", [2]), ("ÅSA", [2]), ("åsa lindqvist", [2]), ("acc-26003", [3]), ("P000004", [4]), ("portable icu", [1]),
    ("chest lateral", [6, 8]), ("lateral rossi", []), ("宏", [3]), ("100%", []), ("_", []), ("'; DROP TABLE study; --", []),
    ("<script>", [6]), ("", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])])
def test_a_search_finds_every_word_in_any_case_and_letter(desk: Desk, text: str, numbers: list[int]) -> None:
    assert sorted(desk.found(text)) == numbers


def test_a_search_and_a_filter_narrow_together(desk: Desk) -> None:
    assert desk.found("chest lateral", "state=not_assessed") == [8]


@pytest.mark.parametrize("how", ["initials", "hidden"])
def test_patients_that_are_not_shown_are_not_searched_either(desk: Desk, how: str) -> None:
    app = create_app(desk.database, Metrics(), lambda: NOW, WebStyle(patient_names=how), tuple, desk.folder)
    with asked(app) as desk.client:
        assert desk.found("lindqvist") == [] and desk.found("P000004") == []
        assert desk.found("acc-26003") == [3]
        page = desk.client.get("/?age=child").text
    assert ('name="age"' in page) is (how == "initials")
    assert (page.count("<tr data-uid") == 12) is (how == "hidden"), "an age that is not shown does not narrow either"


def test_no_address_of_the_page_holds_what_was_searched_for(desk: Desk) -> None:
    page = desk.client.post("/?state=assessed", data={"text": "Tanaka"})
    assert page.status_code == 200 and 'value="Tanaka"' in page.text
    addresses = re.findall(r'(?:href|src|action|formaction|data-base)="([^"]*)"', page.text)
    assert addresses and not any("anaka" in address for address in addresses)
    assert 'action="/?state=assessed"' in page.text
    assert desk.listed("text=Tanaka") == desk.listed(""), "a text in the address is not looked at"


@pytest.mark.parametrize(("query", "said"), [
    ("state=broken", "state: accepted: receiving, queued"), ("urgency=1", "urgency: accepted: stat, urgent"),
    ("modality=MR", "modality: accepted: CT, CR, DX"), ("shown=some", "shown: accepted: open, read, all"),
    ("hours=5", "hours: accepted: 4, 24, 168, 720"), ("age=4", "age: accepted: child"),
    ("finding=a%25b", "finding: accepted"), ("finding=" + "a" * 65, "finding: accepted")])
def test_a_choice_that_does_not_exist_is_refused_with_what_is_accepted(desk: Desk, query: str, said: str) -> None:
    for path in ("/", "/rows", "/api/worklist"):
        answer = desk.client.get(f"{path}?{query}")
        assert answer.status_code == 422 and said in answer.text, path
        assert path.startswith("/api") or "Research use only" in answer.text


def test_a_search_that_is_too_long_or_no_text_is_refused(desk: Desk) -> None:
    for text in ("x" * 101, "a\x00b"):
        assert desk.client.post("/rows", data={"text": text}).status_code == 422
    assert desk.client.post("/", data={"text": "x" * 70_000}).status_code == 413


def test_the_form_offers_what_was_found_and_marks_what_is_chosen(desk: Desk) -> None:
    page = desk.client.get("/?finding=covid_pneumonia&hours=24").text
    assert '<option value="covid_pneumonia" selected>COVID pneumonia</option>' in page
    assert '<option value="pneumonia">Pneumonia</option>' in page and '<option value="24" selected>1 d</option>' in page
    assert "no_finding" not in page
    assert "No study of the last 48 hours is as you chose" in desk.client.get("/?urgency=low&state=failed").text
