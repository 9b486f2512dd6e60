"""The web server: worklist, study page, API, health and metrics. It reads; `actions` has what changes something."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from sqlmodel import Session
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException as AnyHTTPException

from service import logs
from service.access.door import Door
from service.audit.trail import Trail
from service.domain.order import NO_CAP, ReadingOrder
from service.domain.verdict import Why
from service.errors import Reason, Unavailable
from service.metrics import Metrics
from service.store import worklist
from service.store.database import Database
from service.store.files import Files
from service.store.filters import MOST_TEXT
from service.store.tables import ResultObject
from service.store.verdicts import MOST_NOTE
from service.web import guard
from service.web.actions import Resend, add_actions
from service.web.admin import Administration, add_admin
from service.web.detail import as_json, detail, page_as_json
from service.web.effect import add_effect
from service.web.feedback import add_feedback
from service.web.filters import offered, view_of
from service.web.forms import fields_of
from service.web.health import Check, add_health
from service.web.login import add_login
from service.web.page import RESEARCH_USE, STATIC, Pages
from service.web.pictures import NoPicture, capture_png
from service.web.reading import add_reading
from service.web.rows import cap_words, row, tally
from service.web.witness import Witness

_log = logs.get("web")
_T = TypeVar("_T")


@dataclass(frozen=True)
class WebStyle:
    """How the pages look and who may see them.

    access_token: "" for none; patient_names: full, initials or hidden; refresh_s: the page asks for news this often;
    limit: most rows of the worklist; window_s: studies with no new image for longer are left out, seconds; order: the
    cap on the wait; expectation: the file of the published simulation, None: there is none.
    """

    access_token: str = ""
    patient_names: str = "full"
    refresh_s: int = 5
    title: str = "firstlook"
    version: str = ""
    limit: int = 300
    window_s: float = 172800.0
    order: ReadingOrder = NO_CAP
    expectation: Path | None = None


Montage = Callable[[Path, Mapping[str, str]], bytes]
"""Makes a PNG of a SEG file; the mapping gives the spool path of each source image by SOP Instance UID."""


def create_app(
    database: Database, metrics: Metrics, clock: Callable[[], float], style: WebStyle,
    ready: Callable[[], Sequence[Check]], results_dir: Files | Path, picture: Montage | None = None,
    resend: Resend | None = None, door: Door | None = None, trail: Trail | None = None,
    administration: Administration | None = None,
) -> FastAPI:
    """Return the web application.

    clock: Unix time, seconds; ready: the checks of /health/ready; results_dir: folder of the result objects;
    picture: makes a picture of a segmentation and raises `NoPicture` where it cannot; None: none is shown;
    resend: sends a result once more; None: no page offers it; door: who may log in; None: nobody is asked to;
    trail: is told who looked at which study; administration: of the page /admin, which needs a door; None: there is none.
    """
    app = FastAPI(title=style.title, version=style.version or "0", docs_url=None, redoc_url=None,
                  openapi_url="/api/openapi.json", description=RESEARCH_USE)
    if trail is not None:
        app.add_middleware(Witness, trail=trail)
    app.add_middleware(guard.Guard, access_token=style.access_token, door=door)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    add_health(app, metrics, ready)
    reader = _Reader(database, clock, style)
    pages = Pages(style.title, style.version, style.refresh_s, administration is not None)
    _add_worklist(app, reader, pages)
    _add_study(app, reader, pages, frozenset({"sc", "seg"} if picture else {"sc"}), resend is not None)
    _add_objects(app, reader, results_dir, picture)
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


@dataclass(frozen=True)
class _Reader:
    """Reads what the pages show, each time in one short transaction."""

    database: Database
    clock: Callable[[], float]
    style: WebStyle

    def reading_list(self, given: Mapping[str, str], text: str = "") -> dict[str, Any]:
        """Return rows, entries and the figures above them. given: the query of the address; text: what is searched for."""
        now, style = self.clock(), self.style
        view = view_of(given, text, style.patient_names)
        window_s = view.hours * 3600.0 or style.window_s
        with self.database.reading() as session:
            census = worklist.census(session, now, style.window_s, style.order.longest_wait_s)
            order = census.order(style.order)
            entries = worklist.reading_list(session, style.limit, now, window_s, order, view.chosen)
            findings = worklist.findings_seen(session, now, window_s)
            there = len(entries)
            if there == style.limit:
                there = worklist.how_many(session, now, window_s, view.chosen)
        rows = [row(entry, now, style.patient_names) for entry in entries]
        window_h = round(style.window_s / 3600)
        return {"now": now, "entries": entries, "rows": rows, "counts": census.by_state, "tally": tally(census, rows),
                "hidden": there - len(rows), "window_h": round(window_s / 3600), "view": view,
                "cap": cap_words(style.order, order), "most_text": MOST_TEXT,
                "choices": offered(view, findings, window_h, style.patient_names)}

    def study(self, study_instance_uid: str) -> tuple[worklist.StudyPage, ReadingOrder]:
        """Return one study and the order in force; 404 when there is none."""
        style = self.style
        with self.database.reading() as session:
            census = worklist.census(session, self.clock(), style.window_s, style.order.longest_wait_s)
            found = self._found(worklist.study_page(session, study_instance_uid), "study")
        return found, census.order(style.order)

    def result(self, uid: str, sop: str) -> tuple[ResultObject, dict[str, str]]:
        """Return one result object and the paths of the study's images; 404 when there is none."""
        with self.database.reading() as session:
            found = self._found(worklist.result_object(session, uid, sop), "result object")
            return found, self._sources(session, found)

    def _sources(self, session: Session, found: ResultObject) -> dict[str, str]:
        return worklist.image_paths(session, found.study_id) if found.kind == "seg" else {}

    @staticmethod
    def _found(value: _T | None, what: str) -> _T:
        if value is None:
            raise HTTPException(404, f"There is no such {what} here.")
        return value


