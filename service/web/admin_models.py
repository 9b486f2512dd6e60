"""The models on the administrator's pages: which read and which look beside; switched while the service runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from sqlmodel import Session
from starlette.concurrency import run_in_threadpool

from service.audit.trail import Trail
from service.domain.study import Kind
from service.store.activations import (
    BESIDE,
    before_last,
    history,
    latest,
    named,
    roll_back,
    switch,
    switch_beside,
    switched_to,
)
from service.store.database import Database
from service.web import words
from service.web.actions import an_administrator, only_administrators
from service.web.entrance import address_of
from service.web.forms import fields_of
from service.web.page import Pages

KINDS = {Kind.CT.value: "Chest CT", Kind.CXR.value: "Radiographs"}
_WHAT = {Kind.CT.value: "Chest CT is read by", Kind.CXR.value: "Radiographs are read by",
         BESIDE: "Beside the active ones look"}
_PLACE = "place-"
_SHOWN = 10
_FOREIGN = "This form is not one of this page: please choose again."
_COMMAND = "Where nobody logs in, models are switched by command: firstlook models activate."


@dataclass(frozen=True)
class BundleLine:
    """A bundle. digest: SHA-256 of its weights; kind: of the studies that it reads, "" for one that reads none; use: what
    else for, "" for nothing; problem: why it cannot be used."""

    name: str
    version: str = ""
    title: str = ""
    task: str = ""
    digest: str = ""
    kind: str = ""
    use: str = ""
    problem: str = ""
    card: bool = False


@dataclass(frozen=True)
class Models:
    """What the page works with. bundles: read anew; card: the text of a model card, None without one; as_set: the bundles
    that the settings name, for each kind of study and BESIDE; problems: why bundles cannot be what is asked of them."""

    bundles: Callable[[], Sequence[BundleLine]]
    card: Callable[[str], str | None]
    as_set: Mapping[str, tuple[str, ...]]
    problems: Callable[[str, Sequence[str]], Sequence[str]]

    def in_use(self, session: Session, kind: str) -> tuple[str, ...]:
        """Return the bundles of a kind in use now: as last switched, else as set."""
        found = switched_to(session, kind)
        return self.as_set[kind] if found is None else found


class _NotDone(Exception):
    """What was asked for cannot be done. The text says why; status: of the answer."""

    def __init__(self, why: str, status: int = 400) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True)
class _Step:
    """A switch that is asked for. names: from then on; back: it undoes the last one; seen: the number of that."""

    kind: str
    names: tuple[str, ...]
    back: bool
    seen: int


class _Desk:
    """Shows the page, asks whether a switch is meant, and does it."""

    def __init__(self, database: Database, clock: Callable[[], float], pages: Pages, models: Models, trail: Trail) -> None:
        self._database, self._clock, self._pages, self._models, self._trail = database, clock, pages, models, trail

    def page(self, request: Request, told: str = "", status: int = 200) -> HTMLResponse:
        """Return the page. told: what went wrong."""
        now, bundles = self._clock(), self._models.bundles()
        with self._database.reading() as session:
            beside = self._models.in_use(session, BESIDE)
            kinds = [(kind, title, [b for b in bundles if b.kind == kind], self._models.in_use(session, kind),
                      self._goes_back_to(session, kind)) for kind, title in KINDS.items()]
            rows = sorted((row for kind in (*KINDS, BESIDE) for row in history(session, kind)),
                          key=lambda row: (row.at, row.id or 0), reverse=True)[:_SHOWN]
        switches = [(words.clock_time(row.at, now), _WHAT[row.kind], ", ".join(named(row)) or (
            "none" if row.bundles else "what the settings say"), row.who, row.rolled_back) for row in rows]
        return self._pages.answer(request, "admin_models.html", status, now=now, told=told, kinds=kinds, beside=beside,
                                  others=[b for b in bundles if not b.kind], switches=switches, place=_PLACE)

    def chosen(self, kind: str, sent: Mapping[str, str]) -> _Step:
        """Return the switch that the places of a form mean: the bundle at place 1 leads."""
        places = {key.removeprefix(_PLACE): value for key, value in sent.items() if key.startswith(_PLACE) and value}
        known = [b.name for b in self._models.bundles() if b.kind == kind]
        if unknown := sorted(set(places) - set(known)):
            raise _NotDone(f"There is no bundle {', '.join(unknown)} that reads this kind of study.")
        if not places:
            raise _NotDone("No bundle was chosen: one at least has to read.")
        if any(not p.isascii() or not p.isdigit() or not 1 <= int(p) <= len(known) for p in places.values()):
            raise _NotDone(f"A place is a number from 1 to {len(known)}.")
        if len({int(p) for p in places.values()}) < len(places):
            raise _NotDone("Two bundles have the same place.")
        return self._step(kind, tuple(sorted(places, key=lambda name: int(places[name]))))

    def beside(self, sent: Mapping[str, str]) -> _Step:
        """Return the switch by which a bundle begins or ends to look beside."""
        begin, end = sent.get("begin", ""), sent.get("end", "")
        with self._database.reading() as session:
            now = self._models.in_use(session, BESIDE)
        if begin:
            return self._step(BESIDE, (*now, begin) if begin not in now else now)
        if end not in now:
            raise _NotDone(f"{end or 'No bundle'} looks beside.")
        return self._step(BESIDE, tuple(name for name in now if name != end))

    def back(self, kind: str) -> _Step:
        """Return the switch that undoes the last one."""
        with self._database.reading() as session:
            before = before_last(session, kind)
        if before is None:
            raise _NotDone("There is nothing to roll back.", 409)
        return self._step(kind, before or self._models.as_set[kind], back=True)

    def confirm(self, request: Request, step: _Step) -> HTMLResponse:
        """Ask whether it is meant, and name what will change."""
        self._require_whole(step)
        with self._database.reading() as session:
            now = self._models.in_use(session, step.kind)
            beside = self._models.in_use(session, BESIDE) if step.kind != BESIDE else ()
        lines = {line.name: line for line in self._models.bundles()}
        then = [lines.get(name, BundleLine(name)) for name in step.names]
        return self._pages.answer(
            request, "admin_switch.html", now=self._clock(), step=step, what=_WHAT[step.kind], then=then,
            before=[lines.get(name, BundleLine(name)) for name in now], begins=[n for n in step.names if n not in now],
            ends=[n for n in now if n not in step.names], no_longer_beside=[n for n in step.names if n in beside])

    def do(self, request: Request, by: str, step: _Step) -> RedirectResponse:
        """Do what was confirmed, unless something was switched since the question."""
        self._require_whole(step)
        with self._database.transaction() as session:
            before = self._models.in_use(session, step.kind)
            if latest(session, step.kind) != step.seen:
                raise _NotDone("Somebody has switched in the meantime: nothing was done. This is in use now.", 409)
            if step.back:
                if (roll_back(session, step.kind, self._clock(), by) or self._models.as_set[step.kind]) != step.names:
                    raise _NotDone(_FOREIGN)
            elif step.kind == BESIDE:
                switch_beside(session, step.names, self._models.as_set[BESIDE], self._clock(), by)
            else:
                switch(session, step.kind, step.names, self._clock(), by)
        self._trail.configuration_changed(
            by, f"{_WHAT[step.kind]} {_list(step.names)}{' (rolled back)' if step.back else ''}; before: {_list(before)}",
            address_of(request))
        return RedirectResponse(f"{request.scope.get('root_path', '')}/admin/models", 303)

    def sent(self, kind: str, sent: Mapping[str, str]) -> _Step:
        """Return the step that the form of the question sends back."""
        seen, back = sent.get("seen", ""), bool(sent.get("back"))
        names = tuple(filter(None, sent.get("names", "").split(",")))
        if not seen.isascii() or not seen.isdigit() or (kind == BESIDE if back else not names and kind != BESIDE):
            raise _NotDone(_FOREIGN)
        return _Step(kind, names, back, int(seen))

    def _step(self, kind: str, names: tuple[str, ...], back: bool = False) -> _Step:
        with self._database.reading() as session:
            now, seen = self._models.in_use(session, kind), latest(session, kind)
        if names == now and not back:
            raise _NotDone("This is what is in use: nothing would change.")
        return _Step(kind, names, back, seen)

    def _goes_back_to(self, session: Session, kind: str) -> str:
        before = before_last(session, kind)
        return "" if before is None else ", ".join(before) or "what the settings say"

    def _require_whole(self, step: _Step) -> None:
        found = self._models.problems(step.kind, step.names)
        if found:
            raise _NotDone(f"Nothing was switched: {'; '.join(found)}.")


def add_models(app: FastAPI, database: Database, clock: Callable[[], float], pages: Pages, models: Models,
               trail: Trail) -> None:
    """Add the pages. Who may switch is an administrator who has logged in; each switch is told in the audit trail."""
    desk = _Desk(database, clock, pages, models, trail)

    @app.get("/admin/models", include_in_schema=False)
    def models_page(request: Request) -> HTMLResponse:
        only_administrators(request)
        return desk.page(request)

    @app.get("/admin/bundles/{name}", include_in_schema=False)
    def card(request: Request, name: str) -> HTMLResponse:
        only_administrators(request)
        text = models.card(name)
        if text is None:
            raise HTTPException(404, "There is no such model card here.")
        return pages.answer(request, "card.html", name=name, text=text)

    async def answer(request: Request, kind: str, act: Callable[[str, dict[str, str]], Any]) -> Any:
        """Do something with the form of an administrator, or show the page with what is wrong."""
        by = an_administrator(request, _COMMAND).name
        if kind not in (*KINDS, BESIDE):
            raise HTTPException(404, "There is no such kind of study here.")
        sent = await fields_of(request)
        try:
            return await run_in_threadpool(act, by, sent)
        except _NotDone as error:
            return await run_in_threadpool(desk.page, request, str(error), error.status)

    @app.post("/admin/models/{kind}", include_in_schema=False)
    async def ask(request: Request, kind: str) -> Any:
        return await answer(request, kind, lambda _by, sent: desk.confirm(
            request, desk.beside(sent) if kind == BESIDE else desk.chosen(kind, sent)))

    @app.post("/admin/models/{kind}/rollback", include_in_schema=False)
    async def ask_back(request: Request, kind: str) -> Any:
        return await answer(request, kind if kind in KINDS else "",
                            lambda _by, _sent: desk.confirm(request, desk.back(kind)))

    @app.post("/admin/models/{kind}/confirmed", include_in_schema=False)
    async def confirmed(request: Request, kind: str) -> Any:
        return await answer(request, kind, lambda by, sent: desk.do(request, by, desk.sent(kind, sent)))


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"
