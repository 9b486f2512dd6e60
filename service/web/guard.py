"""Who may see the pages, and the headers that each answer carries."""

from __future__ import annotations

import base64
import binascii
import hmac
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.access.door import Door
from service.access.secrets import csrf_of, same
from service.web.forms import MOST_BYTES, TooLarge, again, announced, fields, read_body
from service.web.who import let_in

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
                               "object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_OPEN = "/health/"
# What is open before anybody is known; the forms of the first have tokens of their own.
_WAYS_IN = frozenset({"/login", "/login/oidc", "/login/oidc/callback", "/login/once"})
_FILES = "/static/"
_ROWS = "/rows"  # what the list asks for by itself, by POST too where it is searched
_SAFE = ("GET", "HEAD", "OPTIONS")
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]", "::1")
_HSTS = {"Strict-Transport-Security": "max-age=31536000"}
COOKIE = "firstlook-session"


class Guard:
    """ASGI middleware: asks who it is, and adds the security headers.

    access_token: password of HTTP Basic (any user name) or Bearer token. When it is empty the service listens on
    loopback only; then a request must also name a loopback host, so that no foreign page can reach it by its own name
    (DNS rebinding). door: where it asks for a login, people come in by a session and programs by a token of theirs or
    by access_token, which then only reads. /health/ is open: it holds no patient data, and what restarts a container
    has no password.
    """

    def __init__(self, app: ASGIApp, access_token: str, door: Door | None = None) -> None:
        self._app, self._token, self._door = app, access_token, door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass an allowed request on; answer the others."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        added = HEADERS | _HSTS if scope.get("scheme") == "https" else HEADERS

        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(added)
            await send(message)

        headers = Headers(scope=scope)
        refusal: Response | None = None
        if announced(headers) > MOST_BYTES:
            refusal = PlainTextResponse(
                f"Not accepted: a form of more than {MOST_BYTES} bytes.\n", 413, {"Connection": "close"})
        elif scope["path"].startswith(_OPEN):
            pass
        elif self._door is not None and await run_in_threadpool(self._door.asks):
            refusal, receive = await self._at_the_door(self._door, scope, headers, receive)
        else:
            refusal = self._refusal(headers) or _foreign(scope["method"], headers)
            let_in(scope, None)
        await (refusal or self._app)(scope, receive, send_secured)

    async def _at_the_door(
        self, door: Door, scope: Scope, headers: Headers, receive: Receive,
    ) -> tuple[Response | None, Receive]:
        """Let a session or a program in. Returns the answer to everybody else, and what gives the body."""
        method = scope["method"]
        refusal = _foreign(method, headers)
        given = "" if refusal else _given(headers.get("authorization", ""))
        if refusal or given:
            return refusal or await run_in_threadpool(_program, door, scope, given), receive
        token = cookies(headers).get(COOKIE, "")
        by_itself = scope["path"] == _ROWS or method in _SAFE
        active = headers.get("sec-fetch-mode", "navigate") == "navigate" or not by_itself
        user = await run_in_threadpool(door.sessions.user, token, active) if token else None
        if user is None:
            before = scope["path"] in _WAYS_IN or scope["path"].startswith(_FILES)
            return None if before else _to_login(scope, headers), receive
        let_in(scope, user, csrf_of(token))
        if method in _SAFE or scope["path"] in _WAYS_IN:
            return None, receive
        return await _check_form(headers, receive, csrf_of(token))

    def _refusal(self, headers: Headers) -> Response | None:
        if not self._token:
            host = headers.get("host", "").lower()
            if host in _LOOPBACK or host.rsplit(":", 1)[0] in _LOOPBACK:
                return None
            return PlainTextResponse("Without web.access_token this service answers to localhost only.\n", 421)
        if hmac.compare_digest(_given(headers.get("authorization", "")).encode(), self._token.encode()):
            return None
        return PlainTextResponse("The access token is needed: as the password, with any user name.\n", 401,
                                 {"WWW-Authenticate": 'Basic realm="firstlook", charset="UTF-8"'})


def cookies(headers: Headers) -> dict[str, str]:
    """Return the cookies of a request by name."""
    return cookie_parser("; ".join(headers.getlist("cookie")))


def _program(door: Door, scope: Scope, token: str) -> Response | None:
    """Let a program in that has a token; it only reads."""
    user = door.program(token)
    if user is None:
        return PlainTextResponse("This token is not known, revoked or over.\n", 401, {"WWW-Authenticate": "Bearer"})
    let_in(scope, user)
    if scope["method"] in _SAFE:
        return None
    return PlainTextResponse("A token only reads; what changes something asks for an administrator's login.\n", 403)


def _to_login(scope: Scope, headers: Headers) -> Response:
    """Send a person to the login, and tell a script or program that it is needed."""
    base = scope.get("root_path", "")
    if scope["method"] == "GET" and "text/html" in headers.get("accept", "") \
            and headers.get("sec-fetch-mode", "navigate") == "navigate":
        wanted = scope["path"] + (f"?{query}" if (query := scope["query_string"].decode("latin-1")) else "")
        return RedirectResponse(f"{base}/login?next={quote(wanted, safe='')}", 303)
    return PlainTextResponse("A login is needed.\n", 401, {"WWW-Authenticate": "Bearer"})


async def _check_form(headers: Headers, receive: Receive, wanted: str) -> tuple[Response | None, Receive]:
    """Refuse what changes something and does not carry the token of its session; its body can be read again."""
    given = headers.get("x-csrf-token", "")
    if not given:
        try:
            body = await read_body(receive)
        except TooLarge as error:
            return PlainTextResponse(f"Not accepted: {error}.\n", 413), receive
        given, receive = fields(headers.get("content-type", ""), body).get("csrf", ""), again(body, receive)
    if same(given, wanted):
        return None, receive
    return PlainTextResponse("This form is not of your session: load the page anew and try again.\n", 403), receive


def _foreign(method: str, headers: Headers) -> Response | None:
    """Refuse a request that changes something when another site's page made the browser send it.

    Every browser of today says where a request comes from (Sec-Fetch-Site); an older one says Origin at least; a program
    says neither.
    """
    if method in _SAFE:
        return None
    site, origin = headers.get("sec-fetch-site", ""), headers.get("origin", "")
    if site in ("same-origin", "none") or (not site and origin.partition("://")[2] == headers.get("host", "")):
        return None
    if not site and not origin:
        return None
    return PlainTextResponse("This request comes from another site.\n", 403)


def _given(authorization: str) -> str:
    """Return the token of a Bearer or Basic header (RFC 6750, RFC 7617); "" when there is none."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""
