"""What a person may have done from the study page: send a result again. Everything else only reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import RedirectResponse

from service.domain.person import User
from service.pipeline.again import NothingToSend
from service.web.who import current_user, may_administer

Resend = Callable[[str], Sequence[str]]
"""Queues the result of a study (Study Instance UID) for sending once more and returns the names of the targets.

Raises: NothingToSend."""


def add_actions(app: FastAPI, resend: Resend) -> None:
    """Add the requests that change something; the guard lets none of another site through."""

    @app.post("/studies/{uid}/resend", include_in_schema=False)
    def resend_from_page(request: Request, uid: str) -> RedirectResponse:
        only_administrators(request)
        _send(resend, uid)
        return RedirectResponse(f"{request.scope.get('root_path', '')}/studies/{uid}", 303)

    @app.post("/api/studies/{uid}/resend")
    def resend_from_program(request: Request, uid: str) -> dict[str, Any]:
        """Send the result of a study once more, to every target."""
        only_administrators(request)
        return {"study_instance_uid": uid, "targets": list(_send(resend, uid))}


def only_administrators(request: Request) -> None:
    """Refuse (403) who may only read."""
    if not may_administer(request):
        raise HTTPException(403, "Only an administrator may do this.")


def an_administrator(request: Request, otherwise: str) -> User:
    """Return the administrator who asks. otherwise: what to do instead where nobody logs in, which is refused (403)."""
    only_administrators(request)
    user = current_user(request)
    if user is None:
        raise HTTPException(403, otherwise)
    return user


def _send(resend: Resend, uid: str) -> Sequence[str]:
    try:
        return resend(uid)
    except NothingToSend as error:
        raise HTTPException(404, f"Nothing is sent: {error}.") from error
