"""A first look is marked as such wherever it is shown, and a flag says which model raised it, how sure it was, and when."""

from __future__ import annotations

from service.domain.flag import FIRST_LOOK
from service.domain.job import StudyState
from service.domain.order import NO_CAP
from service.store.worklist import StudyPage, entry_of
from service.web.detail import as_json, detail
from service.web.reader import WebStyle
from service.web.rows import row
from tests.browser import seed

NOW = 1_767_400_000.0
FLAG = {"finding": "infection", "probability": 0.83, "threshold": 0.67, "urgency": "urgent", "bundle": "ct-lung-infection",
        "version": "0.2.0", "raised_at": NOW - 60, "raised_by": "first"}


def looked(pending: bool, came: str = "", **more: object) -> StudyPage:
    first = more | {"pending": pending, "at": NOW - 60, "slices": 50, "of": 300, "findings": {"infection": 0.79},
                    "digest": "a"}
    summary = seed.summary(seed.finding("infection", 0.83, 0.67, urgency="urgent"), ct=True) | {
        "flags": [FLAG], FIRST_LOOK: first | ({"came": came} if came else {})}
    state = StudyState.RECEIVING if pending else StudyState.ASSESSED
    study = seed.study(1, NOW, 100, state.value, reading="urgent", flag="infection 83% (first look)", summary=summary)
    return StudyPage(study, None, (), (), (), (), {})


def test_worklist_marks_a_first_look_and_not_the_full_one() -> None:
    early, full = looked(pending=True).study, looked(pending=False, came="confirmed").study
    assert row(entry_of(early, None, NOW, NO_CAP), NOW, "full").ai.more == "first look, 50 of 300 slices"
    assert "first look" in row(entry_of(early, None, NOW, NO_CAP), NOW, "full").why
    assert row(entry_of(full, None, NOW, NO_CAP), NOW, "full").ai.more == ""


def test_what_the_full_look_tells_before_its_documents_is_not_marked_as_a_first_look() -> None:
    page = looked(pending=True, whole=True)
    page.study.state, page.study.flag = StudyState.INFERRING, "infection 83%"
    shown = row(entry_of(page.study, None, NOW, NO_CAP), NOW, "full")
    assert (shown.ai.more, shown.state.text) == ("documents follow", "Report is being made")
    assert "First look" not in dict(detail(page, NOW, WebStyle(patient_names="full"), frozenset()).facts)
    page.study.state = StudyState.FAILED
    assert row(entry_of(page.study, None, NOW, NO_CAP), NOW, "full").ai.more == "its documents could not be made"
    page = looked(pending=True, slices=1, of=1, whole=False)
    page.study.kind = "cxr"
    assert row(entry_of(page.study, None, NOW, NO_CAP), NOW, "full").ai.more == "first look, 50 of 300 images"


def test_study_page_says_what_the_first_look_said_and_what_the_full_one_made_of_it() -> None:
    early, full = (dict(detail(page, NOW, WebStyle(patient_names="full"), frozenset()).facts) for page in (
        looked(pending=True), looked(pending=False, came="withdrawn")))
    assert early["First look"].endswith("50 of 300 slices: infection 0.79; the full look has not ended")
    assert full["First look"].endswith("withdrawn by the full look")
    assert "infection 0.83 (threshold 0.67), ct-lung-infection 0.2.0, raised " in full["Flag"]
    assert full["Flag"].endswith("by the first look")


def test_api_gives_each_flag_with_all_that_it_carries() -> None:
    said = as_json(entry_of(looked(pending=True).study, None, NOW, NO_CAP), "hidden")
    assert said["result"]["flags"] == [FLAG] and said["result"][FIRST_LOOK]["pending"] is True
