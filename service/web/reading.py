"""Marks of reading: the button of the worklist and of the study page, and the same for programs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool

from service.metrics import Metrics
from service.store.database import Database
from service.store.marks import mark_read, mark_unread
from service.store.tables import Study
from service.web.forms import fields_of
from service.web.who import reader_name


def add_reading(app: FastAPI, database: Database, clock: Callable[[], float], metrics: Metrics) -> None:
    """Add the requests that mark a study as read and take the mark back."""

    def mark(uid: str, who: str) -> Study:
        with database.transaction() as session:
            marked = mark_read(session, uid, clock(), who)
        if marked is None:
            raise HTTPException(404, "There is no such study here.")
        study, anew = marked
        if anew:
            waited_s = max(0.0, (study.read_at or 0.0) - study.last_received_at)
            metrics.time_to_reading_seconds.labels(study.reading_urgency, study.kind or "other").observe(waited_s)
        return study

    def take_back(uid: str, who: str) -> Study:
        with database.transaction() as session:
            study = mark_unread(session, uid, clock(), who)
        if study is None:
            raise HTTPException(404, "There is no such study here.")
        return study

    @app.post("/studies/{uid}/read", include_in_schema=False)
    async def read_from_page(request: Request, uid: str) -> RedirectResponse:
        return await _back(request, uid, mark)

    @app.post("/studies/{uid}/unread", include_in_schema=False)
    async def unread_from_page(request: Request, uid: str) -> RedirectResponse:
        return await _back(request, uid, take_back)

    @app.post("/api/studies/{uid}/read")
    def read_from_program(request: Request, uid: str) -> dict[str, Any]:
        """Mark a study as read; it leaves the open list until images come or a model raises it."""
        return _said(mark(uid, reader_name(request)))

    @app.post("/api/studies/{uid}/unread")
    def unread_from_program(request: Request, uid: str) -> dict[str, Any]:
        """Take the mark of reading back."""
        return _said(take_back(uid, reader_name(request)))


async def _back(request: Request, uid: str, do: Callable[[str, str], Study]) -> RedirectResponse:
    """Do it, and show the page again that the button is on: the list, or the study."""
    given = await fields_of(request)
    await run_in_threadpool(do, uid, reader_name(request))
    there = f"/studies/{uid}" if given.get("from") == "study" else "/"
    return RedirectResponse(f"{request.scope.get('root_path', '')}{there}", 303)


def _said(study: Study) -> dict[str, Any]:
    return {"study_instance_uid": study.study_instance_uid, "read_at": study.read_at, "read_by": study.read_by}
