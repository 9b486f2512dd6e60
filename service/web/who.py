"""Who asks for a page, as the guard found it."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Scope

from service.domain.person import Role, User

_USER, _CSRF = "firstlook.user", "firstlook.csrf"


def let_in(scope: Scope, user: User | None, csrf: str = "") -> None:
    """Note who asks. user: None where no login is asked for; csrf: what a form of this session must send back."""
    scope[_USER], scope[_CSRF] = user, csrf


def current_user(request: Request) -> User | None:
    """Return who is logged in; None where the pages are open, or kept by the shared token only."""
    user: User | None = request.scope.get(_USER)
    return user


def may_administer(request: Request) -> bool:
    """Tell whether the one who asks may change something: an administrator, or anybody where no login is asked for."""
    if _USER not in request.scope:
        return False
    user = current_user(request)
    return user is None or user.role is Role.ADMINISTRATOR


def csrf_token(request: Request) -> str:
    """Return what a form must send as the field `csrf`, or a script as the header X-CSRF-Token; "" without a session."""
    token: str = request.scope.get(_CSRF, "")
    return token


def who(request: Request) -> str:
    """Return the login name that saved views are kept under; "unknown" where nobody logs in."""
    user = current_user(request)
    return user.name if user else "unknown"


def reader_name(request: Request) -> str:
    """Return the login name that a mark or a verdict is kept under; "unknown" where nobody logs in.

    Raises: HTTPException 403 for a program: it may only read.
    """
    user = current_user(request)
    if user is not None and user.role is Role.SERVICE:
        raise HTTPException(403, "Only a person can say this: a service token may only read.")
    return user.name if user else "unknown"
