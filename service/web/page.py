"""Writes a page: the templates with what every page carries."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from service.web import words
from service.web.who import csrf_token, current_user, may_administer

RESEARCH_USE = "Research use only. Not for clinical diagnosis."
STATIC = Path(__file__).parent / "static"
_TEMPLATES = Path(__file__).parent / "templates"
_THEMES = ("dark", "light")


class Pages:
    """The templates. Every value is escaped; a value that a template names and nobody gives is an error."""

    def __init__(self, title: str, version: str, refresh_s: int, with_admin: bool = False) -> None:
        self._environment = Environment(
            loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined,
            trim_blocks=True, lstrip_blocks=True,
        )
        self._given = {"title": title, "version": version, "refresh_s": refresh_s, "notice": RESEARCH_USE,
                       "with_admin": with_admin}

    def answer(
        self, request: Request, template: str, status: int = 200, headers: Mapping[str, str] | None = None,
        now: float = 0.0, **values: Any,
    ) -> HTMLResponse:
        """Return a page. now: Unix time, seconds, shown as the time of the page.

        Each template also gets who is logged in (user), whether they may change something (administers), and what every
        form must send back (csrf).
        """
        theme = request.query_params.get("theme", "")
        text = self._environment.get_template(template).render(
            self._given, base=request.scope.get("root_path", ""), theme=theme if theme in _THEMES else "",
            at=words.clock_time(now, now), user=current_user(request), administers=may_administer(request),
            csrf=csrf_token(request), **values,
        )
        return HTMLResponse(text, status, headers=dict(headers or {}))
