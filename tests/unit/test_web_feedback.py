"""Feedback: verdicts of readers on findings, how often they agree, and the file for retraining."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlmodel import select

from service import cli
from service.domain.finding import Presence
from service.domain.verdict import Judged, Verdict, Why, latest, predictive_values, wilson
from service.feedback_cli import COLUMNS, write_csv
from service.metrics import Metrics
from service.store.database import Database
from service.store.tables import Instance, Study
from service.web.app import WebStyle, create_app
from tests import builders
from tests.browser import seed
from tests.browser.served import asked

NOW = 1_767_400_000.0
CXR, CT = str(builders.uid(1, 1)), str(builders.uid(3, 1))


class Desk:
    """A seeded store and its pages over HTTP."""

    def __init__(self, folder: Path) -> None:
        self.url = f"sqlite:///{folder / 'feedback.db'}"
        self.database, self.now = Database(self.url), NOW
        self.database.migrate()
        self.studies = seed.fill(self.database, NOW, folder / "results")
        self.client: httpx.Client

    def judge(self, uid: str = CXR, **given: Any) -> httpx.Response:
        said = {"bundle": "cxr-pattern", "finding": "pneumonia", "verdict": "agree"} | given
        return self.client.post(f"/api/studies/{uid}/verdicts", json=said)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    app = create_app(desk.database, Metrics(), lambda: desk.now, WebStyle(), tuple, tmp_path / "results")
    with asked(app) as desk.client:
        yield desk
    desk.database.close()


def judged(number: int, verdict: Verdict, **given: Any) -> Judged:
    values: dict[str, Any] = {
        "study_instance_uid": f"1.{number}", "revision": 1, "bundle": "cxr", "version": "1.0.0", "digest": "ab" * 32,
        "finding": "pneumonia", "presence": Presence.PRESENT, "probability": 0.9, "threshold": 0.5, "verdict": verdict,
        "why": Why.NONE, "reader": "anna", "at": NOW + number, "sender": "DX1", "scanner": "Maker One"}
    return Judged(**values | given)


def test_a_verdict_is_kept_with_what_the_model_had_said(desk: Desk) -> None:
    with desk.database.transaction() as session:
        study = session.exec(select(Study).where(Study.study_instance_uid == CXR)).one()
        for image in session.exec(select(Instance).where(Instance.study_id == study.id)):
            image.header = {"manufacturer": "Maker", "manufacturer_model_name": "One"}
    answer = desk.judge(verdict="disagree", why="artefact", note="Elektrode über dem Herzen")
    assert answer.json() == {"study_instance_uid": CXR, "bundle": "cxr-pattern", "finding": "pneumonia",
                             "verdict": "disagree", "why": "artefact", "reader": "unknown", "at": NOW}
    (row,) = desk.client.get("/api/feedback").json()["scanner"]
    assert (row["model"], row["group"], row["agreed"], row["judged"]) == ("cxr-pattern 1.0.0", "Maker One", 0, 1)
    page = desk.client.get(f"/studies/{CXR}").text
    assert "Disagrees: artefact, device or poor image (unknown, " in page and "Elektrode über dem Herzen" in page


def test_a_reader_may_change_a_verdict_and_has_one_only(desk: Desk) -> None:
    desk.judge(verdict="disagree", why="not_there", note="nothing")
    desk.now = NOW + 60
    desk.judge(verdict="agree")
    assert [(v["verdict"], v["why"], v["at"]) for v in desk.client.get(f"/api/studies/{CXR}").json()["verdicts"]] == [
        ("agree", "", NOW + 60)]
    assert ">nothing<" not in desk.client.get(f"/studies/{CXR}").text


def test_the_form_of_the_page_does_the_same_and_what_was_typed_is_escaped(desk: Desk) -> None:
    page = desk.client.get(f"/studies/{CT}").text
    assert f'action="/studies/{CT}/verdict"' in page and 'name="finding" value="covid_pneumonia"' in page
    answer = desk.client.post(f"/studies/{CT}/verdict", data={
        "bundle": "ct-lung-infection", "finding": "covid_pneumonia", "verdict": "disagree", "why": "other",
        "note": "<script>alert(1)</script>"})
    assert (answer.status_code, answer.headers["location"]) == (303, f"/studies/{CT}#findings")
    page = desk.client.get(f"/studies/{CT}").text
    assert "<script>alert" not in page and "&lt;script&gt;alert(1)&lt;/script&gt;" in page


@pytest.mark.parametrize(("given", "status", "said"), [
    ({"verdict": "perhaps"}, 422, "verdict: accepted: agree, disagree."),
    ({"verdict": "disagree", "why": "so"}, 422, "why: accepted: not_there, "),
    ({"verdict": "disagree", "note": "x" * 501}, 422, "note: accepted: at most 500 characters"),
    ({"verdict": "disagree", "note": "a\x00b"}, 422, "note: accepted"),
    ({"finding": "hernia"}, 404, "the result of this study has no such finding"),
    ({"bundle": "other"}, 404, "the result of this study has no such finding"),
    ({"uid": "1.2.3"}, 404, "there is no such study here"),
])
def test_what_cannot_be_kept_is_refused_with_what_is_accepted(
    desk: Desk, given: dict[str, Any], status: int, said: str,
) -> None:
    answer = desk.judge(**given)
    assert answer.status_code == status and said in answer.json()["error"]
    assert desk.client.get("/api/feedback").json()["judged"] == 0


def test_a_form_that_is_too_large_or_none_is_refused(desk: Desk) -> None:
    path, kind = f"/studies/{CXR}/verdict", {"Content-Type": "application/x-www-form-urlencoded"}
    assert desk.client.post(path, content=b"note=" + b"x" * 70_000, headers=kind).status_code == 413
    for body in (b"note=\xff\xfe", b"&".join(b"a%d=1" % n for n in range(120)), b""):
        assert desk.client.post(path, content=body, headers=kind).status_code == 422
    assert desk.client.post(path, json={"verdict": "agree"}).status_code == 422


def test_a_note_is_in_no_log_and_no_other_page(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        desk.judge(verdict="disagree", why="other", note="Mrs Okafor")
    everything = "".join(str(vars(record)) for record in caplog.records)
    for path in ("/feedback", "/api/feedback", "/metrics", f"/api/studies/{CXR}"):
        everything += desk.client.get(path).text.replace("Okafor^Ngozi", "")
    assert "Okafor" not in everything
    assert 'firstlook_verdicts_total{bundle="cxr-pattern",finding="pneumonia",verdict="disagree"} 1.0' in everything


@pytest.mark.parametrize(("hits", "trials", "low", "high"), [
    (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (81, 263, 0.2553, 0.3662), (0, 0, 0.0, 1.0)])
def test_intervals_are_those_of_wilson(hits: int, trials: int, low: float, high: float) -> None:
    assert list(wilson(hits, trials)) == pytest.approx([low, high], abs=6e-5)


def test_only_what_was_called_present_counts_and_the_newest_verdict_on_it() -> None:
    said = [judged(1, Verdict.AGREE), judged(2, Verdict.DISAGREE), judged(3, Verdict.AGREE, presence=Presence.ABSENT),
            judged(2, Verdict.AGREE, reader="ben", at=NOW + 99), judged(4, Verdict.DISAGREE, scanner="Maker Two")]
    values = predictive_values(latest(said), lambda one: one.scanner)
    assert {key[2]: (v.agreed, v.judged) for key, v in values.items()} == {"Maker One": (2, 2), "Maker Two": (0, 1)}


def test_the_page_tells_values_with_intervals_and_what_models_missed(desk: Desk) -> None:
    assert "No finding has been judged yet" in desk.client.get("/feedback").text
    desk.judge()
    desk.judge(finding="covid_pneumonia", verdict="disagree", why="missed")
    page = desk.client.get("/feedback").text
    assert "100 %" in page and "21 to 100 %" in page and "DX_ROOM_2" in page
    assert "called absent by the model" in page and "<td>COVID pneumonia</td><td class=\"n\">1</td>" in page


def test_the_file_for_retraining_names_no_patient_no_reader_and_runs_no_formula() -> None:
    file = io.StringIO()
    write_csv([judged(1, Verdict.DISAGREE, why=Why.ARTEFACT, scanner="=HYPERLINK(1)", sender="-1,2")], file)
    head, row = csv.reader(io.StringIO(file.getvalue()))
    assert tuple(head) == COLUMNS and not {"reader", "note", "patient_name"} & set(head)
    said = dict(zip(head, row, strict=True))
    assert (said["study_instance_uid"], said["verdict"], said["digest"]) == ("1.1", "disagree", "ab" * 32)
    assert said["scanner"] == "'=HYPERLINK(1)" and said["given_at"] == "2026-01-03T00:26:41Z"


def test_the_command_prints_the_values_and_writes_the_file_once(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("FIRSTLOOK_STORE__DATABASE_URL", desk.url)
    monkeypatch.setenv("COLUMNS", "160")
    assert cli.main(["feedback", "--days", "36500"]) == 0
    assert "No finding has been judged yet" in capsys.readouterr().out
    desk.judge()
    assert cli.main(["feedback", "--days", "36500"]) == 0
    told = capsys.readouterr().out
    assert "pneumonia" in told and "0.21 to 1.00" in told and "DX_ROOM_2" in told and "esearch use only" in told
    path = tmp_path / "verdicts.csv"
    assert cli.main(["feedback", "--days", "36500", "--csv", str(path)]) == 0
    assert len(path.read_text(encoding="utf-8").splitlines()) == 2
    assert cli.main(["feedback", "--csv", str(path)]) == 1
