"""Login, logout, roles and forms over HTTP."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from service.access import accounts
from service.access.door import Login, TurnedAway
from service.access.links import make_link
from service.domain.person import Role
from service.metrics import Metrics
from service.store.database import Database
from service.web.app import WebStyle, create_app
from service.web.login import local
from tests.browser import seed
from tests.browser.served import asked
from tests.unit.test_access import PASSWORD, Ward

HTML = {"Accept": "text/html"}
UID = str(seed.builders.uid(1, 1))


class House:
    """Pages with accounts `reader` and `chief` (administrator), and the program `robot`."""

    def __init__(self, folder: Path) -> None:
        self.database = Database(f"sqlite:///{folder / 'login.db'}")
        self.database.migrate()
        self.ward, self.folder, self.resent = Ward(self.database), folder, list[str]()
        seed.fill(self.database, self.ward.now, folder / "results")
        self.still_open = ExitStack()

    def people(self) -> None:
        self.ward.add("reader")
        self.ward.add("chief", Role.ADMINISTRATOR)

    def client(self, login: Login = Login.AUTO, token: str = "", **headers: str) -> httpx.Client:
        def resend(uid: str) -> list[str]:
            self.resent.append(uid)
            return ["pacs"]

        app = create_app(self.database, Metrics(), lambda: self.ward.now, WebStyle(access_token=token), tuple,
                         self.folder / "results", None, resend, self.ward.door(login, token))
        client = self.still_open.enter_context(asked(app))
        client.headers.update(headers)
        return client

    def logged_in(self, name: str) -> httpx.Client:
        client = self.client()
        assert log_in(client, name).status_code == 303
        return client


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.still_open.close()
    house.database.close()


def csrf(page: str) -> str:
    found = re.search(r'name="csrf" (?:value|content)="([0-9a-f]{64})"', page)
    assert found, "the page has no token for forms"
    return found[1]


def log_in(client: httpx.Client, name: str, password: str = PASSWORD, wanted: str = "/") -> httpx.Response:
    form = csrf(client.get("/login").text)
    return client.post("/login", data={"name": name, "password": password, "csrf": form, "next": wanted})


def test_without_accounts_the_pages_are_open_on_loopback_as_ever(house: House) -> None:
    client = house.client()
    assert client.get("/").status_code == 200 and "Log out" not in client.get("/").text
    assert client.post(f"/api/studies/{UID}/resend").status_code == 200
    assert client.get("/login").headers["location"] == "/"
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 421


def test_with_an_account_nothing_is_shown_without_a_login(house: House) -> None:
    house.people()
    client = house.client()
    for path in ("/", "/rows", f"/studies/{UID}", "/api/worklist", f"/api/studies/{UID}", "/metrics", "/effect",
                 "/api/openapi.json", "/nowhere", "/login/x", "/loginx", "/logout", "/static", "//static/x"):
        answer = client.get(path)
        assert answer.status_code == 401 and answer.text == "A login is needed.\n", path
        assert client.post(path).status_code == 401, path
    answer = client.get(f"/studies/{UID}?theme=light", headers=HTML)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/login?next=%2Fstudies%2F{UID}%3Ftheme%3Dlight")
    assert client.get("/rows", headers=HTML | {"Sec-Fetch-Mode": "cors"}).status_code == 401, "a script is told so"
    for path in ("/health/live", "/static/style.css", "/login"):
        assert client.get(path).status_code == 200, path


def test_a_login_that_is_required_says_how_the_first_account_is_made(house: House) -> None:
    client = house.client(Login.REQUIRED)
    assert client.get("/").status_code == 401
    assert "firstlook users add" in client.get("/login").text and "<form" not in client.get("/login").text


def test_a_good_login_leads_to_the_page_that_was_wanted(house: House) -> None:
    house.people()
    client = house.client()
    answer = log_in(client, "Reader", wanted=f"/studies/{UID}")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/studies/{UID}")
    cookie = next(one for one in answer.headers.get_list("set-cookie") if one.startswith("firstlook-session="))
    assert "HttpOnly" in cookie and "SameSite=lax" in cookie and "Path=/;" in cookie and "Secure" not in cookie
    assert "Max-Age" not in cookie and "expires" not in cookie, "it ends with the browser"
    page = client.get("/").text
    assert "reader</span>" in page and "Log out" in page
    assert client.get("/login").headers["location"] == "/"


def test_over_https_the_cookies_are_secure_and_browsers_are_told_to_stay(house: House) -> None:
    house.people()
    client = house.client(**{"X-Forwarded-Proto": "https"})
    shown = client.get("/login")
    assert "Secure" in shown.headers["set-cookie"] and "SameSite=strict" in shown.headers["set-cookie"]
    assert "max-age=" in shown.headers["strict-transport-security"]
    form = shown.headers["set-cookie"].partition(";")[0]  # the client does not send a Secure cookie over http
    answer = client.post("/login", headers={"Cookie": form},
                         data={"name": "reader", "password": PASSWORD, "csrf": csrf(shown.text)})
    session = next(one for one in answer.headers.get_list("set-cookie") if one.startswith("firstlook-session="))
    assert "Secure" in session and "HttpOnly" in session


def test_each_login_has_a_token_of_its_own_and_the_old_one_ends_with_the_logout(house: House) -> None:
    house.people()
    client = house.logged_in("reader")
    first = client.cookies["firstlook-session"]
    other = house.logged_in("reader")
    assert other.cookies["firstlook-session"] != first and len(first) == 43
    assert client.post("/logout", data={"csrf": csrf(client.get("/").text)}).headers["location"] == "/login"
    assert client.get("/", headers={"Cookie": f"firstlook-session={first}"}).status_code == 401
    assert other.get("/").status_code == 200


@pytest.mark.parametrize(("name", "password"), [
    ("reader", "a guess of mine"), ("nobody", PASSWORD), ("", ""), ("reader", "")])
def test_a_wrong_login_tells_nothing_but_that_it_is_wrong(house: House, name: str, password: str) -> None:
    house.people()
    client = house.client()
    answer = log_in(client, name, password)
    assert answer.status_code == 401 and "Name or password is wrong." in answer.text
    assert "firstlook-session" not in client.cookies
    if password:
        assert password not in answer.text


def test_a_login_form_without_its_token_is_not_judged(house: House) -> None:
    house.people()
    client = house.client()
    good = {"name": "reader", "password": PASSWORD}
    client.get("/login")
    assert client.post("/login", data=good).status_code == 403
    assert client.post("/login", data=good | {"csrf": "0" * 64}).status_code == 403
    stranger = house.client()
    assert client.post("/login", data=good | {"csrf": csrf(stranger.get("/login").text)}).status_code == 403
    token = csrf(client.get("/login").text)
    assert client.post("/login", json=good | {"csrf": token}).status_code == 403
    assert client.post("/login", content=b"x" * 100_000).status_code == 413
    assert client.post("/login", data=good | {"csrf": token}, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert "firstlook-session" not in client.cookies


def test_too_many_wrong_logins_are_told_for_how_long(house: House) -> None:
    house.people()
    client = house.client()
    for _ in range(5):
        assert log_in(client, "reader", "wrong").status_code == 401
    answer = log_in(client, "reader")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "900")
    assert "Wait 15 min" in answer.text


def test_a_proxy_that_is_believed_names_the_address_that_is_limited(house: House) -> None:
    house.people()
    client = house.client(**{"X-Forwarded-For": "10.0.0.1"})
    for _ in range(5):
        log_in(client, "reader", "wrong")
    assert log_in(client, "reader").status_code == 429
    assert log_in(house.client(**{"X-Forwarded-For": "10.0.0.2"}), "reader").status_code == 303


def test_a_form_without_the_token_of_its_session_changes_nothing(house: House) -> None:
    house.people()
    client, other = house.logged_in("chief"), house.logged_in("chief")
    path, stolen = f"/studies/{UID}/resend", csrf(other.get("/").text)
    for body in ({}, {"csrf": ""}, {"csrf": stolen}, {"csrf": client.cookies["firstlook-session"]}):
        answer = client.post(path, data=body)
        assert answer.status_code == 403 and "not of your session" in answer.text, body
    assert client.post(path, json={"csrf": csrf(client.get("/").text)}).status_code == 403
    assert client.post(path, headers={"X-CSRF-Token": stolen}).status_code == 403
    assert client.post(path, content=b"a" * 70_000).status_code == 413
    assert client.post("/logout").status_code == 403
    assert house.resent == []


def test_an_administrator_sends_again_and_a_reader_may_not(house: House) -> None:
    house.people()
    chief, reader = house.logged_in("chief"), house.logged_in("reader")
    token = csrf(chief.get(f"/studies/{UID}").text)
    assert chief.post(f"/studies/{UID}/resend", data={"csrf": token}).status_code == 303
    assert chief.post(f"/api/studies/{UID}/resend", headers={"X-CSRF-Token": token}).status_code == 200
    assert house.resent == [UID, UID]
    page = reader.get(f"/studies/{UID}").text
    assert "/resend" in chief.get(f"/studies/{UID}").text and "/resend" not in page
    for path, answer in ((f"/studies/{UID}/resend", "administrator"), (f"/api/studies/{UID}/resend", "administrator")):
        refused = reader.post(path, headers={"X-CSRF-Token": csrf(page)})
        assert refused.status_code == 403 and answer in refused.text
    assert house.resent == [UID, UID]


def test_a_session_that_is_over_leads_to_the_login(house: House) -> None:
    house.people()
    client = house.logged_in("reader")
    house.ward.now += 3600.0
    assert client.get("/", headers=HTML).headers["location"] == "/login?next=%2F"
    assert house.client(Cookie=f"firstlook-session={'x' * 5000}").get("/").status_code == 401


def test_a_page_that_asks_by_itself_does_not_keep_a_session_alive(house: House) -> None:
    house.people()
    client = house.logged_in("reader")
    for _ in range(4):
        house.ward.now += 1000
        last = client.get("/rows", headers={"Sec-Fetch-Mode": "cors"})
    assert last.status_code == 401
    client = house.logged_in("reader")
    form = {"text": "okafor", "csrf": csrf(client.get("/").text)}
    for _ in range(4):
        house.ward.now += 1000
        last = client.post("/rows", data=form, headers={"Sec-Fetch-Mode": "cors"})
    assert last.status_code == 401, "a search that is asked again and again does not either"
    client = house.logged_in("reader")
    for _ in range(4):
        house.ward.now += 1000
        assert client.get("/", headers={"Sec-Fetch-Mode": "navigate"}).status_code == 200


def test_a_program_reads_by_its_token_until_it_is_revoked(house: House) -> None:
    house.people()
    robot = house.ward.add("robot", Role.SERVICE)
    with house.database.transaction() as session:
        token = accounts.issue_token(session, robot, house.ward.now, None)
    client = house.client(Authorization=f"Bearer {token}")
    assert client.get("/api/worklist").status_code == 200 and client.get("/metrics").status_code == 200
    refused = client.post(f"/api/studies/{UID}/resend")
    assert refused.status_code == 403 and "only reads" in refused.text and house.resent == []
    with house.database.transaction() as session:
        accounts.revoke_tokens(session, robot, house.ward.now)
    refused = client.get("/api/worklist")
    assert refused.status_code == 401 and refused.headers["www-authenticate"] == "Bearer"


def test_the_shared_token_only_reads_where_people_log_in(house: House) -> None:
    client = house.client(token="shared", Authorization="Bearer shared")
    assert client.post(f"/api/studies/{UID}/resend").status_code == 200, "without accounts it does all, as ever"
    house.people()
    assert client.get("/api/worklist").status_code == 200
    assert client.post(f"/api/studies/{UID}/resend").status_code == 403
    assert client.get("/", headers={"Authorization": "Bearer other"}).status_code == 401


def test_login_off_leaves_all_to_the_token(house: House) -> None:
    house.people()
    client = house.client(Login.OFF, "shared")
    assert client.get("/").headers["www-authenticate"].startswith("Basic")
    assert client.get("/", auth=("x", "shared")).status_code == 200


@pytest.mark.parametrize("path", [
    "//evil.example", "https://evil.example", "/\\evil.example", "evil", "", "/a\r\nX: y", "/å", "/login?next=/", "/logout"])
def test_a_login_never_leads_to_another_site(path: str) -> None:
    assert local(path) == "/"


def test_no_patient_and_no_secret_is_logged(house: House, caplog: pytest.LogCaptureFixture) -> None:
    house.people()
    with caplog.at_level(logging.DEBUG):
        client = house.logged_in("reader")
        client.get(f"/studies/{UID}")
        log_in(house.client(), "reader", "wrong")
    told = "".join(str(vars(record)) for record in caplog.records if record.name.startswith("firstlook"))
    assert "login" in told
    for secret in ("Okafor", PASSWORD, client.cookies["firstlook-session"]):
        assert secret not in told


def test_a_link_lets_in_once_and_only_by_its_button(house: House) -> None:
    house.people()
    with house.database.transaction() as session:
        key = make_link(session, accounts.known(session, "chief"), house.ward.now)
    client = house.client()
    for _ in range(2):
        shown = client.get("/login/once", params={"key": key})
        assert shown.status_code == 200 and "chief" in shown.text, "looking at it uses nothing up"
    assert client.post("/login/once", data={"key": key}).status_code == 403, "another site's form has no token"
    shown = client.get("/login/once", params={"key": key})
    entered = client.post("/login/once", data={"key": key, "csrf": csrf(shown.text)})
    assert entered.status_code == 303 and "chief" in client.get("/").text
    other = house.client()
    gone = other.get("/login/once", params={"key": key})
    assert gone.status_code == 404 and "used already" in gone.text
    assert other.post("/login/once", data={"key": key, "csrf": csrf(client.get("/").text)}).status_code == 403


@pytest.mark.parametrize("how", ["over", "disabled", "unknown"])
def test_a_link_that_does_not_hold_lets_nobody_in(house: House, how: str) -> None:
    house.people()
    with house.database.transaction() as session:
        account = accounts.known(session, "reader")
        key = make_link(session, account, house.ward.now)
        if how == "disabled":
            accounts.disable(session, account, house.ward.now)
    house.ward.now += 601 if how == "over" else 0
    client = house.client()
    key = "x" if how == "unknown" else key
    assert client.get("/login/once", params={"key": key}).status_code == 404
    assert isinstance(house.ward.door().enter_by_link(key, "10.0.0.1"), TurnedAway)


def test_no_link_is_made_for_a_program(house: House) -> None:
    robot = house.ward.add("robot", Role.SERVICE)
    with house.database.transaction() as session, pytest.raises(accounts.AccountProblem, match="program"):
        make_link(session, robot, 1.0)
