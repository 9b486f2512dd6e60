"""The study page, what it shows of result objects, and the same for programs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, HTMLResponse, Response

from service.domain.verdict import Why
from service.errors import Unavailable
from service.store.files import Files
from service.store.tables import ResultObject
from service.store.verdicts import MOST_NOTE
from service.web.calibration import Notes, unknown
from service.web.detail import detail, page_as_json
from service.web.page import RESEARCH_USE, Pages
from service.web.pictures import NoPicture, capture_png
from service.web.reader import Reader
from service.web.view.document import NoDocument, lines
from service.web.view.routes import Theatre, add_view

Montage = Callable[[Path, Mapping[str, str]], bytes]
"""Makes a PNG of a SEG file; the mapping gives the spool path of each source image by SOP Instance UID."""


@dataclass(frozen=True)
class Shows:
    """What a study page can show besides words.

    results_dir: folder of the result objects; picture: of a segmentation, raises `NoPicture` where it cannot, None: none is
    shown; theatre: the images themselves, None: none are shown; notes: on the calibration of models; can_resend: whether
    results can be sent once more.
    """

    results_dir: Files | Path
    picture: Montage | None = None
    theatre: Theatre | None = None
    notes: Notes = unknown
    can_resend: bool = False


def add_study(app: FastAPI, reader: Reader, pages: Pages, shows: Shows) -> None:
    """Add the page of one study and everything below its address that only reads."""
    pictures, style = frozenset({"sc", "seg"} if shows.picture else {"sc"}), reader.style

    @app.get("/studies/{uid}", response_class=HTMLResponse, include_in_schema=False)
    def study_page(request: Request, uid: str) -> HTMLResponse:
        now = reader.clock()
        page, order = reader.study(uid)
        shown = detail(page, now, style, pictures, order, shows.notes)
        view = shows.theatre.described(uid) if shows.theatre else None
        return pages.answer(request, "study.html", now=now, study=shown, can_resend=shows.can_resend, view=view,
                            whys=[why for why in Why if why], most_note=MOST_NOTE)

    @app.get("/api/studies/{uid}")
    def study_json(uid: str) -> dict[str, Any]:
        """Return one study with its findings, objects, jobs and trace."""
        page, order = reader.study(uid)
        return {"notice": RESEARCH_USE, **page_as_json(page, reader.clock(), style.patient_names, order)}

    _add_objects(app, reader, pages, shows)
    if shows.theatre:
        add_view(app, shows.theatre)


def _add_objects(app: FastAPI, reader: Reader, pages: Pages, shows: Shows) -> None:
    makers: dict[str, Montage] = {"sc": lambda result, _sources: capture_png(result)}
    if shows.picture:
        makers["seg"] = shows.picture

    @app.get("/studies/{uid}/objects/{sop}.png", include_in_schema=False)
    def object_picture(uid: str, sop: str) -> Response:
        found, sources = reader.result(uid, sop)
        if found.kind not in makers:
            raise HTTPException(404, "There is no picture of this object.")
        try:
            png = makers[found.kind](_file(shows.results_dir, found), sources)
        except NoPicture as error:
            raise HTTPException(404, f"There is no picture of this object: {error}.") from error
        return Response(png, media_type="image/png")

    @app.get("/studies/{uid}/objects/{sop}.dcm")
    def object_file(uid: str, sop: str) -> FileResponse:
        """Return one result object as a DICOM file (PS3.10)."""
        found, _ = reader.result(uid, sop)
        name = f"{found.kind}-{found.sop_instance_uid}.dcm"
        return FileResponse(_file(shows.results_dir, found), media_type="application/dicom", filename=name)

    @app.get("/studies/{uid}/objects/{sop}", response_class=HTMLResponse, include_in_schema=False)
    def report_page(request: Request, uid: str, sop: str) -> HTMLResponse:
        found, _ = reader.result(uid, sop)
        if found.kind != "sr":
            raise HTTPException(404, "This object holds no text.")
        try:
            said = lines(_file(shows.results_dir, found))
        except NoDocument as error:
            raise HTTPException(404, f"There is no text of this object: {error}.") from error
        return pages.answer(request, "report.html", now=reader.clock(), uid=uid, sop=sop, lines=said)


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
