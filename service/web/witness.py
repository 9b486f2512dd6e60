"""Tells the audit trail who looked at which study."""

from __future__ import annotations

import re

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.audit.trail import Trail
from service.web.who import current_user

_STUDY = re.compile(r"/(api/)?studies/([0-9.]{1,64})(/.*)?")


class Witness:
    """ASGI middleware inside the guard: each answer that shows something of a study is told, whatever page it is of."""

    def __init__(self, app: ASGIApp, trail: Trail) -> None:
        self._app, self._trail = app, trail

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and tell of it when it was answered well."""
        found = _STUDY.fullmatch(scope["path"]) if scope["type"] == "http" and scope["method"] in ("GET", "HEAD") else None
        if found is None:
            await self._app(scope, receive, send)
            return
        status = 0

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        finally:
            if 200 <= status < 300:
                user, client = current_user(Request(scope)), scope.get("client")
                await run_in_threadpool(self._trail.seen, user.name if user else "", client[0] if client else "", found[2],
                                        _what(found[1], found[3] or ""))


def _what(program: str | None, rest: str) -> str:
    if rest.endswith(".dcm"):
        return "result object fetched"
    return "study read by a program" if program else "study shown"
