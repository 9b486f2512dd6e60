"""Reads what the pages show, and knows how they look."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from fastapi import HTTPException
from sqlmodel import Session

from service.domain.order import NO_CAP, ReadingOrder
from service.store import worklist
from service.store.database import Database
from service.store.filters import MOST_TEXT
from service.store.tables import ResultObject
from service.store.views import MOST_NAME, views_of
from service.web.filters import offered, view_of
from service.web.rows import cap_words, row, tally
from service.web.site import READ_WITHIN, ReadWithin, SiteViewer

_T = TypeVar("_T")


@dataclass(frozen=True)
class WebStyle:
    """How the pages look and who may see them.

    access_token: "" for none; patient_names: full, initials or hidden; refresh_s: the page asks for news this often;
    limit: most rows of the worklist; window_s: studies with no new image for longer are left out, seconds; order: the
    cap on the wait; expectation: the file of the published simulation, None: there is none; read_within: how soon studies
    should be read; viewers: of the site.
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
    read_within: ReadWithin = READ_WITHIN
    viewers: tuple[SiteViewer, ...] = ()


@dataclass(frozen=True)
class Reader:
    """Reads what the pages show, each time in one short transaction."""

    database: Database
    clock: Callable[[], float]
    style: WebStyle

    def reading_list(self, given: Mapping[str, str], text: str = "", who: str = "") -> dict[str, Any]:
        """Return rows, entries and the figures above them.

        given: the query of the address; text: what is searched for; who: whose saved views are named.
        """
        now, style = self.clock(), self.style
        view = view_of(given, text, style.patient_names)
        window_s = view.hours * 3600.0 or style.window_s
        with self.database.reading() as session:
            census = worklist.census(session, now, style.window_s, style.order.longest_wait_s)
            order = census.order(style.order)
            entries = worklist.reading_list(session, style.limit, now, window_s, order, view.chosen)
            findings = worklist.findings_seen(session, now, window_s)
            saved = views_of(session, who) if who else []
            there = len(entries)
            if there == style.limit:
                there = worklist.how_many(session, now, window_s, view.chosen)
        rows = [row(entry, now, style.patient_names, style.read_within) for entry in entries]
        window_h = round(style.window_s / 3600)
        return {"now": now, "entries": entries, "rows": rows, "counts": census.by_state, "tally": tally(census, rows),
                "hidden": there - len(rows), "window_h": round(window_s / 3600), "view": view,
                "cap": cap_words(style.order, order), "most_text": MOST_TEXT, "saved": saved, "most_name": MOST_NAME,
                "choices": offered(view, findings, window_h, style.patient_names)}

    def study(self, study_instance_uid: str) -> tuple[worklist.StudyPage, ReadingOrder]:
        """Return one study and the order in force; 404 when there is none."""
        style = self.style
        with self.database.reading() as session:
            census = worklist.census(session, self.clock(), style.window_s, style.order.longest_wait_s)
            page = found(worklist.study_page(session, study_instance_uid), "study")
        return page, census.order(style.order)

    def result(self, uid: str, sop: str) -> tuple[ResultObject, dict[str, str]]:
        """Return one result object and the paths of the study's images; 404 when there is none."""
        with self.database.reading() as session:
            made = found(worklist.result_object(session, uid, sop), "result object")
            return made, self._sources(session, made)

    @staticmethod
    def _sources(session: Session, made: ResultObject) -> dict[str, str]:
        return worklist.image_paths(session, made.study_id) if made.kind == "seg" else {}


def found(value: _T | None, what: str) -> _T:
    """Return a value; 404 where there is none."""
    if value is None:
        raise HTTPException(404, f"There is no such {what} here.")
    return value
