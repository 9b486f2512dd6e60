"""The pages that let a person in and out: /login and /logout."""

from __future__ import annotations

import math
from urllib.parse import quote, unquote

from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from service.access.door import Door, Entered, TurnedAway
from service.access.identity import Provider, ProviderAway
from service.access.secrets import csrf_of, new_token, same
from service.web.entrance import AWAY_COOKIE, FORM_COOKIE, address_of, is_https, let_in, login_path, set_cookie
from service.web.forms import TooLarge, fields, read_body
from service.web.guard import COOKIE, cookies
from service.web.once import add_once
from service.web.page import Pages
from service.web.who import current_user

_FORM_S = 3600
_TOKEN_CHARACTERS = 43
_AWAY = "The identity provider does not answer. Please try again in a while, or tell IT."


def add_login(app: FastAPI, door: Door, pages: Pages) -> None:
    """Add the pages. The guard lets everybody come to /login and below it, and only a session to /logout."""
    add_once(app, door, pages)
    if door.provider is not None:
        _add_provider(app, door, door.provider, pages)

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
        door.leave(cookies(request.headers).get(COOKIE, ""), user.name if user else "", address_of(request))
        answer = RedirectResponse(f"{base}/login", 303, {"Clear-Site-Data": '"cache"'})
        answer.delete_cookie(COOKIE, path=base or "/", secure=is_https(request), httponly=True, samesite="lax")
        return answer


def _add_provider(app: FastAPI, door: Door, provider: Provider, pages: Pages) -> None:
    """Add the way to the identity provider and back. What ties the two together is in a cookie of their own."""

    @app.get("/login/oidc", include_in_schema=False)
    def to_provider(request: Request) -> Response:
        secret, wanted = new_token(), local(request.query_params.get("next", "/"))
        try:
            answer = RedirectResponse(provider.begin(secret), 303)
        except ProviderAway:
            return _form(request, door, pages, wanted, "", _AWAY, 503)
        set_cookie(answer, request, AWAY_COOKIE, f"{secret}{quote(wanted, safe='')}", "lax", _FORM_S)
        return answer

    @app.get("/login/oidc/callback", include_in_schema=False)
    def from_provider(request: Request) -> Response:
        kept = cookies(request.headers).get(AWAY_COOKIE, "")
        secret, wanted = kept[:_TOKEN_CHARACTERS], local(unquote(kept[_TOKEN_CHARACTERS:]) or "/")
        try:
            found = door.come_back(secret, request.query_params, address_of(request))
        except ProviderAway:
            return _form(request, door, pages, wanted, "", _AWAY, 503)
        if isinstance(found, Entered):
            answer = let_in(request, wanted, found)
            answer.delete_cookie(AWAY_COOKIE, path=login_path(request), secure=is_https(request), httponly=True,
                                 samesite="lax")
            return answer
        if found.wait_s:
            return _again(request, door, pages, wanted, "", found)
        return _form(request, door, pages, wanted, "", f"Not let in: {found.because}.", 403)


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
    found = door.enter(name, sent.get("password", ""), address_of(request))
    if isinstance(found, TurnedAway):
        return _again(request, door, pages, wanted, name, found)
    return let_in(request, wanted, found)


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
    answer = pages.answer(request, "login.html", status, problem=problem, people=door.has_passwords(), name=name[:64],
                          next=wanted, form_csrf=csrf_of(token), provider=door.provider.label if door.provider else "")
    set_cookie(answer, request, FORM_COOKIE, token, "strict", _FORM_S)
    return answer
