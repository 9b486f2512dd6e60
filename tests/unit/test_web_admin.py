"""The administrator's page: what it shows, what its buttons do, and who may press them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import httpx
import pytest
from sqlmodel import select

from service.access import accounts
from service.administration import administration_of
from service.audit.file import AuditFile
from service.audit.lookup import look_up
from service.audit.message import Source
from service.audit.trail import Trail
from service.cli import main
from service.deliver.target import Outlet, Parcel
from service.domain.person import Role
from service.errors import PeerUnavailable, Reason
from service.metrics import Metrics
from service.pipeline.again import take_up_again
from service.settings import Settings
from service.store.database import Database
from service.store.tables import Event, Job, Study
from service.triaging import queue_of
from service.web.app import WebStyle, create_app
from tests.browser import seed
from tests.browser.served import asked
from tests.contracts.test_audit import Kept
from tests.hospital import tiny_models
from tests.unit.test_access import PASSWORD, Ward
from tests.unit.test_web_login import csrf, log_in

SECRET = "s3cret-part-of-the-address"


class Place:
    """A place whose answer is set by the test."""

    name, answers = "pacs", True

    def deliver(self, parcel: Parcel) -> list[str]:
        raise AssertionError("nothing is sent")

    def echo(self) -> None:
        if not self.answers:
            raise PeerUnavailable(Reason.PEER_UNREACHABLE, "no answer within 5 s")


def settings(folder: Path) -> Settings:
    return Settings.model_validate({
        "store": {"data_dir": folder / "data"},
        "receive": {"peers": [{"ae_title": "CT_SCANNER_1", "address": "10.0.0.0/8"}]},
        "infer": {"models_dir": tiny_models(folder / "models"), "ct_bundles": ["tiny-ct"], "cxr_bundles": [],
                  "cxr_gate": "", "cxr_lungs": ""},
        "deliver": {"targets": [{"name": "pacs", "ae_title": "PACS", "host": "pacs.example", "port": 104}],
                    "webhooks": [{"name": "hook", "url": f"https://hook.example/{SECRET}", "secret": SECRET}]}})


class Office:
    """The page over a seeded store, with the administrator `chief` and the reader `reader`."""

    def __init__(self, folder: Path) -> None:
        self.database = Database(f"sqlite:///{folder / 'admin.db'}")
        self.database.migrate()
        self.ward, self.folder, self.place, self.kept = Ward(self.database), folder, Place(), Kept()
        self.studies = seed.fill(self.database, self.ward.now, folder / "results")
        self.settings, self.still_open = settings(folder), ExitStack()
        self.files = AuditFile(folder / "data" / "audit", 0)
        (folder / "models" / "tiny-ct" / "MODEL_CARD.md").write_text("# A rule <script>alert(1)</script>\n")

    def people(self) -> None:
        self.ward.add("reader")
        self.ward.add("chief", Role.ADMINISTRATOR)

    def retry(self, uid: str) -> list[str]:
        queue = queue_of(self.settings, self.database, lambda: self.ward.now)
        return take_up_again(self.database, queue, self.ward.now, uid)

    def client(self) -> httpx.Client:
        outlet = Outlet(self.place, frozenset({"sr"}))
        app = create_app(
            self.database, Metrics(), lambda: self.ward.now, WebStyle(refresh_s=1), tuple, self.folder / "results",
            door=self.ward.door(), trail=Trail([self.kept, self.files], Source("firstlook"), "FIRSTLOOK",
                                               lambda: self.ward.now, partial(look_up, self.database)),
            administration=administration_of(
                self.settings, self.database, lambda: {"pacs": outlet, "hook": outlet}, self.retry))
        return self.still_open.enter_context(asked(app))

    def logged_in(self, name: str) -> tuple[httpx.Client, str]:
        """Return a client that is logged in, and the token of its forms."""
        client = self.client()
        assert log_in(client, name).status_code == 303
        return client, csrf(client.get("/").text)

    def close(self) -> None:
        self.files.close()
        self.still_open.close()
        self.database.close()

    def parked(self) -> Job:
        with self.database.reading() as session:
            return session.exec(select(Job).where(Job.key == "deliver:4")).one()


class Chief:
    """The administrator `chief` at the pages."""

    def __init__(self, office: Office) -> None:
        self.office = office
        self.client, self.token = office.logged_in("chief")

    def press(self, path: str, **fields: str) -> httpx.Response:
        """Press a button: post its form."""
        return self.client.post(f"/admin/{path}", data={"csrf": self.token} | fields)


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    office = Office(tmp_path)
    yield office
    office.close()


def text(page: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", page).split())


def test_the_page_shows_peers_and_parked_jobs_and_leads_to_the_others(office: Office) -> None:
    office.people()
    client, _ = office.logged_in("chief")
    page = client.get("/admin").text
    for part in ("CT_SCANNER_1 10.0.0.0/8", "pacs DICOM PACS@pacs.example:104", "hook webhook https://hook.example",
                 "Deliver to pacs", "The PACS or other receiver refused it. status 0xA900", "ACC-26004"):
        assert part in text(page), part
    assert SECRET not in page and "Moreau" not in page, "neither secrets nor patients"
    assert 'href="/admin"' in client.get("/").text
    for path in ("models", "users", "rules", "audit"):
        assert f'href="/admin/{path}"' in page and client.get(f"/admin/{path}").status_code == 200


def test_a_reader_neither_sees_the_page_nor_presses_its_buttons(office: Office) -> None:
    office.people()
    client, token = office.logged_in("reader")
    assert "/admin" not in client.get("/").text
    number = office.parked().id
    for path in ("/admin", "/admin/models", "/admin/bundles/tiny-ct", "/admin/users", "/admin/users/chief", "/admin/rules",
                 "/admin/rules.toml", "/admin/audit"):
        assert client.get(path).status_code == 403, path
    for path in ("/admin/echo/pacs", f"/admin/jobs/{number}/dismiss", "/admin/studies/1.2.3/retry", "/admin/users",
                 "/admin/users/chief/disable", "/admin/users/reader/enable", "/admin/rules", "/admin/audit"):
        assert client.post(path, data={"csrf": token, "name": "mine", "role": "administrator", "password": PASSWORD}
                           ).status_code == 403, path
    assert office.parked().state == "parked"
    with office.database.reading() as session:
        assert accounts.find(session, "mine") is None and accounts.known(session, "chief").disabled_at is None


def test_a_button_without_the_token_of_its_session_does_nothing(office: Office) -> None:
    office.people()
    client, _ = office.logged_in("chief")
    assert client.post(f"/admin/jobs/{office.parked().id}/dismiss").status_code == 403
    assert client.post("/admin/users/reader/disable", data={"csrf": "0" * 64}).status_code == 403
    assert office.parked().state == "parked"


def test_an_echo_tells_whether_a_place_answers(office: Office) -> None:
    office.people()
    client, token = office.logged_in("chief")
    assert "pacs answers." in text(client.post("/admin/echo/pacs", data={"csrf": token}).text)
    office.place.answers = False
    page = text(client.post("/admin/echo/pacs", data={"csrf": token}).text)
    assert "pacs: The PACS or other receiver did not answer. no answer within 5 s" in page
    assert client.post("/admin/echo/nowhere", data={"csrf": token}).status_code == 404


def test_a_parked_job_is_tried_again_or_dismissed(office: Office) -> None:
    office.people()
    client, token = office.logged_in("chief")
    job, uid = office.parked(), office.studies[3].study_instance_uid
    assert client.post(f"/admin/studies/{uid}/retry", data={"csrf": token}).headers["location"] == "/admin"
    assert office.parked().state == "waiting"
    with office.database.transaction() as session:
        row, study = session.get_one(Job, job.id), session.get_one(Study, job.study_id)
        row.state, study.delivery = "parked", "parked"
        session.add_all([row, study])
    assert client.post(f"/admin/jobs/{job.id}/dismiss", data={"csrf": token}).status_code == 303
    assert office.parked().state == "cancelled" and "Nothing is parked." in client.get("/admin").text
    with office.database.reading() as session:
        assert "ended it (chief)" in session.exec(select(Event.text).where(Event.stage == "dismissed")).one()
    office.retry(uid)
    with office.database.reading() as session:
        assert session.get_one(Study, job.study_id).delivery == "parked", "it never says that it is being sent"
    assert client.post("/admin/jobs/999999/dismiss", data={"csrf": token}).status_code == 303


def test_parked_jobs_are_listed_and_dismissed_by_command(office: Office, capsys: pytest.CaptureFixture[str]) -> None:
    (file := office.folder / "firstlook.toml").write_text(f"[store]\ndatabase_url = {json.dumps(office.database.url)}\n")
    job, asked = office.parked(), ["parked", "--settings", str(file)]
    assert main(asked) == 0
    said = capsys.readouterr().out
    assert f"{job.id}  " in said and office.studies[3].study_instance_uid in said and "deliver pacs" in said
    assert "peer_refused" in said and "1 parked" in said
    assert main([*asked, "--dismiss", str(job.id)]) == 0 and office.parked().state == "cancelled"
    assert main([*asked, "--dismiss", str(job.id)]) == 1
    assert main(asked) == 0 and "nothing is parked" in capsys.readouterr().out
