"""Models on the administrator's pages: switched, set beside and rolled back after a question that names what will change."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import httpx
import pytest
from sqlmodel import select

from service.domain.manifest import read_manifest
from service.store.activations import BESIDE, history, switch, switch_beside, switched_to
from service.store.tables import Job
from tests.flow.test_switch import whole_bundle
from tests.unit.test_web_admin import Chief, Office, text

HIDDEN = re.compile(r'<input type="hidden" name="(\w+)" value="([^"]*)">')


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with two whole bundles for radiographs: verified, they can be switched to."""
    folder = tmp_path_factory.mktemp("bundles")
    for name in ("next-cxr", "other-cxr"):
        whole_bundle(folder, folder / name)
    return folder


@pytest.fixture
def office(tmp_path: Path, bundles: Path) -> Iterator[Office]:
    office = Office(tmp_path)
    office.people()
    for name in ("next-cxr", "other-cxr"):
        shutil.copytree(bundles / name, tmp_path / "models" / name)
    yield office
    office.close()


class Desk(Chief):
    """The chief at the page of models."""

    def press(self, path: str, **fields: str) -> httpx.Response:
        """Press a button of the page."""
        return super().press(f"models/{path}", **fields)

    def confirm(self, question: httpx.Response, kind: str, **change: str) -> httpx.Response:
        """Send the form of the question back."""
        assert question.status_code == 200, text(question.text)
        sent = {name: unescape(value) for name, value in HIDDEN.findall(question.text.partition("<main")[2])}
        return self.client.post(f"/admin/models/{kind}/confirmed", data=sent | change)

    def active(self, kind: str) -> tuple[str, ...] | None:
        with self.office.database.reading() as session:
            return switched_to(session, kind)

    def told(self) -> list[str]:
        """Return what the audit trail says of changes of the software's configuration."""
        lines = [line.decode() for line in self.office.kept.lines if b'csd-code="110131"' in line]
        assert all('UserID="chief"' in line and 'csd-code="110113"' in line for line in lines)
        return [found[1] for line in lines if (found := re.search("<EventOutcomeDescription>([^<]*)<", line))]


@pytest.fixture
def desk(office: Office) -> Desk:
    return Desk(office)


def test_the_page_says_which_reads_which_looks_beside_and_by_which_weights(desk: Desk) -> None:
    office = desk.office
    with office.database.transaction() as session:
        switch(session, "cxr", ["tiny-cxr", "other-cxr"], office.ward.now, "okafor")
        switch_beside(session, ["next-cxr"], (), office.ward.now, "okafor")
    page = desk.client.get("/admin/models").text
    for part in ("tiny-ct 1.0.0 leads", "tiny-cxr 1.0.0 leads", "other-cxr 0.2.0 reads", "next-cxr 0.2.0 looks beside",
                 "Radiographs are read by tiny-cxr, other-cxr okafor", "Beside the active ones look next-cxr okafor"):
        assert part in text(page), part
    for name in ("tiny-ct", "tiny-cxr", "next-cxr"):
        assert read_manifest(office.folder / "models" / name).sha256 in page
    assert 'href="/admin/bundles/next-cxr"' in page


def test_a_switch_asks_names_what_changes_and_is_told_in_the_audit_trail(desk: Desk) -> None:
    question = desk.press("cxr", **{"place-next-cxr": "2", "place-other-cxr": "1", "place-tiny-cxr": ""})
    said = text(question.text)
    assert "Radiographs are read by: Now none" in said and "other-cxr, next-cxr begin to read" in said
    assert read_manifest(desk.office.folder / "models" / "next-cxr").sha256 in question.text
    assert 'href="/admin/bundles/next-cxr"' in question.text
    assert desk.active("cxr") is None and not desk.told(), "a question changes nothing"
    assert desk.confirm(question, "cxr").headers["location"] == "/admin/models"
    assert desk.active("cxr") == ("other-cxr", "next-cxr")
    assert desk.told() == ["Radiographs are read by other-cxr, next-cxr; before: none"]
    question = desk.press("cxr", **{"place-next-cxr": "1"})
    assert "other-cxr no longer reads" in text(question.text) and desk.confirm(question, "cxr").status_code == 303
    question = desk.press("cxr/rollback")
    assert "Roll back?" in text(question.text) and "other-cxr begins to read" in text(question.text)
    assert desk.active("cxr") == ("next-cxr",)
    assert desk.confirm(question, "cxr").status_code == 303 and desk.active("cxr") == ("other-cxr", "next-cxr")
    assert desk.told()[-1] == "Radiographs are read by other-cxr, next-cxr (rolled back); before: next-cxr"
    assert desk.confirm(desk.press("cxr/rollback"), "cxr").status_code == 303
    assert desk.active("cxr") is None, "as the settings say, where that is none too"
    with desk.office.database.reading() as session:
        assert [(row.who, row.rolled_back) for row in history(session, "cxr")] == [
            ("chief", True), ("chief", True), ("chief", False), ("chief", False)]


