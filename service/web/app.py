"""The web server: worklist, study page, API, health and metrics. It reads; `actions` has what changes something."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException as AnyHTTPException

from service import logs
from service.access.door import Door
from service.audit.trail import Trail
from service.errors import Reason
from service.metrics import Metrics
from service.store.database import Database
from service.store.files import Files
from service.web import guard
from service.web.actions import Resend, add_actions
from service.web.admin import Administration, add_admin
from service.web.calibration import Notes, unknown
from service.web.detail import as_json
from service.web.effect import add_effect
from service.web.feedback import add_feedback
from service.web.forms import fields_of
from service.web.health import Check, add_health
from service.web.login import add_login
from service.web.news import News, add_news
from service.web.page import RESEARCH_USE, STATIC, Pages
from service.web.reader import Reader, WebStyle
from service.web.reading import add_reading
from service.web.study import Montage, Shows, add_study
from service.web.view.routes import Theatre
from service.web.view.scene import Viewer
from service.web.views import add_views
from service.web.who import who
from service.web.witness import Witness

__all__ = ["Montage", "WebStyle", "create_app"]
_log = logs.get("web")


def create_app(
    database: Database, metrics: Metrics, clock: Callable[[], float], style: WebStyle,
    ready: Callable[[], Sequence[Check]], results_dir: Files | Path, picture: Montage | None = None,
    resend: Resend | None = None, door: Door | None = None, trail: Trail | None = None,
    administration: Administration | None = None, viewer: Viewer | None = None, notes: Notes = unknown,
    stopping: Callable[[], bool] = lambda: False,
) -> FastAPI:
    """Return the web application.

    clock: Unix time, seconds; ready: the checks of /health/ready; results_dir: folder of the result objects;
    picture: makes a picture of a segmentation and raises `NoPicture` where it cannot; None: none is shown;
    resend: sends a result once more; None: no page offers it; door: who may log in; None: nobody is asked to;
    trail: is told who looked at a study and who was refused what; administration: of the page /admin, which needs a door;
    None: there is none; viewer: of the images themselves; None: no page shows them; notes: on the calibration of models;
    stopping: whether the server is about to end, so that no page waits for news any longer.
    """
    app = FastAPI(title=style.title, version=style.version or "0", docs_url=None, redoc_url=None,
                  openapi_url="/api/openapi.json", description=RESEARCH_USE)
    app.add_middleware(guard.Guard, access_token=style.access_token, door=door)
    if trail is not None:
        app.add_middleware(Witness, trail=trail)  # the last one added is the outermost
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    add_health(app, metrics, ready)
    reader = Reader(database, clock, style)
    pages = Pages(style.title, style.version, style.refresh_s, administration is not None)
    _add_worklist(app, reader, pages)
    theatre = Theatre(database, viewer) if viewer else None
    add_study(app, reader, pages, Shows(results_dir, picture, theatre, notes, resend is not None))
    add_news(app, News(database, clock, style.window_s, stopping))
    add_views(app, database, clock)
    if resend is not None:
        add_actions(app, resend)
    add_reading(app, database, clock, metrics)
    add_feedback(app, database, clock, pages, metrics)
    if door is not None:
        add_login(app, door, pages)
        if administration is not None:
            add_admin(app, database, clock, pages, administration, door, trail)
    add_effect(app, database, clock, pages, style.expectation)
    _add_errors(app, pages)
    return app


def _add_worklist(app: FastAPI, reader: Reader, pages: Pages) -> None:
    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    def worklist_page(request: Request) -> HTMLResponse:
        return pages.answer(request, "worklist.html", **reader.reading_list(request.query_params, who=who(request)))

    @app.get("/rows", response_class=HTMLResponse, include_in_schema=False)
    def worklist_rows(request: Request) -> HTMLResponse:
        return pages.answer(request, "rows.html", **reader.reading_list(request.query_params))

    @app.post("/", response_class=HTMLResponse, include_in_schema=False)
    async def searched_page(request: Request) -> HTMLResponse:
        return await _searched(request, reader, pages, "worklist.html")

    @app.post("/rows", response_class=HTMLResponse, include_in_schema=False)
    async def searched_rows(request: Request) -> HTMLResponse:
        return await _searched(request, reader, pages, "rows.html")

    @app.get("/api/worklist")
    def worklist_json(request: Request) -> dict[str, Any]:
        """Return the reading list: what to read next first; what is read (shown=read) last read first.

        Narrowed by shown, state, modality, urgency, finding, age and hours, as on the page.
        """
        read = reader.reading_list(request.query_params)
        studies = [as_json(entry, reader.style.patient_names) for entry in read["entries"]]
        return {"notice": RESEARCH_USE, "at": read["now"], "counts": read["counts"], "studies": studies}


async def _searched(request: Request, reader: Reader, pages: Pages, template: str) -> HTMLResponse:
    """Answer a search: its text, which may be a name, comes in the body and stands in no address and no log."""
    text = (await fields_of(request)).get("text", "")
    found = await run_in_threadpool(reader.reading_list, request.query_params, text, who(request))
    return pages.answer(request, template, **found)


def _add_errors(app: FastAPI, pages: Pages) -> None:
    def told(request: Request, error: Exception) -> Response:
        """Answer an HTTP error as a page, or as JSON below /api/."""
        status, text = 500, Reason.INTERNAL_ERROR.sentence
        if isinstance(error, AnyHTTPException):
            status, text = error.status_code, str(error.detail)
            if text == HTTPStatus.NOT_FOUND.phrase:
                text = "There is no such page here."
        if request.url.path.startswith("/api/"):
            return JSONResponse({"error": text}, status, headers=guard.HEADERS)
        return pages.answer(request, "error.html", status=status, headers=guard.HEADERS, text=text, code=status)

    def failed(request: Request, error: Exception) -> Response:
        """Answer a defect of ours without any of its text."""
        _log.error("request failed", extra={"path": request.scope["route"].path if "route" in request.scope else ""},
                   exc_info=error)
        return told(request, error)

    app.add_exception_handler(AnyHTTPException, told)
    app.add_exception_handler(Exception, failed)


