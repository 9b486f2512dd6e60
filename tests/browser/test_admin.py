"""Login and the administrator's page in Chromium: both themes, and an administrator's way through them.

FIRSTLOOK_SCREENSHOTS names a folder that keeps the pictures.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from service.domain.person import Role
from tests.browser.chromium import Tab, new_tab
from tests.browser.test_pages import CONTRAST
from tests.flow.test_switch import whole_bundle
from tests.unit.test_access import PASSWORD
from tests.unit.test_web_admin import Office

pytestmark = pytest.mark.peer


class Room:
    """The office, a browser at it, and where pictures are kept."""

    def __init__(self, office: Office, tab: Tab, pictures: Path) -> None:
        self.office, self.tab, self.pictures = office, tab, pictures
        self.address = str(office.client().base_url).rstrip("/")

    def fill(self, **fields: str) -> None:
        """Type into the fields of the form."""
        for name, value in fields.items():
            self.tab.fill(f"main [name={name}]", value)

    def log_in(self, name: str, password: str = PASSWORD) -> None:
        """Fill in the login form that is shown, and send it."""
        self.fill(name=name, password=password)
        self.press("main form button")

    def press(self, selector: str) -> None:
        """Press a button, and wait until the page that it leads to is there."""
        self.tab.follow(selector)


@pytest.fixture
def room(tmp_path: Path, chromium: Browser) -> Iterator[Room]:
    office = Office(tmp_path)
    office.people()
    pictures = Path(os.environ.get("FIRSTLOOK_SCREENSHOTS", tmp_path))
    pictures.mkdir(parents=True, exist_ok=True)
    with new_tab(chromium) as tab:
        yield Room(office, tab, pictures)
    office.still_open.close()
    office.database.close()


def test_login_and_administration_are_readable_in_both_themes(room: Room) -> None:
    for theme in ("dark", "light"):
        room.tab.open(f"{room.address}/login?theme={theme}")
        _look(room, f"login-{theme}")
    room.log_in("chief", "not the password")
    _look(room, "login-wrong")
    room.log_in("chief")
    room.office.ward.add("robot", Role.SERVICE)
    for name, path in (("admin", ""), ("card", "/bundles/tiny-ct"), ("models", "/models"), ("users", "/users"),
                       ("user", "/users/reader"), ("program", "/users/robot"), ("rules", "/rules"), ("audit", "/audit")):
        room.tab.size(1280, 1300 if name == "rules" else 900)
        for theme in ("dark", "light"):
            room.tab.open(f"{room.address}/admin{path}?theme={theme}")
            _look(room, f"{name}-{theme}")
    room.tab.size(3840, 2160)
    room.tab.open(f"{room.address}/admin?theme=dark")
    _look(room, "admin-dark-3840")


def _look(room: Room, name: str) -> None:
    room.tab.photograph(room.pictures / f"{name}.png")
    assert room.tab.ask(CONTRAST) == [], "every text has a contrast of 4.5 at least (WCAG AA)"
    assert room.tab.ask("document.documentElement.scrollWidth <= innerWidth"), "nothing is cut off at the side"
    fields = "[...document.querySelectorAll('main input:not([type=hidden]), select, textarea')]"
    assert room.tab.ask(f"{fields}.filter(i => !i.labels.length).length") == 0, "every field has a label"


def test_an_administrator_logs_in_asks_a_place_dismisses_a_job_and_leaves(room: Room) -> None:
    room.tab.open(f"{room.address}/login?next=%2Fadmin")
    room.log_in("chief")
    room.tab.wait("location.pathname == '/admin'")
    assert "firstlook-session" not in room.tab.ask("document.cookie"), "no script reads the session"
    room.press("form[action='/admin/echo/pacs'] button")
    assert room.tab.ask("document.querySelector('.told').innerText") == "pacs answers."
    room.press("form[action$='/dismiss'] button")
    assert "Nothing is parked." in room.tab.ask("document.body.innerText")
    room.press("a[href='/admin/users']")
    room.fill(name="moreau", password=PASSWORD)
    room.press("form.person button")
    assert "moreau" in room.tab.ask("document.querySelector('main').innerText")
    room.press("form.leave button")
    room.tab.wait("location.pathname == '/login'")


def test_an_administrator_switches_models_back_again_and_changes_accounts(room: Room) -> None:
    for name in ("next-cxr", "other-cxr"):
        whole_bundle(room.office.folder, room.office.folder / "models" / name)
    room.tab.open(f"{room.address}/login?next=%2Fadmin%2Fmodels")
    room.log_in("chief")
    room.tab.wait("location.pathname == '/admin/models'")
    room.tab.choose("select[name=place-next-cxr]", "1")
    room.press("#cxr button[name=switch]")
    assert "next-cxr begins" in room.tab.ask("document.querySelector('#change').innerText")
    for theme in ("dark", "light"):
        room.tab.ask(f"document.documentElement.dataset.theme = '{theme}'")
        _look(room, f"switch-{theme}")
    room.press("main form button")
    row = "[...document.querySelectorAll('#cxr tbody tr')].find(r => r.innerText.includes('next-cxr')).innerText"
    assert room.tab.ask("location.pathname") == "/admin/models" and "leads" in room.tab.ask(row)
    room.press("button[name=begin][value=other-cxr]")
    room.press("main form button")
    room.press("#cxr button[formaction$=rollback]")
    room.press("main form button")
    assert "not in use" in room.tab.ask(row)
    for theme in ("dark", "light"):
        room.tab.ask(f"document.documentElement.dataset.theme = '{theme}'")
        _look(room, f"switched-{theme}")
    room.press("a[href='/admin/users']")
    room.fill(days="30")
    room.tab.fill("form.program [name=name]", "prometheus")
    room.press("form.program button")
    token = room.tab.ask("document.querySelector('#token').innerText")
    assert room.office.ward.door().program(token) is not None
    _look(room, "token")
    room.press("a[href='/admin/users/prometheus']")
    assert token not in room.tab.ask("document.body.innerText"), "it is shown once"
    room.press("form.revoke button")
    assert room.office.ward.door().program(token) is None
    room.tab.open(f"{room.address}/admin/users/reader")
    room.press("form.role button")
    assert room.tab.ask("document.querySelector('.told').innerText").startswith("reader is administrator now")


def test_an_administrator_tries_rules_on_past_studies_and_looks_who_saw_whom(room: Room) -> None:
    room.tab.open(f"{room.address}/login?next=%2Fadmin")
    room.log_in("chief")
    room.tab.wait("location.pathname == '/admin'")
    room.tab.open(f"{room.address}/studies/{room.office.studies[0].study_instance_uid}")
    room.tab.open(f"{room.address}/admin")
    room.press("a[href='/admin/rules']")
    room.fill(text='[[rule]]\nname = "every CT"\nurgency = "stat"\nmodality = "^CT$"\n')
    room.press("form.trial button")
    assert "every CT" in room.tab.ask("document.querySelector('#found').innerText")
    for theme in ("dark", "light"):
        room.tab.ask(f"document.documentElement.dataset.theme = '{theme}'")
        _look(room, f"rules-tried-{theme}")
    room.tab.open(f"{room.address}/admin/audit")
    room.fill(patient=room.office.studies[0].patient_id)
    room.press("form.new button")
    assert "chief" in room.tab.ask("document.querySelector('#trail').innerText")
    assert room.tab.ask("location.search") == "", "whom it is about stands in no address"


def test_a_reader_marks_a_study_with_the_token_of_the_session(room: Room) -> None:
    room.tab.open(f"{room.address}/login")
    room.log_in("reader")
    uid = room.office.studies[0].study_instance_uid
    room.tab.wait("document.querySelectorAll('tr[data-uid]').length > 0")
    assert not room.tab.ask("!!document.querySelector('a.admin')")
    room.tab.press("j")
    room.tab.press("m")
    room.tab.wait(f"!document.querySelector('tr[data-uid=\"{uid}\"]')")


def test_the_list_leads_to_the_login_when_a_session_is_over(room: Room) -> None:
    room.tab.open(f"{room.address}/login")
    room.log_in("reader")
    room.tab.wait("document.querySelectorAll('tr[data-uid]').length > 0")
    room.office.ward.now += 20_000
    room.tab.wait("location.pathname == '/login' && document.readyState == 'complete'")
    room.log_in("reader")
    room.tab.wait("location.pathname == '/' && document.querySelectorAll('tr[data-uid]').length > 0")
