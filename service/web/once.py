"""The page behind a link that lets somebody in once: it takes a press of a button, for browsers open links by themselves."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from service.access.door import Door, Entered
from service.access.secrets import csrf_of, new_token, same
from service.web.entrance import ONCE_COOKIE, address_of, let_in, set_cookie
from service.web.forms import TooLarge, fields, read_body
from service.web.guard import cookies
from service.web.page import Pages

_MOST_KEY = 64


def add_once(app: FastAPI, door: Door, pages: Pages) -> None:
    """Add the page. The guard lets everybody come to it."""
    def form(request: Request, name: str, key: str, status: int) -> Response:
        token = new_token()
        answer = pages.answer(request, "once.html", status, name=name, key=key, form_csrf=csrf_of(token))
        set_cookie(answer, request, ONCE_COOKIE, token, "strict", 600)
        return answer

    @app.get("/login/once", include_in_schema=False)
    def once(request: Request) -> Response:
        key = request.query_params.get("key", "")[:_MOST_KEY]
        name = door.link_holds(key)
        return form(request, name, key, 200 if name else 404)

    @app.post("/login/once", include_in_schema=False)
    async def enter(request: Request) -> Response:
        try:
            sent = fields(request.headers.get("content-type", ""), await read_body(request.receive))
        except TooLarge:
            sent = {}
        return await run_in_threadpool(judge, request, sent)

    def judge(request: Request, sent: dict[str, str]) -> Response:
        token = cookies(request.headers).get(ONCE_COOKIE, "")
        if not token or not same(sent.get("csrf", ""), csrf_of(token)):
            return form(request, "", "", 403)
        found = door.enter_by_link(sent.get("key", "")[:_MOST_KEY], address_of(request))
        return let_in(request, "/", found) if isinstance(found, Entered) else form(request, "", "", 404)