def _add_worklist(app: FastAPI, reader: _Reader, pages: Pages) -> None:
    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    def worklist_page(request: Request) -> HTMLResponse:
        return pages.answer(request, "worklist.html", **reader.reading_list(request.query_params))

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


async def _searched(request: Request, reader: _Reader, pages: Pages, template: str) -> HTMLResponse:
    """Answer a search: its text, which may be a name, comes in the body and stands in no address and no log."""
    text = (await fields_of(request)).get("text", "")
    found = await run_in_threadpool(reader.reading_list, request.query_params, text)
    return pages.answer(request, template, **found)


def _add_study(app: FastAPI, reader: _Reader, pages: Pages, pictures: frozenset[str], can_resend: bool) -> None:
    @app.get("/studies/{uid}", response_class=HTMLResponse, include_in_schema=False)
    def study_page(request: Request, uid: str) -> HTMLResponse:
        now = reader.clock()
        page, order = reader.study(uid)
        shown = detail(page, now, reader.style.patient_names, pictures, order)
        return pages.answer(request, "study.html", now=now, study=shown, can_resend=can_resend,
                            whys=[why for why in Why if why], most_note=MOST_NOTE)

    @app.get("/api/studies/{uid}")
    def study_json(uid: str) -> dict[str, Any]:
        """Return one study with its findings, objects, jobs and trace."""
        page, order = reader.study(uid)
        return {"notice": RESEARCH_USE, **page_as_json(page, reader.clock(), reader.style.patient_names, order)}


def _add_objects(app: FastAPI, reader: _Reader, results_dir: Files | Path, picture: Montage | None) -> None:
    makers: dict[str, Montage] = {"sc": lambda result, _sources: capture_png(result)}
    if picture:
        makers["seg"] = picture

    @app.get("/studies/{uid}/objects/{sop}.png", include_in_schema=False)
    def object_picture(uid: str, sop: str) -> Response:
        found, sources = reader.result(uid, sop)
        if found.kind not in makers:
            raise HTTPException(404, "There is no picture of this object.")
        try:
            png = makers[found.kind](_file(results_dir, found), sources)
        except NoPicture as error:
            raise HTTPException(404, f"There is no picture of this object: {error}.") from error
        return Response(png, media_type="image/png")

    @app.get("/studies/{uid}/objects/{sop}.dcm")
    def object_file(uid: str, sop: str) -> FileResponse:
        """Return one result object as a DICOM file (PS3.10)."""
        found, _ = reader.result(uid, sop)
        name = f"{found.kind}-{found.sop_instance_uid}.dcm"
        return FileResponse(_file(results_dir, found), media_type="application/dicom", filename=name)


def _file(results_dir: Files | Path, found: ResultObject) -> Path:
    """Return the file of a result object; 404 when it is gone or its path leaves the folder of the results."""
    root = results_dir if isinstance(results_dir, Path) else results_dir.root
    try:
        path = (results_dir / found.path).resolve()
    except Unavailable as error:
        raise HTTPException(503, "The file of this object cannot be fetched now.") from error
    if not path.is_relative_to(root.resolve()) or not path.is_file():
        raise HTTPException(404, "The file of this object is gone.")
    return path


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


