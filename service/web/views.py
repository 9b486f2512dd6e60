"""Saved views: a reader keeps a choice of filters under a name, and comes back to it."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qsl

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import RedirectResponse
from starlette.concurrency import run_in_threadpool

from service.store.database import Database
from service.store.views import MOST_NAME, TooManyViews, delete_view, save_view
from service.web.filters import view_of
from service.web.forms import fields_of
from service.web.who import reader_name


def add_views(app: FastAPI, database: Database, clock: Callable[[], float]) -> None:
    """Add the requests that keep a view and delete one. What was searched for is not kept: it may be a patient's name."""

    def keep(reader: str, name: str, query: str) -> None:
        with database.transaction() as session:
            save_view(session, reader, name, query, clock())

    def delete(reader: str, number: int) -> bool:
        with database.transaction() as session:
            return delete_view(session, reader, number)

    @app.post("/views", include_in_schema=False)
    async def save(request: Request) -> RedirectResponse:
        given, reader = await fields_of(request), reader_name(request)
        name = " ".join(given.get("name", "").split())
        if not 0 < len(name) <= MOST_NAME or not name.isprintable():
            raise HTTPException(422, f"name: accepted: 1 to {MOST_NAME} characters.")
        query = view_of(dict(parse_qsl(given.get("query", ""), max_num_fields=20)), "", "full").query
        try:
            await run_in_threadpool(keep, reader, name, query)
        except TooManyViews as error:
            raise HTTPException(409, f"Not saved: {error}.") from error
        return _to(request, f"/?{query}" if query else "/")

    @app.post("/views/{number}/delete", include_in_schema=False)
    async def forget(request: Request, number: int) -> RedirectResponse:
        if not await run_in_threadpool(delete, reader_name(request), number):
            raise HTTPException(404, "There is no such view of yours here.")
        return _to(request, "/")


def _to(request: Request, path: str) -> RedirectResponse:
    return RedirectResponse(f"{request.scope.get('root_path', '')}{path}", 303)
