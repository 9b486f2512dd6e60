"""Then and now: what is the same measurement, with which sign it changed, and what makes numbers doubtful."""

from __future__ import annotations

from typing import Any

from service.domain.lesion import Following
from service.domain.prior import Comparison, compare
from service.report.compared import comparison_key, sentences
from service.web.compared import change_words, then_and_now
from tests.browser.seed import COURSE, FOLLOWED, finding, since, summary


def compared(then: dict[str, Any], now: dict[str, Any]) -> Comparison:
    made = compare(then, now, "1.2.3", "20251219")
    assert made is not None
    return made


def test_changes_have_the_sign_of_now_less_then() -> None:
    made = compared(summary(percent=24.0, ct=True), summary(percent=4.0, ct=True))
    by_name = {c.name: c for c in made.changes}
    assert by_name["lung involved"].difference == -20.0 and by_name["severity score"].difference == 0
    assert "lung involved: 24.0 % then, 4.0 % now, change -20.0 percentage points." in sentences(made)
    assert Comparison.from_json(made.to_json()) == made


def test_findings_that_came_or_went_are_named() -> None:
    then = summary(finding("pneumonia", 0.9), finding("covid_pneumonia", 0.1))
    now = summary(finding("pneumonia", 0.2), finding("covid_pneumonia", 0.7))
    said = "\n".join(sentences(compared(then, now)))
    assert "pneumonia: present then (0.90), absent now (0.20)." in said
    assert "covid_pneumonia: absent then (0.10), present now (0.70)." in said
    assert change_words(since(then, now)) == "gone: pneumonia, new: COVID pneumonia since 2025-12-19"


def test_another_version_of_the_model_and_lungs_not_seen_whole_are_cautions() -> None:
    then, now = summary(percent=2.0, ct=True), summary(percent=2.0, ct=True)
    then["bundles"] = [then["bundles"][0] | {"digest": "other"}]
    now["limitations"] = ["incomplete coverage: the lungs are cut at the top of the scan"]
    said = sentences(compared(then, now))[-2:]
    assert said[0].startswith("Caution: ct-lung-infection had other weights then") and "not seen whole now" in said[1]


def test_studies_with_nothing_in_common_are_not_compared() -> None:
    assert compare(summary(percent=2.0, ct=True), summary(finding("pneumonia", 0.5)), "1.2.3", "") is None
    other = summary(finding("pneumonia", 0.5, bundle="another"))
    assert compare(other, summary(finding("pneumonia", 0.5, bundle="one")), "1.2.3", "") is None


def test_what_the_report_says_decides_its_uids() -> None:
    one, other = (compared(summary(percent=p, ct=True), summary(percent=9.0, ct=True)) for p in (2.0, 3.0))
    assert comparison_key(None) == () and comparison_key(one) != comparison_key(other)
    assert comparison_key(one) == comparison_key(Comparison.from_json(one.to_json()))


def test_the_page_writes_then_now_and_the_change() -> None:
    page = then_and_now(since(summary(percent=3.9, ct=True), summary(percent=24.31, ct=True)))
    assert page is not None and page.date == "2025-12-19"
    whole = next(line for line in page.measurements if line.name == "Lung involved")
    assert (whole.then, whole.now, whole.change, whole.share_then, whole.share_now) == (
        "3.9 %", "24.3 %", "▲ +20.4 points", 4, 24)
    assert next(line for line in page.measurements if line.name == "Severity score").change == "as before"
    assert change_words(summary(percent=1.0)) == "" and then_and_now(summary()) is None
    assert change_words(since(summary(percent=3.9), summary(percent=24.31))) == (
        "▲ +20.4 points since 2025-12-19")


def test_lesions_are_told_one_by_one_with_sign_and_dates() -> None:
    told = since(summary(percent=3.9, ct=True), summary(percent=24.31, ct=True), following=FOLLOWED, course=COURSE)
    page = then_and_now(told, "20260102")
    assert page is not None and (page.date, page.now) == ("2025-12-19", "2026-01-02")
    assert [(line.name, line.then, line.now, line.change) for line in page.lesions] == [
        ("Lesion 1, left", "120.4 ml", "801.2 ml", "▲ grown, +680.8 ml"),
        ("Earlier lesion, left", "9.1 ml", "–", "now a part of lesion 1"),
        ("Lesion 2, right", "–", "212.7 ml", "new"), ("Lesion 3, right", "12.2 ml", "12.9 ml", "unchanged"),
        ("Earlier lesion, right", "4.3 ml", "–", "gone")]
    comparison = Comparison.from_json(told["prior"])
    assert comparison.following == FOLLOWED and comparison.course == COURSE
    said = sentences(comparison)
    assert ("Lesions: 1 new, 1 grown, 1 unchanged, 1 gone, 1 merged. The studies were laid over each other by the lungs: "
            "shift 23 mm, rotation 2 degrees, overlap 94%.") in said
    assert any("2025-06-12 0.8 % (34.8 ml), 2025-09-01 11.2 %" in text for text in said)
    refused = since(summary(percent=3.9, ct=True), summary(percent=1.0, ct=True), following=Following(why_not="no lung"))
    again = then_and_now(refused)
    assert again is not None and (again.lesions, again.how) == ((), "Lesions are not followed: no lung.")
    assert "Lesions are not followed: no lung." in sentences(Comparison.from_json(refused["prior"]))


def test_the_plot_goes_by_dates_and_by_per_cent() -> None:
    page = then_and_now(since(summary(percent=3.9, ct=True), summary(percent=24.31, ct=True), course=COURSE), "20260102")
    assert page is not None and page.plot is not None
    dots = page.plot.dots
    assert [dot.x for dot in dots] == sorted(dot.x for dot in dots) and dots[-1].uid == ""
    assert min(dots, key=lambda dot: dot.y) is dots[-1] and max(dots, key=lambda dot: dot.y) is dots[0]
    assert dots[2].x - dots[1].x < dots[1].x - dots[0].x, "63 days are less than 81"
    assert dots[-1].said == "2026-01-02: 24.3 % (this study)"
    alone = then_and_now(since(summary(percent=3.9), summary(percent=24.31), course=COURSE[-1:]), "20260102")
    assert alone is not None and alone.plot is None, "two studies are a change, not a course"


def test_a_stored_comparison_of_an_earlier_release_is_read() -> None:
    stored = since(summary(percent=2.0, ct=True), summary(percent=9.0, ct=True))["prior"]
    for younger in ("following", "course"):
        del stored[younger]
    assert Comparison.from_json(stored).course == () and Comparison.from_json(stored).following is None
