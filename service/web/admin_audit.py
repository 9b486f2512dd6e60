"""The audit trail on the administrator's pages: who saw which patient, and when."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse
from starlette.concurrency import run_in_threadpool

from service.audit.events import EVENTS
from service.audit.read import Told, Wanted, read_trail
from service.audit.trail import Trail
from service.web import words
from service.web.actions import only_administrators
from service.web.forms import fields_of
from service.web.page import Pages
from service.web.who import current_user

DAYS = (1, 7, 30, 90, 365)
_SHOWN = 500
_MOST_TEXT = 64


def add_audit(app: FastAPI, folder: Path | None, clock: Callable[[], float], pages: Pages, trail: Trail,
              patient_names: str) -> None:
    """Add the page. folder: of the files of the trail, None: it is kept elsewhere.

    What is looked for comes in the body and stands in no address: it may be a patient's. Each look is told in the trail.
    """

    def page(request: Request, sent: dict[str, str]) -> HTMLResponse:
        now = clock()
        user = current_user(request)
        asked = {name: sent.get(name, "").strip()[:_MOST_TEXT] for name in ("user", "patient", "study", "event")}
        days = int(sent["days"]) if sent.get("days", "") in map(str, DAYS) else 1
        found: list[Told] = []
        more = False
        if folder is not None:
            trail.log_used(user.name if user else "", request.client.host if request.client else "")
            today = datetime.fromtimestamp(now, UTC).date()
            event = asked["event"] if asked["event"] in EVENTS else ""
            wanted = Wanted(today - timedelta(days=days - 1), today, asked["user"], asked["patient"], asked["study"], event)
            found, more = read_trail(folder, wanted, _SHOWN)
        lines = [(words.clock_time(one.at, now), one, _patient(one, patient_names)) for one in found]
        return pages.answer(request, "admin_audit.html", now=now, lines=lines, more=more, kept=folder is not None,
                            asked=asked, days=days, all_days=DAYS, events=EVENTS)

    @app.get("/admin/audit", include_in_schema=False)
    def audit_page(request: Request) -> HTMLResponse:
        only_administrators(request)
        return page(request, {})

    @app.post("/admin/audit", include_in_schema=False)
    async def audit_search(request: Request) -> HTMLResponse:
        only_administrators(request)
        return await run_in_threadpool(page, request, await fields_of(request))


def _patient(one: Told, patient_names: str) -> str:
    """Return whom a message is about; the name only where the pages show names in full."""
    name = one.patient_name if patient_names == "full" and one.patient_name != "(none)" else ""
    return " ".join(filter(None, (one.patient_id, name)))
