"""The page of the administrator: parked jobs, peers and their echo; and the way to all below it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from service.access.door import Door
from service.audit.trail import Trail, silent
from service.errors import FirstlookError, Reason
from service.store import parked
from service.store.database import Database
from service.web import words
from service.web.actions import only_administrators
from service.web.admin_audit import add_audit
from service.web.admin_models import Models, add_models
from service.web.admin_rules import Rules, add_rules
from service.web.admin_users import add_users
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
class Administration:
    """What the pages show and do. echo: asks a destination; models: what may be switched; retry: takes up again what is
    parked or failed of a study; rules: of urgency; audit_folder: of the files of the audit trail, None: there are none.
    Raises of echo: FirstlookError."""

    senders: Sequence[Sender]
    destinations: Sequence[Destination]
    echo: Callable[[str], None]
    models: Models
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
        senders = [(s, words.clock_time(last.get(s.ae_title.strip()), now)) for s in administration.senders]
        shown_jobs = [(job, words.clock_time(job.parked_at, now), _sentence(job.reason)) for job in jobs]
        return self._pages.answer(
            request, "admin.html", status, now=now, told=told, bad=bad, senders=senders, jobs=shown_jobs,
            more=number - len(jobs), destinations=administration.destinations)

    def back(self, request: Request) -> RedirectResponse:
        """Return to the page."""
        return RedirectResponse(f"{request.scope.get('root_path', '')}/admin", 303)


def add_admin(app: FastAPI, database: Database, clock: Callable[[], float], pages: Pages, administration: Administration,
              door: Door, trail: Trail | None = None) -> None:
    """Add the page and what its buttons do, and the pages below it; all of it is for administrators."""
    office, trail = _Office(database, clock, pages, administration), trail or silent()
    _add_page(app, office)
    _add_jobs(app, office)
    add_models(app, database, clock, pages, administration.models, trail)
    add_users(app, database, clock, pages, door, trail)
    add_rules(app, administration.rules, clock, pages)
    add_audit(app, administration.audit_folder, clock, pages, trail, administration.patient_names)


def _add_page(app: FastAPI, office: _Office) -> None:
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


def _sentence(reason: str) -> str:
    return {known.value: known.sentence for known in Reason}.get(reason, reason)
