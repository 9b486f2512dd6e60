"""The pages that let a person in and out: /login and /logout."""

from __future__ import annotations

import math

from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from service.access.door import Door, Entered, TurnedAway
from service.access.secrets import csrf_of, new_token, same
from service.web.forms import TooLarge, fields, read_body
from service.web.guard import COOKIE, cookies
from service.web.page import Pages
from service.web.who import current_user

FORM_COOKIE = "firstlook-form"
_FORM_S = 3600


def add_login(app: FastAPI, door: Door, pages: Pages) -> None:
    """Add the pages. The guard lets everybody come to /login, and only a session to /logout."""

    @app.get("/login", include_in_schema=False)
    def login_page(request: Request) -> Response:
        wanted = local(request.query_params.get("next", "/"))
        if current_user(request) is not None or not door.asks():
            return RedirectResponse(request.scope.get("root_path", "") + wanted, 303)
        return _form(request, door, pages, wanted)

    @app.post("/login", include_in_schema=False)
    async def login(request: Request) -> Response:
        try:
            sent = fields(request.headers.get("content-type", ""), await read_body(request.receive))
        except TooLarge:
            sent = {}
        return await run_in_threadpool(_judge, request, door, pages, sent)

    @app.post("/logout", include_in_schema=False)
    def logout(request: Request) -> Response:
        base = request.scope.get("root_path", "")
        user = current_user(request)
        door.leave(cookies(request.headers).get(COOKIE, ""), user.name if user else "", _address(request))
        answer = RedirectResponse(f"{base}/login", 303, {"Clear-Site-Data": '"cache"'})
        answer.delete_cookie(COOKIE, path=base or "/", secure=_is_https(request), httponly=True, samesite="lax")
        return answer


def local(path: str) -> str:
    """Return a path of this site to go to after the login; "/" for anything that could lead elsewhere."""
    inside = path.startswith("/") and not path.startswith(("//", "/\\", "/login", "/logout"))
    return path if inside and path.isascii() and path.isprintable() and "\\" not in path else "/"


def _judge(request: Request, door: Door, pages: Pages, sent: dict[str, str]) -> Response:
    """Answer a form: a session and the page that was wanted, or the form again with what is wrong."""
    wanted, name = local(sent.get("next", "/")), sent.get("name", "")
    form_token = cookies(request.headers).get(FORM_COOKIE, "")
    if not form_token or not same(sent.get("csrf", ""), csrf_of(form_token)):
        return _form(request, door, pages, wanted, name, "This page was too old, or cookies are off. Please try again.", 403)
    found = door.enter(name, sent.get("password", ""), _address(request))
    if isinstance(found, TurnedAway):
        return _again(request, door, pages, wanted, name, found)
    return _let_in(request, wanted, found)


def _let_in(request: Request, wanted: str, entered: Entered) -> Response:
    base, https = request.scope.get("root_path", ""), _is_https(request)
    answer = RedirectResponse(base + wanted, 303)
    answer.set_cookie(COOKIE, entered.token, path=base or "/", secure=https, httponly=True, samesite="lax")
    answer.delete_cookie(FORM_COOKIE, path=f"{base}/login", secure=https, httponly=True, samesite="strict")
    return answer


def _again(request: Request, door: Door, pages: Pages, wanted: str, name: str, found: TurnedAway) -> Response:
    if not found.wait_s:
        return _form(request, door, pages, wanted, name, "Name or password is wrong.", 401)
    minutes = math.ceil(found.wait_s / 60)
    answer = _form(request, door, pages, wanted, name, f"Too many wrong tries. Wait {minutes} min, then try again.", 429)
    answer.headers["Retry-After"] = str(math.ceil(found.wait_s))
    return answer


def _form(request: Request, door: Door, pages: Pages, wanted: str, name: str = "", problem: str = "",
          status: int = 200) -> Response:
    """Write the form, with a token that is bound to a cookie of its own."""
    token = new_token()
    answer = pages.answer(request, "login.html", status, problem=problem, people=door.has_people(), name=name[:64],
                          next=wanted, form_csrf=csrf_of(token))
    answer.set_cookie(FORM_COOKIE, token, max_age=_FORM_S, path=f"{request.scope.get('root_path', '')}/login",
                      secure=_is_https(request), httponly=True, samesite="strict")
    return answer


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def _is_https(request: Request) -> bool:
    return str(request.scope.get("scheme", "")) == "https"
