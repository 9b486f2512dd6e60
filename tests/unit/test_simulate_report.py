"""The report: one page that needs nothing else, says what it is for, and shows the numbers it was given."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from service import DISCLAIMER
from service.domain.urgency import Urgency
from service.simulate.as_json import as_json
from service.simulate.department import Department, Detector, example_department
from service.simulate.effect import Effect, Length, simulate
from service.simulate.groups import TOLD, WITHOUT
from service.simulate.reading import Policy
from service.simulate.report import report


@pytest.fixture(scope="module")
def effect() -> Effect:
    department = example_department()
    pneumonia = Detector("cxr-pattern", "pneumonia", 0.9, 0.9, Urgency.URGENT, "measured")
    department = department.with_detectors({"cxr": (pneumonia,)})
    return simulate(replace(department, name='<b>Ours</b> & "theirs"'), Length(4, 1, 1), seed=3)


class Page(HTMLParser):
    """Gathers the tags and attributes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_nothing_is_fetched_and_nothing_runs(effect: Effect) -> None:
    page = Page(report(effect, DISCLAIMER))
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "img", "iframe", "object", "embed", "base", "form"}
    assert not {key for _, given in page.tags for key in given} & {"src", "href", "srcset", "action", "onload", "onclick"}
    text = report(effect, DISCLAIMER)
    assert "url(" not in text and "@import" not in text and "http" not in text.replace("http-equiv", "")
    assert "default-src 'none'" in text and "prefers-color-scheme: dark" in text


def test_it_says_research_use_only_at_both_ends_and_escapes_what_it_is_given(effect: Effect) -> None:
    text = report(effect, DISCLAIMER, ["a <note>"], "firstlook simulate --seed 3")
    assert text.count(DISCLAIMER) == 2
    assert "<b>Ours" not in text and "&lt;b&gt;Ours&lt;/b&gt; &amp;" in text and "a &lt;note&gt;" in text
    assert "firstlook simulate --seed 3" in text


def test_every_chart_is_well_formed_and_says_what_it_shows(effect: Effect) -> None:
    charts = re.findall(r"<svg.*?</svg>", report(effect, DISCLAIMER), re.S)
    trees = [ElementTree.fromstring(chart) for chart in charts]
    labelled = [tree for tree in trees if tree.get("role") == "img"]
    assert len(labelled) == 5 and all(tree.get("aria-label") for tree in labelled)
    for tree in trees:
        for element in tree.iter():
            for value in element.attrib.values():
                assert "nan" not in value.lower() and "inf" not in value.lower()


def test_the_numbers_are_those_of_the_result(effect: Effect) -> None:
    text = report(effect, DISCLAIMER)
    for name in (TOLD, WITHOUT):
        for policy in Policy:
            mean = effect.row(name).waits[policy].mean
            assert f"{mean.value / 60:.1f} ± {(mean.high - mean.low) / 120:.1f}" in text
    shown = as_json(effect)
    (row,) = [r for r in shown["waits_min"] if r["group"] == TOLD]
    assert row["ours"]["mean"][0] == pytest.approx(effect.row(TOLD).waits[Policy.OURS].mean.value / 60, abs=1e-3)
    assert shown["curves"][TOLD]["ours"][-1] <= 1.0


def test_curves_rise_and_end_where_the_means_say(effect: Effect) -> None:
    for of in effect.curves.values():
        for curve in of.values():
            assert list(curve) == sorted(curve) and 0 <= curve[0] <= curve[-1] <= 1
    assert effect.curves[TOLD][Policy.OURS][3] > effect.curves[TOLD][Policy.FIFO][3]


def test_a_department_without_ai_or_conditions_has_a_report_too() -> None:
    base = example_department()
    bare = Department("bare", tuple(replace(m, detectors=(), prevalence={}) for m in base.modalities))
    text = re.sub(r"<style>.*?</style>", "", report(simulate(bare, Length(2, 1, 1), seed=1), DISCLAIMER), flags=re.S)
    assert "No bundle in use asks for an urgency." in text and "nan" not in text


def test_a_row_that_is_not_there_is_an_error(effect: Effect) -> None:
    with pytest.raises(KeyError):
        effect.row("nobody")
