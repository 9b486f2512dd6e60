"""Tells the audit trail who looked at which study, and who was refused what."""

from __future__ import annotations

import re

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.audit.trail import Trail
from service.web.who import current_user

_STUDY = re.compile(r"/(api/)?studies/([0-9.]{1,64})(/.*)?")
_FORBIDDEN, _LONGEST = 403, 120


class Witness:
    """ASGI middleware around the guard: each answer that shows something of a study is told, whatever page it is of.

    So is each refusal (403) to somebody who is logged in: a function that the account may not use, or a form that is not of
    its session.
    """

    def __init__(self, app: ASGIApp, trail: Trail) -> None:
        self._app, self._trail = app, trail

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and tell of it when it was answered."""
        if scope["type"] != "http":
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
            found = _STUDY.fullmatch(scope["path"]) if scope["method"] in ("GET", "HEAD") else None
            if status == _FORBIDDEN or (found is not None and 200 <= status < 300):
                await run_in_threadpool(self._tell, scope, status, found)

    def _tell(self, scope: Scope, status: int, found: re.Match[str] | None) -> None:
        user, client = current_user(Request(scope)), scope.get("client")
        name, address = user.name if user else "", client[0] if client else ""
        if found is not None and status != _FORBIDDEN:
            self._trail.seen(name, address, found[2], _what(found[1], found[3] or ""))
        elif name:
            self._trail.refused(name, address, f"{scope['method']} {scope['path'][:_LONGEST]}")


def _what(program: str | None, rest: str) -> str:
    if rest.endswith(".dcm"):
        return "result object fetched"
    return "study read by a program" if program else "study shown"