def test_another_order_is_another_leader(desk: Desk) -> None:
    with desk.office.database.transaction() as session:
        switch(session, "cxr", ["next-cxr", "other-cxr"], 1.0, "x")
    question = desk.press("cxr", **{"place-next-cxr": "2", "place-other-cxr": "1"})
    assert "the same bundles in another order: other-cxr leads" in text(question.text)
    assert desk.confirm(question, "cxr").status_code == 303 and desk.active("cxr") == ("other-cxr", "next-cxr")


def test_a_bundle_begins_and_ends_to_look_beside_and_what_waits_of_it_is_called_off(desk: Desk) -> None:
    question = desk.press(BESIDE, begin="next-cxr")
    assert "next-cxr begins to look beside" in text(question.text) and desk.active(BESIDE) is None
    assert desk.confirm(question, BESIDE).status_code == 303 and desk.active(BESIDE) == ("next-cxr",)
    with desk.office.database.transaction() as session:
        study = desk.office.parked().study_id
        session.add_all([Job(key=f"shadow:{name}", kind="shadow", study_id=study, revision=1, target=name, urgency="low",
                             queued_at=1.0, deadline_at=2.0) for name in ("next-cxr", "stays")])
    assert desk.confirm(desk.press(BESIDE, end="next-cxr"), BESIDE).status_code == 303
    with desk.office.database.reading() as session:
        assert switched_to(session, BESIDE) is None, "as the settings say again: none"
        states = {job.target: job.state for job in session.exec(select(Job).where(Job.kind == "shadow")).all()}
    assert states == {"next-cxr": "cancelled", "stays": "cancelled"}
    assert desk.told() == ["Beside the active ones look next-cxr; before: none",
                           "Beside the active ones look none; before: next-cxr"]


def test_none_looks_beside_though_the_settings_name_one(office: Office) -> None:
    with office.database.transaction() as session:
        switch_beside(session, (), ("tiny-cxr",), 1.0, "x")
        assert switched_to(session, BESIDE) == ()
        switch_beside(session, ("tiny-cxr",), ("tiny-cxr",), 2.0, "x")
        assert switched_to(session, BESIDE) is None


def test_wrong_input_is_refused_in_words_and_changes_nothing(desk: Desk) -> None:
    for path, fields, status, says in (
            ("cxr", {}, 400, "No bundle was chosen"),
            ("cxr", {"place-tiny-ct": "1"}, 400, "no bundle tiny-ct"),
            ("cxr", {"place-../../etc": "1"}, 400, "no bundle ../../etc"),
            ("cxr", {"place-next-cxr": "1", "place-other-cxr": "1"}, 400, "the same place"),
            ("cxr", {"place-next-cxr": "0"}, 400, "from 1 to 3"), ("cxr", {"place-next-cxr": "²"}, 400, "from 1 to 3"),
            ("ct", {"place-tiny-ct": "1"}, 400, "nothing would change"),
            ("cxr/rollback", {}, 409, "nothing to roll back"),
            (BESIDE, {}, 400, "No bundle looks beside"), (BESIDE, {"end": "next-cxr"}, 400, "next-cxr looks beside"),
            (BESIDE, {"begin": "absent"}, 400, "not installed"),
            ("cxr/confirmed", {}, 400, "choose again"), ("cxr/confirmed", {"names": "next-cxr", "seen": "x"}, 400, "again"),
            ("cxr/confirmed", {"names": "tiny-ct", "seen": "0"}, 400, "has the task"),
            ("cxr/confirmed", {"names": "next-cxr,next-cxr", "seen": "0"}, 400, "named twice"),
            ("shadow/confirmed", {"names": "next-cxr", "seen": "0", "back": "1"}, 400, "choose again"),
            ("mr", {}, 404, "no such kind"), ("shadow/rollback", {}, 404, "no such kind")):
        answer = desk.press(path, **fields)
        assert answer.status_code == status and says in unescape(text(answer.text)), (path, fields, text(answer.text)[:300])
    assert [desk.active(kind) for kind in ("ct", "cxr", BESIDE)] == [None] * 3 and not desk.told()


