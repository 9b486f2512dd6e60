"""The pages of the administrator: peers and their echo, bundles and their cards, parked jobs, accounts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.concurrency import run_in_threadpool

from service.access import accounts
from service.access.accounts import AccountProblem
from service.access.door import Door
from service.access.passwords import WeakPassword
from service.audit.events import ATTRIBUTES_CHANGED, ROLES_CHANGED
from service.audit.trail import Trail, silent
from service.domain.person import Role, User
from service.errors import FirstlookError, Reason
from service.store import parked
from service.store.database import Database
from service.web import words
from service.web.actions import only_administrators
from service.web.admin_audit import add_audit
from service.web.admin_rules import Rules, add_rules
from service.web.forms import fields
from service.web.page import Pages
from service.web.who import current_user

MOST_JOBS = 200


@dataclass(frozen=True)
class Sender:
    """Somebody who may call. ae_title: "" for everybody."""

    ae_title: str
    address: str


@dataclass(frozen=True)
class Destination:
    """A place that results go to. takes: the kinds of objects, in words."""

    name: str
    what: str
    address: str
    takes: str


@dataclass(frozen=True)
class BundleLine:
    """A bundle. digest: SHA-256 of its weights; use: what for, "" for none; problem: why it cannot be used."""

    name: str
    version: str = ""
    title: str = ""
    task: str = ""
    digest: str = ""
    use: str = ""
    problem: str = ""
    card: bool = False


@dataclass(frozen=True)
class Administration:
    """What the page shows and does. echo: asks a destination; card: the text of a bundle's model card, None without one;
    retry: takes up again what is parked or failed of a study; rules: of urgency;
    audit_folder: of the files of the audit trail, None: there are none. Raises of echo: FirstlookError."""

    senders: Sequence[Sender]
    destinations: Sequence[Destination]
    echo: Callable[[str], None]
    bundles: Callable[[], Sequence[BundleLine]]
    card: Callable[[str], str | None]
    retry: Callable[[str], Sequence[str]]
    rules: Rules
    audit_folder: Path | None = None
    patient_names: str = "full"


class _Office:
    """Reads what the page shows."""

    def __init__(self, database: Database, clock: Callable[[], float], pages: Pages, administration: Administration) -> None:
        self.database, self.clock, self._pages, self.administration = database, clock, pages, administration

    def page(self, request: Request, told: str = "", bad: bool = False, status: int = 200) -> HTMLResponse:
        """Return the page. told: what just happened; bad: it went wrong."""
        now, administration = self.clock(), self.administration
        with self.database.reading() as session:
            jobs, number = parked.parked(session, MOST_JOBS)
            last = parked.last_received(session)
            people = accounts.listed(session, now)
        senders = [(s, words.clock_time(last.get(s.ae_title.strip()), now)) for s in administration.senders]
        shown_jobs = [(job, words.clock_time(job.parked_at, now), _sentence(job.reason)) for job in jobs]
        shown_people = [(one, words.clock_time(one.created_at, now)) for one in people]
        return self._pages.answer(
            request, "admin.html", status, now=now, told=told, bad=bad, senders=senders, jobs=shown_jobs,
            more=number - len(jobs), destinations=administration.destinations, bundles=administration.bundles(),
            people=shown_people, roles=[role.value for role in accounts.PEOPLE])

    def back(self, request: Request) -> RedirectResponse:
        """Return to the page."""
        return RedirectResponse(f"{request.scope.get('root_path', '')}/admin", 303)


def add_admin(app: FastAPI, database: Database, clock: Callable[[], float], pages: Pages, administration: Administration,
              door: Door, trail: Trail | None = None) -> None:
    """Add the page and what its buttons do; all of it is for administrators."""
    office = _Office(database, clock, pages, administration)
    _add_page(app, office, pages)
    _add_jobs(app, office)
    _add_accounts(app, office, door, trail or silent())
    add_rules(app, administration.rules, clock, pages)
    add_audit(app, administration.audit_folder, clock, pages, trail or silent(), administration.patient_names)


def _add_page(app: FastAPI, office: _Office, pages: Pages) -> None:
    @app.get("/admin", include_in_schema=False)
    def admin_page(request: Request) -> HTMLResponse:
        only_administrators(request)
        return office.page(request)

    @app.post("/admin/echo/{name}", include_in_schema=False)
    def echo(request: Request, name: str) -> HTMLResponse:
        only_administrators(request)
        if name not in [d.name for d in office.administration.destinations]:
            raise HTTPException(404, "There is no such place here.")
        try:
            office.administration.echo(name)
        except FirstlookError as error:
            return office.page(request, f"{name}: {error.reason.sentence} {error.detail}".strip(), bad=True)
        return office.page(request, f"{name} answers.")

    @app.get("/admin/bundles/{name}", include_in_schema=False)
    def card(request: Request, name: str) -> HTMLResponse:
        only_administrators(request)
        text = office.administration.card(name)
        if text is None:
            raise HTTPException(404, "There is no such model card here.")
        return pages.answer(request, "card.html", name=name, text=text)


def _add_jobs(app: FastAPI, office: _Office) -> None:
    @app.post("/admin/studies/{uid}/retry", include_in_schema=False)
    def retry(request: Request, uid: str) -> RedirectResponse:
        only_administrators(request)
        office.administration.retry(uid)
        return office.back(request)

    @app.post("/admin/jobs/{number}/dismiss", include_in_schema=False)
    def dismiss(request: Request, number: int) -> RedirectResponse:
        only_administrators(request)
        user = current_user(request)
        with office.database.transaction() as session:
            parked.dismiss(session, number, office.clock(), user.name if user else "no login")
        return office.back(request)


def _add_accounts(app: FastAPI, office: _Office, door: Door, trail: Trail) -> None:
    @app.post("/admin/users", include_in_schema=False)
    async def add(request: Request) -> Any:
        by = _administrator(request)
        sent = fields(request.headers.get("content-type", ""), await request.body())
        return await run_in_threadpool(_add_account, request, office, door, trail, by, sent)

    @app.post("/admin/users/{name}/disable", include_in_schema=False)
    def disable(request: Request, name: str) -> Any:
        by = _administrator(request)
        if name == by.name:
            return office.page(request, "Nobody disables the account that he is logged in with.", bad=True, status=409)
        with office.database.transaction() as session:
            accounts.disable(session, _account(session, name), office.clock())
        trail.account_changed(by.name, name, "disabled", ATTRIBUTES_CHANGED)
        return office.back(request)

    @app.post("/admin/users/{name}/enable", include_in_schema=False)
    def enable(request: Request, name: str) -> Any:
        by = _administrator(request)
        with office.database.transaction() as session:
            accounts.enable(session, _account(session, name))
        trail.account_changed(by.name, name, "enabled", ATTRIBUTES_CHANGED)
        return office.back(request)


def _add_account(request: Request, office: _Office, door: Door, trail: Trail, by: User, sent: dict[str, str]) -> Any:
    """Make an account of a person from the form, or show the page with what is wrong."""
    role = sent.get("role", "")
    if role not in accounts.PEOPLE:
        raise HTTPException(400, f"role: accepted: {', '.join(accounts.PEOPLE)}")
    try:
        name = accounts.tidy_name(sent.get("name", ""))
        kept = door.passwords.hash(name, sent.get("password", ""))
        with office.database.transaction() as session:
            accounts.add(session, name, Role(role), kept, office.clock())
    except (AccountProblem, WeakPassword) as error:
        return office.page(request, f"No account was made: {error}.", bad=True, status=400)
    trail.account_changed(by.name, name, f"made, {role}", ROLES_CHANGED)
    return office.back(request)


def _account(session: Any, name: str) -> Any:
    account = accounts.find(session, name)
    if account is None:
        raise HTTPException(404, "There is no such account here.")
    return account


def _administrator(request: Request) -> User:
    """Return the administrator who asks; where nobody logs in, accounts are changed by command only (403)."""
    only_administrators(request)
    user = current_user(request)
    if user is None:
        raise HTTPException(403, "Where nobody logs in, accounts are made by command: firstlook users add.")
    return user


def _sentence(reason: str) -> str:
    return {known.value: known.sentence for known in Reason}.get(reason, reason)
