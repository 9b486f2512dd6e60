"""Feedback: a reader agrees or disagrees with a finding; the page /feedback tells how often readers agree."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from service.domain.verdict import Judged, Value, Verdict, Why, latest, missed, predictive_values
from service.metrics import Metrics
from service.store.database import Database
from service.store.tables import Opinion
from service.store.verdicts import MOST_NOTE, NothingToJudge, give_verdict, judged_since
from service.web import words
from service.web.forms import fields_of
from service.web.page import RESEARCH_USE, Pages
from service.web.who import reader_name

WINDOW_S = 365 * 86400.0
GROUPS: tuple[tuple[str, str, Callable[[Judged], str]], ...] = (
    ("By model", "", lambda one: ""),
    ("By scanner", "Scanner", lambda one: one.scanner or "not named"),
    ("By sender", "Calling AE title", lambda one: one.sender or "not known"),
)


class Given(BaseModel):
    """A verdict as a program or a form gives it. bundle, finding: as the study's result names them."""

    bundle: str
    finding: str
    verdict: str
    why: str = ""
    note: str = ""


@dataclass(frozen=True)
class Line:
    """One positive predictive value as written; low, at, high: in per cent, for the bar."""

    model: str
    finding: str
    group: str
    agreed: int
    judged: int
    said: str
    interval: str
    low: float
    at: float
    high: float


def add_feedback(app: FastAPI, database: Database, clock: Callable[[], float], pages: Pages, metrics: Metrics) -> None:
    """Add the verdicts, the page of how often readers agree, and the same for programs."""

    def judge(uid: str, given: Given, who: str) -> Opinion:
        verdict, why, note = checked(given)
        try:
            with database.transaction() as session:
                kept = give_verdict(session, uid, given.bundle, given.finding, verdict, why, note, who, clock())
        except NothingToJudge as error:
            raise HTTPException(404, f"Nothing is kept: {error}.") from error
        metrics.verdicts.labels(kept.bundle, kept.finding, kept.verdict).inc()
        return kept

    def read() -> tuple[float, list[Judged]]:
        now = clock()
        with database.reading() as session:
            return now, latest(judged_since(session, now - WINDOW_S))

    @app.post("/studies/{uid}/verdict", include_in_schema=False)
    async def verdict_from_page(request: Request, uid: str) -> RedirectResponse:
        fields = await fields_of(request)
        given = Given(**{name: fields.get(name, "") for name in Given.model_fields})
        await run_in_threadpool(judge, uid, given, reader_name(request))
        return RedirectResponse(f"{request.scope.get('root_path', '')}/studies/{uid}#findings", 303)

    @app.post("/api/studies/{uid}/verdicts")
    def verdict_from_program(request: Request, uid: str, given: Given) -> dict[str, Any]:
        """Agree or disagree with a finding; a second verdict of the same reader takes the place of the first."""
        kept = judge(uid, given, reader_name(request))
        return {"study_instance_uid": uid, "bundle": kept.bundle, "finding": kept.finding, "verdict": kept.verdict,
                "why": kept.why, "reader": kept.reader, "at": kept.at}

    @app.get("/feedback", response_class=HTMLResponse, include_in_schema=False)
    def feedback_page(request: Request) -> HTMLResponse:
        now, judged = read()
        tables = [(title, head, lines(predictive_values(judged, group))) for title, head, group in GROUPS]
        lost = [(model, words.humanised(finding), count) for (model, finding), count in missed(judged).items()]
        return pages.answer(request, "feedback.html", now=now, tables=tables, missed=lost, judged=len(judged),
                            days=round(WINDOW_S / 86400))

    @app.get("/api/feedback")
    def feedback_json() -> dict[str, Any]:
        """Return positive predictive values with 95 % intervals (Wilson): by model, by scanner, by sender."""
        now, judged = read()
        return {"notice": RESEARCH_USE, "at": now, "judged": len(judged)} | {
            title.removeprefix("By ").replace(" ", "_"): _as_json(predictive_values(judged, group))
            for title, _, group in GROUPS}


def checked(given: Given) -> tuple[Verdict, Why, str]:
    """Return verdict, reason and note. Raises: HTTPException 422 that says what is accepted."""
    if given.verdict not in list(Verdict):
        raise HTTPException(422, f"verdict: accepted: {', '.join(Verdict)}.")
    if given.why not in list(Why):
        raise HTTPException(422, f"why: accepted: {', '.join(w for w in Why if w)}, or nothing.")
    note = given.note.strip()
    if len(note) > MOST_NOTE or any(c != "\n" and not c.isprintable() for c in note.replace("\r\n", "\n")):
        raise HTTPException(422, f"note: accepted: at most {MOST_NOTE} characters, none of them a control character.")
    disagrees = given.verdict == Verdict.DISAGREE
    return Verdict(given.verdict), Why(given.why) if disagrees else Why.NONE, note.replace("\r\n", "\n")


def lines(values: Mapping[tuple[str, str, str], Value]) -> list[Line]:
    """Write positive predictive values."""
    made = []
    for (model, finding, group), value in values.items():
        low, high = (100 * end for end in value.interval)
        at = 100 * (value.ratio or 0.0)
        made.append(Line(model, words.humanised(finding), group, value.agreed, value.judged, f"{at:.0f} %",
                         f"{low:.0f} to {high:.0f} %", round(low, 1), round(at, 1), round(high, 1)))
    return made


def _as_json(values: Mapping[tuple[str, str, str], Value]) -> list[dict[str, Any]]:
    return [{"model": model, "finding": finding, "group": group, "agreed": value.agreed, "judged": value.judged,
             "ppv": value.ratio, "low": value.interval[0], "high": value.interval[1]}
            for (model, finding, group), value in values.items()]
