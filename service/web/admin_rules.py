"""The rules of urgency on the administrator's pages: what is in use, and what others would have made of past studies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, PlainTextResponse
from starlette.concurrency import run_in_threadpool

from service.domain.urgency import Urgency
from service.pipeline.dry_run import DryRun
from service.triage.rules import Rule
from service.triage.rules_file import InvalidRules, rules_as_toml
from service.triage.trial import MOST_TEXT
from service.web import words
from service.web.actions import only_administrators
from service.web.forms import fields_of
from service.web.page import Pages

DAYS = (7, 30, 90, 365)
_SHOWN = 100


@dataclass(frozen=True)
class Rules:
    """What the page works with. in_use: read anew; dry_run: a file's text and since when. Raises of both: InvalidRules."""

    in_use: Callable[[], Sequence[Rule]]
    dry_run: Callable[[str, float], DryRun]
    file: str = ""


def add_rules(app: FastAPI, rules: Rules, clock: Callable[[], float], pages: Pages) -> None:
    """Add the page. It changes nothing: the file in use is the site's, and is put in place by whoever may write it."""

    def page(request: Request, text: str | None = None, days: int = 30) -> HTMLResponse:
        now, problem, found = clock(), "", None
        in_use = rules.in_use()
        if text is not None:
            try:
                found = rules.dry_run(text, now - days * 86400.0)
            except InvalidRules as error:
                problem = str(error)
        moved = [(study.study_instance_uid, study.modality, words.clock_time(study.first_received_at, now), move)
                 for study, move in found.moved[:_SHOWN]] if found else []
        return pages.answer(
            request, "admin_rules.html", 400 if problem else 200, now=now, rules=in_use, file=rules.file, days=days,
            all_days=DAYS, text=rules_as_toml(in_use) if text is None else text, problem=problem, found=found, moved=moved,
            more=len(found.moved) - len(moved) if found else 0, urgencies=list(Urgency), most_text=MOST_TEXT)

    @app.get("/admin/rules", include_in_schema=False)
    def rules_page(request: Request) -> HTMLResponse:
        only_administrators(request)
        return page(request)

    @app.get("/admin/rules.toml", include_in_schema=False)
    def rules_file(request: Request) -> PlainTextResponse:
        only_administrators(request)
        return PlainTextResponse(rules_as_toml(rules.in_use()),
                                 headers={"Content-Disposition": 'attachment; filename="rules.toml"'})

    @app.post("/admin/rules", include_in_schema=False)
    async def rules_trial(request: Request) -> HTMLResponse:
        only_administrators(request)
        sent = await fields_of(request)
        days = int(sent["days"]) if sent.get("days", "") in map(str, DAYS) else 30
        return await run_in_threadpool(page, request, sent.get("text", "").replace("\r\n", "\n"), days)
