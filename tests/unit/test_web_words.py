"""What the pages say, in words."""

from __future__ import annotations

import pytest

from service.domain.job import DeliveryState, StudyState
from service.store.tables import Study
from service.web import words
from service.web.rows import ai_words as said_of
from service.web.rows import extent, marks
from tests.browser import seed

NOW = 1_767_400_000.0


def ai_words(study: Study) -> words.Said:
    return said_of(study, marks(study.summary))


@pytest.mark.parametrize(("name", "how", "said"), [
    ("Doe^Jane^Ann^Dr", "full", "Doe, Jane Ann"),
    ("Doe", "full", "Doe"),
    ("^Jane", "full", "Jane"),
    ("=山田^太郎=やまだ^たろう", "full", "山田, 太郎"),
    ("Yamada^Tarou=山田^太郎", "initials", "Y. T."),
    ("", "full", "No name"),
    ("^^^^", "initials", "No name"),
    ("Doe^Jane", "hidden", "Name hidden"),
])
def test_a_person_name_is_written_as_the_settings_say(name: str, how: str, said: str) -> None:
    assert words.person(name, how) == said


@pytest.mark.parametrize(("seconds", "said"), [
    (-5, "0 s"), (59.9, "59 s"), (60, "1 min"), (3599, "59 min"), (3900, "1 h 05 min"), (86400 * 2 + 3600 * 4, "2 d 4 h"),
])
def test_a_wait_has_at_most_two_units(seconds: float, said: str) -> None:
    assert words.duration(seconds) == said


def test_time_after_the_first_image_is_exact() -> None:
    assert [words.elapsed(s) for s in (0, 47.9, 3725)] == ["+0:00", "+0:47", "+1:02:05"]


@pytest.mark.parametrize(("birth", "day", "age"), [
    ("19600103", "20260102", "65 y"), ("19600102", "20260102", "66 y"), ("20251101", "20260102", "2 mo"),
    ("", "20260102", ""), ("nonsense", "20260102", ""), ("20270101", "20260102", ""),
])
def test_the_age_is_that_on_the_day_of_the_study(birth: str, day: str, age: str) -> None:
    study = seed.study(1, NOW, 0, "queued", patient_birth_date=birth, study_date=day, patient_sex="", patient_id="")
    assert words.about_patient(study, "full") == age


def test_a_reason_code_becomes_a_sentence_and_other_text_stays() -> None:
    assert words.sentence("not_axial") == "The CT slices are not axial."
    assert words.sentence("peer_refused: status 0xA900") == "The PACS or other receiver refused it. status 0xA900"
    assert words.sentence("pacs: status 0xA900") == "pacs: status 0xA900"


def test_names_of_findings_keep_their_acronyms() -> None:
    assert words.humanised("covid_pneumonia") == "COVID pneumonia"
    assert words.humanised("ground-glass_opacity") == "Ground glass opacity"


def test_a_raised_study_names_the_finding_and_another_one_its_order() -> None:
    raised = seed.study(1, NOW, 0, "assessed", reading="stat", flag="pneumonia")
    ordered = seed.study(1, NOW, 0, "assessed", reading="stat", ordered="stat", flag="pneumonia",
                         urgency_reason="ordered STAT")
    assert words.why_here(raised) == "raised by AI: pneumonia"
    assert words.why_here(ordered) == "ordered STAT"


def test_a_study_past_its_deadline_is_called_late() -> None:
    study = seed.study(1, NOW, 3600, "queued")
    assert words.state(study, 4, NOW).more == "late by 50 min"
    study.deadline_at = NOW + 1
    assert words.state(study, 4, NOW).more == ""


@pytest.mark.parametrize("state", DeliveryState)
def test_each_state_of_delivery_has_words_for_an_assessed_study(state: DeliveryState) -> None:
    study = seed.study(1, NOW, 0, "assessed", delivery=state, delivered_at=NOW)
    assert words.delivery(study, NOW).text


@pytest.mark.parametrize("state", StudyState)
def test_without_findings_the_ai_column_says_so(state: StudyState) -> None:
    said = ai_words(seed.study(1, NOW, 0, state)).text
    expected = {StudyState.ASSESSED: "No flag", StudyState.NOT_ASSESSED: "No AI result", StudyState.FAILED: "No AI result"}
    assert said == expected.get(state, "No result yet")


def test_findings_over_their_threshold_come_first() -> None:
    summary = seed.summary(seed.finding("a", 0.6, 0.7), seed.finding("b", 0.3, 0.2), seed.finding("c", 0.4, 0.2))
    assert [(mark.name, mark.present) for mark in marks(summary)] == [("C", True), ("B", True), ("A", False)]
    assert marks({}) == ()


def test_the_extent_is_the_measurement_in_per_cent() -> None:
    assert extent(seed.summary(percent=12.34, ct=True)) == "Lung involved 12.3 %"
    assert extent({}) == ""


def test_the_class_of_no_finding_is_no_finding() -> None:
    study = seed.study(1, NOW, 0, "assessed", summary=seed.summary(
        seed.finding("no_finding", 0.97), seed.finding("pneumonia", 0.02)))
    assert [mark.name for mark in marks(study.summary)] == ["Pneumonia"]
    assert ai_words(study).text == "No flag"
    assert ai_words(study).more == "highest: Pneumonia 0.02 (threshold 0.50)"


def test_without_a_name_the_patient_id_takes_its_place_unless_it_is_hidden() -> None:
    study = seed.study(1, NOW, 0, "assessed", patient_sex="", patient_birth_date="")
    assert (words.called(study, "full"), words.about_patient(study, "full")) == ("P000001", "")
    assert (words.called(study, "initials"), words.called(study, "hidden")) == ("No name", "Name hidden")
    study.patient_id = ""
    assert words.called(study, "full") == "No name"
