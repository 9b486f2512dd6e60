"""What every way in has in common: the session of a person as a cookie, and cookies of the way itself."""

from __future__ import annotations

from typing import Literal

from fastapi import Request
from fastapi.responses import RedirectResponse, Response

from service.access.door import Entered
from service.web.guard import COOKIE

FORM_COOKIE, AWAY_COOKIE, ONCE_COOKIE = "firstlook-form", "firstlook-away", "firstlook-once"


def login_path(request: Request) -> str:
    """Return the path that cookies of the login go to."""
    return f"{request.scope.get('root_path', '')}/login"


def set_cookie(answer: Response, request: Request, name: str, value: str, same_site: Literal["lax", "strict"],
               age_s: int) -> None:
    """Set a cookie of the login; it goes to /login and below it only, and no script reads it."""
    answer.set_cookie(name, value, max_age=age_s, path=login_path(request), secure=is_https(request), httponly=True,
                      samesite=same_site)


def let_in(request: Request, wanted: str, entered: Entered) -> Response:
    """Give a person their session, and lead them to the page that was wanted."""
    base, https = request.scope.get("root_path", ""), is_https(request)
    answer = RedirectResponse(base + wanted, 303)
    answer.set_cookie(COOKIE, entered.token, path=base or "/", secure=https, httponly=True, samesite="lax")
    answer.delete_cookie(FORM_COOKIE, path=login_path(request), secure=https, httponly=True, samesite="strict")
    return answer


def address_of(request: Request) -> str:
    """Return the address of the caller, "" where it is not known."""
    return request.client.host if request.client else ""


def is_https(request: Request) -> bool:
    """Tell whether the browser speaks HTTPS, also through a proxy that is believed."""
    return str(request.scope.get("scheme", "")) == "https"
