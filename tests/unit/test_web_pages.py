"""The pages, the API, health and metrics, asked over HTTP on a seeded store."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import prometheus_client
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import event

from service.domain.job import StudyState
from service.errors import Reason
from service.metrics import Metrics
from service.store.database import Database
from service.store.tables import ResultObject, Study
from service.web.app import WebStyle, create_app
from service.web.health import METRICS_TYPE, Check
from service.web.page import RESEARCH_USE
from tests.browser import seed
from tests.browser.served import asked

NOW = 1_767_400_000.0


class House:
    """A seeded store and the pages over it."""

    def __init__(self, folder: Path) -> None:
        self.database = Database(f"sqlite:///{folder / 'pages.db'}")
        self.database.migrate()
        self.results_dir = folder / "results"
        self.studies = seed.fill(self.database, NOW, self.results_dir)
        self.metrics = Metrics()
        self._open = ExitStack()
        self.checks: list[Check] = [Check("database", True), Check("disk", True)]

    def client(self, **style: Any) -> httpx.Client:
        app = create_app(self.database, self.metrics, lambda: NOW, WebStyle(**style), lambda: self.checks,
                         self.results_dir)
        return self._open.enter_context(asked(app))

    def close(self) -> None:
        self._open.close()
        self.database.close()

    def uid(self, number: int) -> str:
        return str(seed.builders.uid(number, 1))


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.close()


def _rows(page: str) -> dict[str, str]:
    """Return the text of each row by Study Instance UID, in order."""
    found = re.findall(r'<tr data-uid="([^"]+)"(.*?)</tr>', page, re.S)
    return {uid: " ".join(re.sub(r"<[^>]*>", " ", row).split()) for uid, row in found}


def test_the_worklist_says_what_to_read_next(house: House) -> None:
    rows = _rows(house.client().get("/").text)
    assert list(rows) == [study.study_instance_uid for study in house.studies]


def test_each_state_is_said_in_words(house: House) -> None:
    rows = _rows(house.client().get("/").text)
    said = {
        1: ("stat", "raised by AI: pneumonia 99%", "Pneumonia 0.99", "Assessed", "In the PACS", "16 min"),
        2: ("stat", "ordered STAT", "No result yet", "Model is running"),
        3: ("urgent", "raised by AI: COVID pneumonia 93%", "COVID pneumonia bilateral 0.93", "Lung involved 24.3 %"),
        4: ("urgent", "No flag", "highest: COVID pneumonia 0.03 (threshold 0.50)", "Not delivered",
            "The PACS or other receiver refused it. status 0xA900"),
        5: ("No AI result", "Failed", "The model could not be run."),
        7: ("No AI result", "Not assessed", "Slices of the CT volume are missing."),
        8: ("Not assessed", "Only lateral", "Being sent", "The PACS or other receiver did not answer."),
        9: ("No result yet", "Queued, place 1"),
        10: ("Queued, place 2",),
        11: ("Receiving images", "last 3 s ago", "O&#39;Brien, Siobhán"),
        12: ("low", "No flag", "of the earlier images", "No name"),
    }
    for number, texts in said.items():
        for text in texts:
            assert text in rows[house.uid(number)], (number, text)


def test_a_study_without_a_flag_is_never_called_normal(house: House) -> None:
    client = house.client()
    pages = [client.get("/").text, *(client.get(f"/studies/{s.study_instance_uid}").text for s in house.studies)]
    for page in pages:
        kept = page.replace("does not mean a normal study", "").replace("does not mean normal", "")
        assert "normal" not in kept.lower()


def test_every_page_says_research_use_only(house: House) -> None:
    client = house.client()
    for path in ("/", f"/studies/{house.uid(1)}", "/studies/1.2.3", "/nowhere"):
        assert RESEARCH_USE in client.get(path).text, path
    for path in ("/api/worklist", f"/api/studies/{house.uid(1)}"):
        assert client.get(path).json()["notice"] == RESEARCH_USE


def test_what_a_sender_wrote_is_escaped(house: House) -> None:
    client = house.client()
    for path in ("/", "/rows", f"/studies/{house.uid(6)}"):
        text = client.get(path).text
        for tag in ("<script>alert", "<b>Bold", "<img src=x", "<i>Chest"):
            assert tag not in text, (path, tag)
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_each_reason_is_shown_as_its_sentence(house: House) -> None:
    client = house.client()
    for reason in Reason:
        with house.database.transaction() as session:
            study = session.get_one(Study, house.studies[6].id)
            study.state_reason = reason
            session.add(study)
        assert reason.sentence in client.get("/").text.replace("&#39;", "'"), reason
        assert client.get(f"/api/studies/{house.uid(7)}").json()["state_sentence"] == reason.sentence


def test_a_state_of_each_kind_can_be_shown(house: House) -> None:
    client = house.client()
    for state in StudyState:
        with house.database.transaction() as session:
            study = session.get_one(Study, house.studies[0].id)
            study.state, study.summary = state, {}
            session.add(study)
        assert client.get("/").status_code == 200
        assert client.get(f"/studies/{house.uid(1)}").status_code == 200


@pytest.mark.parametrize(("how", "shown", "absent"), [
    ("full", ("Lindqvist, Åsa Maria", "P000002", "77 y"), ()),
    ("initials", ("L. Å.", "77 y", "ACC-26002"), ("Lindqvist", "P000002")),
    ("hidden", ("Name hidden", "ACC-26002"), ("Lindqvist", "P000002", "77 y", "19480722")),
])
def test_patients_are_shown_as_the_settings_say(
    house: House, how: str, shown: tuple[str, ...], absent: tuple[str, ...],
) -> None:
    client = house.client(patient_names=how)
    row = _rows(client.get("/").text)[house.uid(2)]
    detail = client.get(f"/studies/{house.uid(2)}").text
    for text in shown:
        assert text in row, text
    api = client.get("/api/worklist").text + client.get(f"/api/studies/{house.uid(2)}").text
    for text in absent:
        assert text not in row + detail + api, text


def test_a_full_worklist_takes_the_same_number_of_queries_as_a_short_one(house: House) -> None:
    with house.database.transaction() as session:
        for number in range(100, 300):
            session.add(seed.study(number, NOW, number, "assessed"))
    queries: list[str] = []
    event.listen(house.database.engine, "before_cursor_execute", lambda *given: queries.append(given[2]))
    page = house.client().get("/")
    assert len(_rows(page.text)) == 212
    assert len([query for query in queries if "SELECT" in query]) == 4


def test_studies_beyond_the_limit_are_counted_not_forgotten(house: House) -> None:
    page = house.client(limit=5).get("/").text
    assert len(_rows(page)) == 5
    assert "7 more are not shown" in page


def test_the_study_page_tells_findings_measurements_limits_objects_and_trace(house: House) -> None:
    text = " ".join(re.sub(r"<[^>]*>", " ", house.client().get(f"/studies/{house.uid(3)}").text).split())
    for part in ("COVID pneumonia, bilateral 0.93 high 0.50 ▲ over asks for urgent",
                 "Lung involved 24.3 %", "Right lung volume 2310.4 ml",
                 "Infection mean attenuation -412.7 HU", "Severity score 11",
                 "Not tested on children.", "Segmentation (SEG)", "Structured report (SR)", "pacs at", "+0:47 Queued"):
        assert part in text, part


def test_what_went_wrong_is_told_on_the_study_page(house: House) -> None:
    text = house.client().get(f"/studies/{house.uid(4)}").text
    assert "Deliver to pacs" in text
    assert "CUDA out of memory" in house.client().get(f"/studies/{house.uid(5)}").text
    assert "parked (needs a person)" in text
    assert "The PACS or other receiver refused it: status 0xA900" in text


def test_the_api_gives_the_same_order_and_the_result(house: House) -> None:
    answer = house.client().get("/api/worklist").json()
    assert [s["study_instance_uid"] for s in answer["studies"]] == [s.study_instance_uid for s in house.studies]
    assert answer["counts"] == {"receiving": 2, "queued": 2, "inferring": 1, "assessed": 4, "not_assessed": 2, "failed": 1}
    assert answer["studies"][8]["place_in_queue"] == 1
    assert answer["studies"][0]["result"]["findings"][0]["probability"] == 0.9871
    one = house.client().get(f"/api/studies/{house.uid(3)}").json()
    assert [o["kind"] for o in one["objects"]] == ["sr", "seg"]
    assert one["objects"][0]["stored_at"] == {"pacs": NOW - 2460 + 76}
    assert one["trace"][0]["text"] == "First image received"
    assert sum(one["images"].values()) == 3


def test_result_objects_can_be_fetched_and_a_capture_seen(house: House) -> None:
    client, uid = house.client(), house.uid(1)
    objects = client.get(f"/api/studies/{uid}").json()["objects"]
    for one in objects:
        file = client.get(f"/studies/{uid}/objects/{one['sop_instance_uid']}.dcm")
        assert file.status_code == 200
        assert file.headers["content-type"] == "application/dicom"
    capture = next(o for o in objects if o["kind"] == "sc")["sop_instance_uid"]
    picture = client.get(f"/studies/{uid}/objects/{capture}.png")
    assert (picture.status_code, picture.headers["content-type"]) == (200, "image/png")
    assert picture.content.startswith(b"\x89PNG")
    assert f"objects/{capture}.png" in client.get(f"/studies/{uid}").text


def test_an_object_is_found_only_under_its_own_study_and_inside_the_results(house: House, tmp_path: Path) -> None:
    client, uid = house.client(), house.uid(1)
    sop = client.get(f"/api/studies/{uid}").json()["objects"][0]["sop_instance_uid"]
    assert client.get(f"/studies/{house.uid(3)}/objects/{sop}.dcm").status_code == 404
    (tmp_path / "secret").write_text("secret")
    with house.database.transaction() as session:
        session.add(ResultObject(study_id=house.studies[0].id or 0, revision=1, kind="sr", sop_class_uid="1",
                                 path="../secret", sop_instance_uid="1.2.9", created_at=NOW))
    assert client.get(f"/studies/{uid}/objects/1.2.9.dcm").status_code == 404
    for path in (f"/studies/{uid}/objects/..%2F..%2Fsecret.dcm", "/static/..%2Fpage.py", "/static/../app.py"):
        assert client.get(path).status_code == 404, path


def test_what_is_not_there_is_a_404(house: House) -> None:
    client = house.client()
    for path in ("/studies/1.2.3", "/api/studies/1.2.3", "/studies/1.2.3/objects/1.dcm", "/studies/1.2.3/objects/1.png",
                 "/nowhere", "/studies/%00", "/studies/'; DROP TABLE study;--"):
        answer = client.get(path)
        assert answer.status_code == 404, path
        kind = "application/json" if path.startswith("/api") else "text/html"
        assert answer.headers["content-type"].startswith(kind), path


def test_a_defect_shows_no_stack_and_no_data(house: House) -> None:
    with house.database.transaction() as session:
        study = session.get_one(Study, house.studies[2].id)
        study.summary = {"findings": [{"name": "Tanaka"}]}
        session.add(study)
    client = house.client()
    for path in ("/", f"/studies/{house.uid(3)}"):
        answer = client.get(path, headers={"Connection": "close"})  # the server ends a connection on which it failed
        assert answer.status_code == 500
        assert Reason.INTERNAL_ERROR.sentence in answer.text
        assert "Traceback" not in answer.text and "Tanaka" not in answer.text
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_readiness_names_what_is_not_well(house: House) -> None:
    assert house.client().get("/health/live").json() == {"live": True}
    assert house.client().get("/health/ready").json()["ready"] is True
    house.checks = [Check("database", True), Check("disk", False, "12 MB free, 1 GB needed")]
    answer = house.client().get("/health/ready")
    assert answer.status_code == 503
    assert answer.json()["checks"][1] == {"name": "disk", "ok": False, "detail": "12 MB free, 1 GB needed"}


def test_the_metrics_can_be_scraped(house: House) -> None:
    house.metrics.refusals.labels(reason="not_chest").inc(3)
    answer = house.client().get("/metrics")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    assert families["firstlook_refusals"].samples[0].value == 3.0
    assert answer.headers["content-type"] == METRICS_TYPE == prometheus_client.CONTENT_TYPE_LATEST


def test_many_scores_under_their_threshold_are_folded_and_a_name_stands_once_in_the_worklist(house: House) -> None:
    said = [seed.finding("pneumonia", 0.91, urgency="urgent", bundle="cxr-pattern"),
            seed.finding("pneumonia", 0.62, bundle="cxr-findings"), seed.finding("effusion", 0.71, bundle="cxr-findings"),
            *(seed.finding(name, 0.1, bundle="cxr-findings") for name in ("mass", "nodule", "hernia", "fibrosis"))]
    with house.database.transaction() as session:
        session.get_one(Study, house.studies[0].id).summary = seed.summary(*said)
    client, uid = house.client(), house.studies[0].study_instance_uid
    row = _rows(client.get("/").text)[uid]
    assert "Pneumonia 0.91 high Effusion 0.71 medium" in row and row.count("Pneumonia") == 1 and "Mass" not in row
    page = client.get(f"/studies/{uid}").text
    open_part, folded = page.split('<details class="folded">')
    folded = folded.split("</section>")[0]
    assert "4 scores under their threshold, the highest: Mass 0.10" in folded
    assert open_part.count("▲ over") == 3 and folded.count("<td>no flag</td>") == 4