def test_a_bundle_that_is_not_whole_is_not_switched_to(desk: Desk) -> None:
    question = desk.press("cxr", **{"place-next-cxr": "1"})
    card = desk.office.folder / "models" / "next-cxr" / "MODEL_CARD.md"
    card.write_text("of other weights")
    for answer in (desk.press("cxr", **{"place-next-cxr": "1"}), desk.confirm(question, "cxr")):
        assert answer.status_code == 400 and "switched: next-cxr: MODEL_CARD.md does not name" in text(answer.text)
    (card.parent / "model.onnx").write_bytes(b"no model")
    answer = desk.press(BESIDE, begin="next-cxr")
    assert answer.status_code == 400 and "sha256" in text(answer.text)
    assert desk.active("cxr") is None and not desk.told()


def test_what_was_switched_since_the_question_is_not_overwritten(desk: Desk) -> None:
    question = desk.press("cxr", **{"place-next-cxr": "1"})
    with desk.office.database.transaction() as session:
        switch(session, "cxr", ["other-cxr"], desk.office.ward.now, "okafor")
    answer = desk.confirm(question, "cxr")
    assert answer.status_code == 409 and "in the meantime" in text(answer.text)
    assert desk.active("cxr") == ("other-cxr",) and not desk.told()
    question = desk.press("cxr/rollback")
    answer = desk.confirm(question, "cxr", names="next-cxr")
    assert answer.status_code == 400 and desk.active("cxr") == ("other-cxr",), "a roll back leads where it says"


def test_a_reader_or_a_form_of_another_session_switches_nothing(desk: Desk) -> None:
    theirs, token = desk.office.logged_in("reader")
    forms = {"cxr": {"place-next-cxr": "1"}, "cxr/rollback": {}, "shadow": {"begin": "next-cxr"},
             "cxr/confirmed": {"names": "next-cxr", "seen": "0"}, "shadow/confirmed": {"names": "next-cxr", "seen": "0"}}
    for path, sent in forms.items():
        assert theirs.post(f"/admin/models/{path}", data=sent | {"csrf": token}).status_code == 403, path
        for wrong in ({}, {"csrf": "0" * 64}, {"csrf": token}):
            assert desk.client.post(f"/admin/models/{path}", data=sent | wrong).status_code == 403, path
    assert [desk.active(kind) for kind in ("cxr", BESIDE)] == [None] * 2 and not desk.told()


def test_where_nobody_logs_in_models_are_switched_by_command_only(tmp_path: Path) -> None:
    office = Office(tmp_path)
    client = office.client()
    page = client.get("/admin/models").text
    assert "firstlook models activate" in page and "<button name" not in page
    answer = client.post("/admin/models/cxr", data={"place-tiny-cxr": "1"})
    assert answer.status_code == 403 and "firstlook models activate" in answer.text
    office.close()


def test_a_model_card_is_shown_as_text_and_nothing_else_is(office: Office) -> None:
    client, _ = office.logged_in("chief")
    page = client.get("/admin/bundles/tiny-ct").text
    assert "# A rule &lt;script&gt;" in page and "<script>alert" not in page
    for name in ("tiny-cxr", "nothing", "%2e%2e", "..%2Fsecret", "*"):
        assert client.get(f"/admin/bundles/{name}").status_code == 404, name
