"""Accounts on the administrator's pages: what each button does, who may press it, and what the audit trail says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.access import accounts
from service.access.door import Entered, TurnedAway
from service.cli import main
from service.domain.person import Role
from tests.unit.test_access import PASSWORD
from tests.unit.test_web_admin import Chief, Office, text
from tests.unit.test_web_login import csrf, log_in

OTHER = "nine other plates at dusk"
ACTS = ("role", "password", "logout", "token", "revoke", "disable", "enable")
TOKEN = re.compile(r'<code id="token">([\w-]+)</code>')


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    office = Office(tmp_path)
    office.people()
    office.ward.add("robot", Role.SERVICE)
    yield office
    office.close()


class Desk(Chief):
    """The chief at the pages of accounts."""

    def told(self) -> list[tuple[str, str, str]]:
        """Return what the audit trail has of accounts: the type of the event, the account, and what was done."""
        found = []
        for line in self.office.kept.lines:
            one = line.decode()
            if 'csd-code="110113"' in one and 'csd-code="110127"' not in one:
                type, name, said = (re.search(pattern, one) for pattern in (
                    r'EventTypeCode csd-code="(\d+)"', r'ParticipantObjectID="([^"]*)"', r"OutcomeDescription>([^<]*)<"))
                assert type and name and said and 'UserID="chief"' in one and 'NetworkAccessPointID="127.0.0.1"' in one
                found.append((type[1], name[1], said[1]))
        return found


@pytest.fixture
def desk(office: Office) -> Desk:
    return Desk(office)


def test_accounts_are_listed_with_what_holds(desk: Desk) -> None:
    page = text(desk.client.get("/admin/users").text)
    assert "chief administrator" in page and "robot service" in page and "reader reader" in page


def test_accounts_are_made_disabled_and_enabled_and_the_audit_trail_knows(desk: Desk) -> None:
    new, door = {"name": "Moreau", "role": "reader", "password": PASSWORD}, desk.office.ward.door()
    assert desk.press("users", **new).status_code == 303
    assert isinstance(door.enter("moreau", PASSWORD, "10.0.0.1"), Entered)
    for change, says in (
            ({}, "already"), ({"name": "two words"}, "accepted"), ({"name": "x", "password": "a"}, "12 to 1024")):
        answer = desk.press("users", **new | change)
        assert answer.status_code == 400 and says in answer.text and PASSWORD not in answer.text
    assert desk.press("users", **new | {"name": "x", "role": "service"}).status_code == 400
    assert desk.press("users/moreau/disable").status_code == 303
    assert door.enter("moreau", PASSWORD, "10.0.0.1") == TurnedAway()
    assert desk.press("users/moreau/enable").status_code == 303
    assert desk.press("users/chief/disable").status_code == 409
    assert [desk.press(f"users/nobody/{act}", role="reader").status_code for act in ACTS] == [404] * len(ACTS)
    assert desk.press("users/moreau/promote").status_code == desk.client.get("/admin/users/nobody").status_code == 404
    assert desk.told() == [("110136", "moreau", "made, reader"), ("110137", "moreau", "disabled"),
                           ("110137", "moreau", "enabled")]


def test_another_role_holds_at_once_and_ends_the_sessions(desk: Desk) -> None:
    theirs, _ = desk.office.logged_in("reader")
    assert "reader is administrator now" in text(desk.press("users/reader/role", role="administrator").text)
    assert theirs.get("/admin").status_code in (303, 401), "the session of before is over"
    assert log_in(theirs, "reader").status_code == 303 and theirs.get("/admin").status_code == 200
    assert desk.press("users/reader/role", role="reader").status_code == 200
    assert desk.told() == [("110136", "reader", "role administrator; sessions ended"),
                           ("110136", "reader", "role reader; sessions ended")]
    for name, role, status, says in (
            ("reader", "reader", 400, "already"), ("reader", "service", 400, "reader, administrator"),
            ("reader", "", 400, "accepted"), ("robot", "reader", 400, "a program stays a program"),
            ("chief", "reader", 409, "logged in with")):
        answer = desk.press(f"users/{name}/role", role=role)
        assert answer.status_code == status and says in answer.text, (name, role)
    assert len(desk.told()) == 2, "what was refused changed nothing"


def test_the_last_administrator_stays_one(office: Office) -> None:
    office.ward.add("second", Role.ADMINISTRATOR)
    with office.database.transaction() as session:
        accounts.change_role(session, accounts.known(session, "second"), Role.READER)
        with pytest.raises(accounts.AccountProblem, match="chief is the last administrator"):
            accounts.change_role(session, accounts.known(session, "chief"), Role.READER)
        with pytest.raises(accounts.AccountProblem, match="chief is the last administrator"):
            accounts.keep_an_administrator(session, accounts.known(session, "chief"))
        accounts.change_role(session, accounts.known(session, "second"), Role.ADMINISTRATOR)
        accounts.disable(session, accounts.known(session, "second"), 1.0)
        with pytest.raises(accounts.AccountProblem):
            accounts.keep_an_administrator(session, accounts.known(session, "chief"))
        accounts.keep_an_administrator(session, accounts.known(session, "second"))


def test_who_comes_from_the_identity_provider_keeps_the_role_of_the_groups(desk: Desk) -> None:
    with desk.office.database.transaction() as session:
        account = accounts.known(session, "reader")
        account.subject = "0" * 64
        session.add(account)
    page = desk.client.get("/admin/users/reader").text
    assert "/role" not in page and "/password" not in page and "from the groups at the identity provider" in text(page)
    answer = desk.press("users/reader/role", role="administrator")
    assert answer.status_code == 400 and "identity provider" in answer.text
    answer = desk.press("users/reader/password", password=OTHER, again=OTHER)
    assert answer.status_code == 400 and "no password here" in answer.text and not desk.told()


def test_a_new_password_is_taken_twice_and_ends_the_sessions(desk: Desk) -> None:
    theirs, _ = desk.office.logged_in("reader")
    for password, again, says in ((OTHER, OTHER + "x", "differ"), ("short", "short", "12 to 1024"), ("", "", "12 to 1024")):
        answer = desk.press("users/reader/password", password=password, again=again)
        assert answer.status_code == 400 and says in answer.text and OTHER not in answer.text
    assert theirs.get("/").status_code == 200
    assert desk.press("users/robot/password", password=OTHER, again=OTHER).status_code == 400
    answer = desk.press("users/reader/password", password=OTHER, again=OTHER)
    assert answer.status_code == 200 and OTHER not in answer.text and theirs.get("/").status_code == 401
    door = desk.office.ward.door()
    assert isinstance(door.enter("reader", OTHER, "10.0.0.1"), Entered)
    assert desk.told() == [("110137", "reader", "new password; sessions ended")]
    assert OTHER.encode() not in b"".join(desk.office.kept.lines)
    assert desk.press("users/chief/password", password=OTHER, again=OTHER).headers["location"] == "/login"
    assert desk.client.get("/admin").status_code == 401, "so has whoever changes their own"


def test_sessions_of_an_account_are_ended(desk: Desk) -> None:
    theirs = [desk.office.logged_in("reader")[0] for _ in range(2)]
    assert "End all 2 sessions" in text(desk.client.get("/admin/users/reader").text)
    assert "Sessions of reader ended: 2." in text(desk.press("users/reader/logout").text)
    assert [one.get("/").status_code for one in theirs] == [401, 401]
    assert desk.told() == [("110137", "reader", "sessions ended")]
    assert desk.press("users/chief/logout").headers["location"] == "/login" and desk.client.get("/").status_code == 401


def test_a_token_is_shown_once_reads_and_is_revoked(desk: Desk) -> None:
    office, shown = desk.office, TOKEN.search(desk.press("users/robot/token", days="2").text)
    assert shown and shown[1] not in desk.client.get("/admin/users/robot").text
    assert shown[1].encode() not in b"".join(office.kept.lines)
    door = office.ward.door()
    found = door.program(shown[1])
    assert found is not None and found.name == "robot" and found.role is Role.SERVICE
    office.ward.now += 2 * 86400 + 1
    assert door.program(shown[1]) is None, "its time is over"
    office.ward.now -= 2 * 86400 + 1
    lasting = TOKEN.search(desk.press("users/robot/token", days="").text)
    assert lasting and "Tokens of robot revoked: 2." in text(desk.press("users/robot/revoke").text)
    assert door.program(lasting[1]) is None
    for days in ("0", "3651", "-1", "1.5", "two", "²", "99999999999"):
        answer = desk.press("users/robot/token", days=days)
        assert answer.status_code == 400 and "1 to 3650" in answer.text and not TOKEN.search(answer.text)
    answer = desk.press("users/reader/token")
    assert answer.status_code == 400 and "role service" in answer.text
    assert [what for _, _, what in desk.told()] == ["new token", "new token", "tokens revoked"]


def test_a_program_is_made_with_its_first_token(desk: Desk) -> None:
    shown = TOKEN.search(desk.press("programs", name="Prometheus", days="365").text)
    assert shown and desk.office.ward.door().program(shown[1]) is not None
    for fields, says in (({"name": "prometheus"}, "already"), ({"name": "two words"}, "accepted"),
                         ({"name": "other", "days": "0"}, "1 to 3650")):
        answer = desk.press("programs", **fields)
        assert answer.status_code == 400 and says in answer.text
    with desk.office.database.reading() as session:
        assert accounts.find(session, "other") is None
    assert desk.told() == [("110136", "prometheus", "made, service"), ("110137", "prometheus", "new token")]


def test_a_reader_or_a_form_of_another_session_changes_no_account(desk: Desk) -> None:
    theirs, token = desk.office.logged_in("reader")
    forms = {"users": {"name": "mine", "role": "administrator", "password": PASSWORD}, "programs": {"name": "mine"}} | {
        f"users/{name}/{act}": {"role": "administrator", "password": OTHER, "again": OTHER}
        for name in ("reader", "chief", "robot") for act in ACTS}
    for path, sent in forms.items():
        assert theirs.post(f"/admin/{path}", data=sent | {"csrf": token}).status_code == 403, path
        for wrong in ({}, {"csrf": "0" * 64}, {"csrf": token}):
            assert desk.client.post(f"/admin/{path}", data=sent | wrong).status_code == 403, path
    assert not desk.told()
    refused = [line.decode() for line in desk.office.kept.lines if b'csd-code="110127"' in line]
    for who in ("reader", "chief"):
        assert sum(f'UserID="{who}"' in one for one in refused) == len(forms), "each refusal is told, once a minute"
    with desk.office.database.reading() as session:
        assert accounts.find(session, "mine") is None and accounts.known(session, "chief").disabled_at is None
        assert accounts.known(session, "reader").role == "reader"
    assert theirs.get("/").status_code == 200 and csrf(desk.client.get("/").text) == desk.token


def test_where_nobody_logs_in_accounts_are_made_by_command_only(tmp_path: Path) -> None:
    office = Office(tmp_path)
    client = office.client()
    assert "firstlook users add" in client.get("/admin/users").text
    answer = client.post("/admin/users", data={"name": "x", "role": "administrator", "password": PASSWORD})
    assert answer.status_code == 403 and client.get("/").status_code == 200
    office.close()


def test_role_and_sessions_are_changed_by_command_too(office: Office, capsys: pytest.CaptureFixture[str]) -> None:
    office.logged_in("reader")
    (file := office.folder / "firstlook.toml").write_text(
        f'[store]\ndatabase_url = "{office.database.url}"\ndata_dir = "{office.folder / "data"}"\n')

    def users(*words: str) -> int:
        return main(["users", *words, "--settings", str(file)])

    assert users("logout", "reader") == 0 and "1 sessions ended" in capsys.readouterr().out
    assert users("role", "chief", "--role", "reader") == 1
    assert "chief is the last administrator" in capsys.readouterr().err
    assert users("role", "reader", "--role", "administrator") == 0 and "administrator now" in capsys.readouterr().out
    assert users("role", "chief", "--role", "reader") == 0
    capsys.readouterr()
    assert users("disable", "reader") == 0, "an account that was taken over is closed whatever comes of it"
    assert "nobody can administer the pages now" in capsys.readouterr().out
