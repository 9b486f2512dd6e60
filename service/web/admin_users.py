"""The accounts on the administrator's pages: made, changed, logged out, disabled; tokens of programs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from sqlmodel import Session
from starlette.concurrency import run_in_threadpool

from service.access import accounts
from service.access.accounts import AccountProblem
from service.access.door import Door
from service.access.passwords import LEAST, MOST, WeakPassword
from service.audit.events import ATTRIBUTES_CHANGED, ROLES_CHANGED
from service.audit.message import Code
from service.audit.trail import Trail
from service.domain.person import Role, User
from service.store.database import Database
from service.store.tables import Account
from service.web import words
from service.web.actions import an_administrator, only_administrators
from service.web.entrance import address_of
from service.web.forms import fields_of
from service.web.page import Pages

Sent = dict[str, str]
MOST_DAYS = 3650
_COMMAND = "Where nobody logs in, accounts are made by command: firstlook users add."


class _Own(Exception):
    """What nobody does to the account that he is logged in with."""


class _Desk:
    """Shows the accounts, and changes them: each change in one transaction, then told in the audit trail."""

    def __init__(self, database: Database, clock: Callable[[], float], pages: Pages, door: Door, trail: Trail) -> None:
        self._database, self._clock, self._pages, self._door, self._trail = database, clock, pages, door, trail

    def page(self, request: Request, told: str = "", bad: bool = False, status: int = 200, token: str = "") -> HTMLResponse:
        """Return all accounts. told: what happened; bad: it went wrong; token: of a program, to be shown this once."""
        now = self._clock()
        with self._database.reading() as session:
            people = [(one, words.clock_time(one.created_at, now)) for one in accounts.listed(session, now)]
        return self._pages.answer(
            request, "admin_users.html", status, now=now, told=told, bad=bad, token=token, people=people,
            roles=[role.value for role in accounts.PEOPLE], least=LEAST, most=MOST, most_days=MOST_DAYS)

    def one(self, request: Request, name: str, told: str = "", bad: bool = False, status: int = 200,
            token: str = "") -> HTMLResponse:
        """Return the page of one account; the rest as `page`. Raises: HTTPException 404."""
        now = self._clock()
        with self._database.reading() as session:
            found = next((line for line in accounts.listed(session, now) if line.name == name), None)
        if found is None:
            raise HTTPException(404, "There is no such account here.")
        return self._pages.answer(
            request, "admin_user.html", status, now=now, told=told, bad=bad, token=token, one=found,
            made=words.clock_time(found.created_at, now), disabled=words.clock_time(found.disabled_at, now),
            roles=[role.value for role in accounts.PEOPLE if role.value != found.role], least=LEAST, most=MOST,
            most_days=MOST_DAYS)

    def add(self, request: Request, by: User, sent: Sent) -> Any:
        """Make an account of a person."""
        role = sent.get("role", "")
        if role not in accounts.PEOPLE:
            raise HTTPException(400, f"role: accepted: {', '.join(accounts.PEOPLE)}")
        name = accounts.tidy_name(sent.get("name", ""))
        kept = self._door.passwords.hash(name, sent.get("password", ""))
        with self._database.transaction() as session:
            accounts.add(session, name, Role(role), kept, self._clock())
        self._tell(request, by, name, f"made, {role}", ROLES_CHANGED)
        return _to(request, "/admin/users")

    def add_program(self, request: Request, by: User, sent: Sent) -> HTMLResponse:
        """Make an account of a program, and show its token."""
        name, ends_at = accounts.tidy_name(sent.get("name", "")), self._ends_at(sent)
        with self._database.transaction() as session:
            account = accounts.add(session, name, Role.SERVICE, "", self._clock())
            token = accounts.issue_token(session, account, self._clock(), ends_at)
        self._tell(request, by, name, f"made, {Role.SERVICE.value}", ROLES_CHANGED)
        self._tell(request, by, name, "new token")
        return self.page(request, f"{name} was made.", token=token)

    def role(self, request: Request, by: User, name: str, sent: Sent) -> Any:
        """Give a person another role."""
        role = sent.get("role", "")
        if role not in accounts.PEOPLE:
            raise AccountProblem(f"role: accepted: {', '.join(accounts.PEOPLE)}")
        if name == by.name:
            raise _Own("Nobody changes the role of the account that he is logged in with.")
        with self._database.transaction() as session:
            accounts.change_role(session, _account(session, name), Role(role))
        self._tell(request, by, name, f"role {role}; sessions ended", ROLES_CHANGED)
        return self.one(request, name, f"{name} is {role} now, and has to log in anew.")

    def password(self, request: Request, by: User, name: str, sent: Sent) -> Any:
        """Give an account a new password."""
        with self._database.reading() as session:
            accounts.with_password(_account(session, name))
        if sent.get("password", "") != sent.get("again", ""):
            raise WeakPassword("the two passwords differ")
        kept = self._door.passwords.hash(name, sent.get("password", ""))
        with self._database.transaction() as session:
            accounts.set_password(session, _account(session, name), kept, self._clock())
        self._tell(request, by, name, "new password; sessions ended")
        return self._after(request, by, name, f"{name} has a new password, and has to log in anew.")

    def log_out(self, request: Request, by: User, name: str, _sent: Sent) -> Any:
        """End every session of an account."""
        with self._database.transaction() as session:
            number = accounts.end_sessions(session, _account(session, name))
        self._tell(request, by, name, "sessions ended")
        return self._after(request, by, name, f"Sessions of {name} ended: {number}.")

    def token(self, request: Request, by: User, name: str, sent: Sent) -> HTMLResponse:
        """Make a token of a program, and show it."""
        ends_at = self._ends_at(sent)
        with self._database.transaction() as session:
            token = accounts.issue_token(session, _account(session, name), self._clock(), ends_at)
        self._tell(request, by, name, "new token")
        return self.one(request, name, f"{name} has a new token.", token=token)

    def revoke(self, request: Request, by: User, name: str, _sent: Sent) -> HTMLResponse:
        """Revoke every token of a program."""
        with self._database.transaction() as session:
            number = accounts.revoke_tokens(session, _account(session, name), self._clock())
        self._tell(request, by, name, "tokens revoked")
        return self.one(request, name, f"Tokens of {name} revoked: {number}.")

    def disable(self, request: Request, by: User, name: str, _sent: Sent) -> Any:
        """Let an account in no more."""
        if name == by.name:
            raise _Own("Nobody disables the account that he is logged in with.")
        with self._database.transaction() as session:
            account = _account(session, name)
            accounts.keep_an_administrator(session, account)
            accounts.disable(session, account, self._clock())
        self._tell(request, by, name, "disabled")
        return _to(request, "/admin/users")

    def enable(self, request: Request, by: User, name: str, _sent: Sent) -> Any:
        """Let a disabled account in again."""
        with self._database.transaction() as session:
            accounts.enable(session, _account(session, name))
        self._tell(request, by, name, "enabled")
        return _to(request, "/admin/users")

    def _ends_at(self, sent: Sent) -> float | None:
        """Return when a token ends that the form asks for, None for never. Raises: AccountProblem."""
        days = sent.get("days", "").strip()
        if not days:
            return None
        if not days.isascii() or not days.isdigit() or len(days) > 4 or not 1 <= int(days) <= MOST_DAYS:
            raise AccountProblem(f"days: accepted: 1 to {MOST_DAYS}, or nothing: until it is revoked")
        return self._clock() + int(days) * 86400.0

    def _after(self, request: Request, by: User, name: str, told: str) -> Any:
        """Return the page of the account, or to the login whoever has ended their own session."""
        return _to(request, "/login") if name == by.name else self.one(request, name, told)

    def _tell(self, request: Request, by: User, name: str, what: str, type: Code = ATTRIBUTES_CHANGED) -> None:
        self._trail.account_changed(by.name, name, what, type, address_of(request))


def add_users(app: FastAPI, database: Database, clock: Callable[[], float], pages: Pages, door: Door, trail: Trail) -> None:
    """Add the pages. Who may change an account is an administrator who has logged in."""
    desk = _Desk(database, clock, pages, door, trail)
    acts = {"role": desk.role, "password": desk.password, "logout": desk.log_out, "token": desk.token,
            "revoke": desk.revoke, "disable": desk.disable, "enable": desk.enable}

    @app.get("/admin/users", include_in_schema=False)
    def users_page(request: Request) -> HTMLResponse:
        only_administrators(request)
        return desk.page(request)

    @app.get("/admin/users/{name}", include_in_schema=False)
    def user_page(request: Request, name: str) -> HTMLResponse:
        only_administrators(request)
        return desk.one(request, name)

    @app.post("/admin/users", include_in_schema=False)
    async def add(request: Request) -> Any:
        return await _judged(request, desk.add, desk.page, "No account was made")

    @app.post("/admin/programs", include_in_schema=False)
    async def add_program(request: Request) -> Any:
        return await _judged(request, desk.add_program, desk.page, "No account was made")

    @app.post("/admin/users/{name}/{what}", include_in_schema=False)
    async def change(request: Request, name: str, what: str) -> Any:
        if what not in acts:
            raise HTTPException(404, "There is no such page here.")
        return await _judged(request, lambda asked, by, sent: acts[what](asked, by, name, sent),
                             lambda asked, *said: desk.one(asked, name, *said), "Nothing was changed")


async def _judged(request: Request, act: Callable[[Request, User, Sent], Any],
                  again: Callable[[Request, str, bool, int], HTMLResponse], instead: str) -> Any:
    """Let an administrator act by the form that was sent, or show the page again with what is wrong."""
    by = an_administrator(request, _COMMAND)
    sent = await fields_of(request)
    try:
        return await run_in_threadpool(act, request, by, sent)
    except _Own as error:
        return await run_in_threadpool(again, request, str(error), True, 409)
    except (AccountProblem, WeakPassword) as error:
        return await run_in_threadpool(again, request, f"{instead}: {error}.", True, 400)


def _account(session: Session, name: str) -> Account:
    account = accounts.find(session, name)
    if account is None:
        raise HTTPException(404, "There is no such account here.")
    return account


def _to(request: Request, path: str) -> RedirectResponse:
    return RedirectResponse(f"{request.scope.get('root_path', '')}{path}", 303)
