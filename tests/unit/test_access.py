"""Accounts, passwords, sessions, tokens and the limit on wrong logins."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from sqlmodel import select

from service.access import accounts
from service.access.accounts import AccountProblem
from service.access.door import SHARED, Door, Entered, Login, TurnedAway
from service.access.passwords import Passwords, WeakPassword
from service.access.sessions import Sessions
from service.access.throttle import Limits, Throttle
from service.domain.person import Role
from service.store.database import Database
from service.store.tables import AccessToken, Account, LoginSession, LoginTry
from tests.unit.test_store_migrations import postgres

__all__ = ["postgres"]

PASSWORD = "seven radiographs at dawn"
QUICK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
IDLE_S, LONGEST_S = 3600.0, 10_000.0


class Counting(PasswordHasher):
    """Counts the hashes that are checked: each is the same work, whatever comes of it."""

    checked = 0

    def verify(self, hash: str | bytes, password: str | bytes) -> bool:
        self.checked += 1
        return super().verify(hash, password)


class Ward:
    """A store with a reader and an administrator, and a clock that is set by hand."""

    def __init__(self, database: Database) -> None:
        self.now, self.database = 1_000_000.0, database
        self.hasher = Counting(time_cost=1, memory_cost=8, parallelism=1)
        self.passwords = Passwords(self.hasher)
        self.sessions = Sessions(database, lambda: self.now, IDLE_S, LONGEST_S)
        self.throttle = Throttle(database, lambda: self.now, Limits(window_s=900.0))

    def door(self, login: Login = Login.AUTO, shared: str = "") -> Door:
        return Door(self.database, lambda: self.now, login, shared, self.sessions, self.passwords, self.throttle)

    def add(self, name: str, role: Role = Role.READER) -> Account:
        with self.database.transaction() as session:
            kept = "" if role is Role.SERVICE else self.passwords.hash(name, PASSWORD)
            return accounts.add(session, name, role, kept, self.now)


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Ward]:
    database = Database(f"sqlite:///{tmp_path / 'access.db'}")
    database.migrate()
    yield Ward(database)
    database.close()


@pytest.mark.parametrize(("password", "says"), [
    ("short", "12 to 1024"), ("x" * 1025, "12 to 1024"), ("aaaaaaaaaaaab", "different"), ("Dr.Okafor is in", "name")])
def test_weak_passwords_are_not_taken(password: str, says: str) -> None:
    with pytest.raises(WeakPassword, match=says):
        Passwords(QUICK).hash("okafor", password)


def test_passwords_are_kept_as_argon2id_with_the_work_of_the_standard() -> None:
    kept = Passwords().hash("okafor", PASSWORD)
    assert kept.startswith("$argon2id$v=19$m=65536,t=3,p=4$") and PASSWORD not in kept
    assert Passwords().matches(kept, PASSWORD) and not Passwords().matches(kept, PASSWORD + " ")


def test_a_hash_of_less_work_is_made_anew_at_the_next_login(ward: Ward) -> None:
    ward.add("okafor")
    door = ward.door()
    stronger = Passwords(PasswordHasher(time_cost=2, memory_cost=16, parallelism=1))
    newer = Door(ward.database, lambda: ward.now, Login.AUTO, "", ward.sessions, stronger, ward.throttle)
    assert isinstance(newer.enter("okafor", PASSWORD, "::1"), Entered)
    with ward.database.reading() as session:
        assert ",t=2," in accounts.known(session, "okafor").password_hash
    assert isinstance(door.enter("okafor", PASSWORD, "::1"), Entered)


def test_a_name_that_nobody_has_costs_the_same_work_as_a_wrong_password(ward: Ward) -> None:
    ward.add("okafor")
    ward.add("robot", Role.SERVICE)
    disabled = ward.add("gone")
    with ward.database.transaction() as session:
        accounts.disable(session, disabled, ward.now)
    door, counts = ward.door(), []
    for name, password in (("okafor", "wrong one, surely"), ("nobody", PASSWORD), ("robot", ""), ("robot", "nobody"),
                           ("gone", PASSWORD), ("", "nobody")):
        before = ward.hasher.checked
        assert door.enter(name, password, "10.0.0.1") == TurnedAway(), name
        counts.append(ward.hasher.checked - before)
    assert counts == [1] * 6


def test_a_login_begins_a_session_and_leaving_ends_it(ward: Ward) -> None:
    ward.add("okafor", Role.ADMINISTRATOR)
    door = ward.door()
    entered = door.enter(" Okafor ", PASSWORD, "10.0.0.1")
    assert isinstance(entered, Entered) and entered.user.role is Role.ADMINISTRATOR
    assert ward.sessions.user(entered.token, True) == entered.user
    assert ward.sessions.user(entered.token[:-1], True) is None
    door.leave(entered.token, "okafor", "10.0.0.1")
    assert ward.sessions.user(entered.token, True) is None


def test_neither_token_nor_password_is_in_the_database(ward: Ward, tmp_path: Path) -> None:
    ward.add("okafor")
    robot = ward.add("robot", Role.SERVICE)
    entered = ward.door().enter("okafor", PASSWORD, "10.0.0.1")
    with ward.database.transaction() as session:
        token = accounts.issue_token(session, robot, ward.now, None)
    assert isinstance(entered, Entered) and ward.door().enter("my secret pass", "x", "::1") == TurnedAway()
    ward.database.close()
    kept = b"".join(file.read_bytes() for file in tmp_path.glob("access.db*"))
    assert b"okafor" in kept
    for secret in (entered.token, token, PASSWORD, "my secret pass"):
        assert secret.encode() not in kept


def test_a_session_ends_when_its_person_did_nothing_and_in_any_case_after_a_time(ward: Ward) -> None:
    ward.add("okafor")
    entered = ward.door().enter("okafor", PASSWORD, "10.0.0.1")
    assert isinstance(entered, Entered)
    ward.now += IDLE_S - 1
    assert ward.sessions.user(entered.token, active=False) is not None
    ward.now += 2
    assert ward.sessions.user(entered.token, active=True) is None, "the page's own questions do not keep it open"
    again = ward.door().enter("okafor", PASSWORD, "10.0.0.1")
    assert isinstance(again, Entered)
    began = ward.now
    while ward.now + IDLE_S / 2 < began + LONGEST_S:
        ward.now += IDLE_S / 2
        assert ward.sessions.user(again.token, active=True) is not None
    ward.now = began + LONGEST_S
    assert ward.sessions.user(again.token, active=True) is None
    ward.door().enter("okafor", PASSWORD, "10.0.0.1")
    with ward.database.reading() as session:
        assert len(session.exec(select(LoginSession)).all()) == 1, "sessions that are over are forgotten"


def test_a_new_password_and_disabling_end_every_session_and_token(ward: Ward) -> None:
    account, robot = ward.add("okafor"), ward.add("robot", Role.SERVICE)
    first = ward.door().enter("okafor", PASSWORD, "10.0.0.1")
    assert isinstance(first, Entered)
    with ward.database.transaction() as session:
        accounts.set_password(session, account, ward.passwords.hash("okafor", "another long password"), ward.now)
        token = accounts.issue_token(session, robot, ward.now, None)
    assert ward.sessions.user(first.token, True) is None and ward.door().enter("okafor", PASSWORD, "::1") == TurnedAway()
    second = ward.door().enter("okafor", "another long password", "10.0.0.1")
    assert isinstance(second, Entered) and ward.door().program(token) is not None
    with ward.database.transaction() as session:
        for one in (account, robot):
            accounts.disable(session, one, ward.now)
    assert ward.sessions.user(second.token, True) is None and ward.door().program(token) is None
    with ward.database.transaction() as session:
        accounts.enable(session, robot)
    assert ward.door().program(token) is None, "a revoked token stays revoked"


def test_a_token_holds_until_it_is_revoked_or_over(ward: Ward) -> None:
    robot, person = ward.add("robot", Role.SERVICE), ward.add("okafor")
    with ward.database.transaction() as session:
        short = accounts.issue_token(session, robot, ward.now, ward.now + 10)
        long = accounts.issue_token(session, robot, ward.now, None)
        with pytest.raises(AccountProblem, match="role service"):
            accounts.issue_token(session, person, ward.now, None)
    user = ward.door().program(short)
    assert user is not None and (user.name, user.role) == ("robot", Role.SERVICE)
    ward.now += 10
    assert ward.door().program(short) is None and ward.door().program(long) == user
    with ward.database.transaction() as session:
        assert accounts.revoke_tokens(session, robot, ward.now) == 2
        assert all(row.revoked_at == ward.now for row in session.exec(select(AccessToken)).all())
    assert ward.door().program(long) is None and ward.door().program("") is None
    assert ward.door(shared="shared").program("shared") == SHARED and ward.door().program("shared") is None


def test_too_many_wrong_tries_stop_one_name_from_one_address_only(ward: Ward) -> None:
    ward.add("okafor")
    ward.add("moreau")
    door = ward.door()
    for _ in range(5):
        assert door.enter("okafor", "wrong one, surely", "10.0.0.1") == TurnedAway()
        ward.now += 10
    before = ward.hasher.checked
    assert door.enter("okafor", PASSWORD, "10.0.0.1") == TurnedAway(wait_s=850.0)
    assert ward.hasher.checked == before, "the password is not looked at"
    assert isinstance(door.enter("okafor", PASSWORD, "10.0.0.2"), Entered), "others are not locked out"
    assert isinstance(door.enter("moreau", PASSWORD, "10.0.0.1"), Entered)
    ward.now += 849
    assert isinstance(door.enter("okafor", PASSWORD, "10.0.0.1"), TurnedAway)
    ward.now += 2
    assert isinstance(door.enter("okafor", PASSWORD, "10.0.0.1"), Entered)


def test_one_address_cannot_try_many_names_nor_many_addresses_one_name(ward: Ward) -> None:
    few = Throttle(ward.database, lambda: ward.now, Limits(of_name_from_address=2, of_name=6, from_address=4))
    assert [few.begin(f"name{n}", "10.0.0.1") > 0 for n in range(6)] == [False] * 4 + [True] * 2
    assert [few.begin("okafor", f"10.0.1.{n}") > 0 for n in range(8)] == [False] * 6 + [True] * 2
    assert [few.begin(f"v6-{n}", f"2001:db8::{n}") > 0 for n in range(6)] == [False] * 4 + [True] * 2, "a /64 is one address"


def test_a_good_login_between_wrong_ones_does_not_buy_more_tries(ward: Ward) -> None:
    ward.add("okafor")
    door, limit = ward.door(), Limits().from_address
    refused = 0
    for number in range(limit + 5):
        assert isinstance(door.enter("okafor", PASSWORD, "10.0.0.1"), Entered | TurnedAway)
        found = door.enter(f"victim{number}", "a guess of somebody", "10.0.0.1")
        refused += isinstance(found, TurnedAway) and found.wait_s > 0
    assert refused == 5


def test_tries_at_the_same_time_count_too(ward: Ward) -> None:
    ward.add("okafor")
    door = ward.door()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: door.enter("okafor", f"guess number {n}", "10.0.0.1"), range(16)))
    assert sum(isinstance(one, TurnedAway) and one.wait_s == 0 for one in found) <= 5
    ward.now += 901
    door.enter("nobody", "x", "10.0.0.9")
    with ward.database.reading() as session:
        assert len(session.exec(select(LoginTry)).all()) == 3, "old tries are forgotten"


@pytest.mark.peer
def test_on_postgresql_accounts_sessions_and_limits_are_the_same(postgres: str) -> None:
    database = Database(postgres)
    database.migrate()
    ward = Ward(database)
    ward.add("okafor", Role.ADMINISTRATOR)
    robot = ward.add("robot", Role.SERVICE)
    door = ward.door()
    entered = door.enter("okafor", PASSWORD, "10.0.0.1")
    assert isinstance(entered, Entered) and door.asks() and ward.sessions.user(entered.token, True) == entered.user
    with database.transaction() as session:
        token = accounts.issue_token(session, robot, ward.now, None)
        assert [(one.name, one.sessions, one.tokens) for one in accounts.listed(session, ward.now)] == [
            ("okafor", 1, 0), ("robot", 0, 1)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: door.enter("okafor", f"guess number {n}", "10.0.0.2"), range(16)))
    assert sum(isinstance(one, TurnedAway) and one.wait_s == 0 for one in found) <= 5
    assert door.program(token) is not None
    with database.transaction() as session:
        assert accounts.revoke_tokens(session, robot, ward.now) == 1
    assert door.program(token) is None
    database.close()


def test_the_log_names_no_password_and_no_name_that_is_not_an_account(ward: Ward, caplog: pytest.LogCaptureFixture) -> None:
    ward.add("okafor")
    with caplog.at_level(logging.DEBUG):
        for name, password in (("okafor", PASSWORD), ("okafor", "wrong one, surely"), ("my secret pass", "another secret")):
            ward.door().enter(name, password, "10.0.0.1")
    told = "".join(str(vars(record)) for record in caplog.records)
    assert "okafor" in told and "login failed" in told
    for secret in (PASSWORD, "wrong one", "my secret pass", "another secret"):
        assert secret not in told


def test_a_login_is_asked_for_once_there_is_an_account_of_a_person(ward: Ward) -> None:
    door = ward.door()
    ward.add("robot", Role.SERVICE)
    assert not door.asks() and ward.door(Login.REQUIRED).asks()
    account = ward.add("okafor")
    assert door.asks() and not ward.door(Login.OFF).asks()
    with ward.database.transaction() as session:
        accounts.disable(session, account, ward.now)
    assert ward.door().asks(), "disabling the last account does not open the pages"


@pytest.mark.parametrize("name", ["", "-a", "a b", "a" * 65, "å", "a/b", "<b>"])
def test_names_of_accounts_are_plain(name: str) -> None:
    with pytest.raises(AccountProblem, match="accepted"):
        accounts.tidy_name(name)
