"""Who may see the pages, and the headers that each answer carries."""

from __future__ import annotations

import base64
import binascii
import hmac

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]", "::1")


class Guard:
    """ASGI middleware: asks for the access token and adds the security headers.

    access_token: password of HTTP Basic (any user name) or Bearer token. When it is empty the service listens on
    loopback only; then a request must also name a loopback host, so that no foreign page can reach it by its own name
    (DNS rebinding). /health/ is open: it holds no patient data, and what restarts a container has no password.
    """

    def __init__(self, app: ASGIApp, access_token: str) -> None:
        self._app = app
        self._token = access_token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass an allowed request on; answer the others."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        headers = Headers(scope=scope)
        refusal = None if scope["path"].startswith(_OPEN) else self._refusal(headers) or _foreign(scope["method"], headers)
        let_in(scope, None)
        await (refusal or self._app)(scope, receive, send_secured)

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


def _foreign(method: str, headers: Headers) -> Response | None:
    """Refuse a request that changes something when another site's page made the browser send it.

    Every browser of today says where a request comes from (Sec-Fetch-Site); an older one says Origin at least; a program
    says neither.
    """
    if method in ("GET", "HEAD", "OPTIONS"):
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
