"""What the script of the study page asks for: pictures, what is marked on them, saliency, the report as text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from fastapi import FastAPI, HTTPException, Response

from service.errors import Reason, Unavailable, UnusableStudy
from service.store.database import Database
from service.store.images import kept_of, state_of
from service.web.view.heat import NoHeat
from service.web.view.scene import PLANES, Scene, Viewer, described

_RAW = "application/octet-stream"
_T = TypeVar("_T")


class Theatre:
    """The viewer with the store behind it."""

    def __init__(self, database: Database, viewer: Viewer) -> None:
        self._database, self._viewer = database, viewer

    def described(self, study_instance_uid: str) -> dict[str, Any] | None:
        """Return what the page's script needs to know of a study; None where there is no image to show."""
        found = self._found(study_instance_uid)
        return described(found) if found is not None and found.stacks else None

    def picture(self, uid: str, token: str, plane: str, ask: Callable[[Viewer, Scene], _T]) -> _T:
        """Ask the viewer for something of a scene.

        Raises: HTTPException 404 where there is no such picture, 409 where the study has changed since, 410 where an image
        is gone, 422 where it cannot be read, 503 where it cannot be fetched now.
        """
        scene = self._viewer.known(token)
        if scene is None or scene.study_instance_uid != uid:
            scene = self._found(uid)
        if scene is None or plane not in PLANES:
            raise HTTPException(404, "There is no such picture here.")
        if scene.token != token:
            raise HTTPException(409, "The images or the result of this study have changed: load the page anew.")
        try:
            return ask(self._viewer, scene)
        except (IndexError, NoHeat) as error:
            raise HTTPException(404, "There is no such picture here.") from error
        except UnusableStudy as error:
            raise HTTPException(422, f"{error.reason.sentence} {error.detail}") from error
        except Unavailable as error:
            raise HTTPException(503, "The images cannot be fetched now.") from error
        except OSError as error:
            raise HTTPException(410, Reason.IMAGES_DELETED.sentence) from error

    def _found(self, uid: str) -> Scene | None:
        with self._database.reading() as session:
            state = state_of(session, uid)
            if state is None:
                return None
            token = self._viewer.token(state)
            known = self._viewer.known(token)
            kept = None if known else kept_of(session, uid)
        return known or (self._viewer.scene(token, kept) if kept else None)


def add_view(app: FastAPI, theatre: Theatre) -> None:
    """Add the requests of the viewer. Each names the state of the study that the page was drawn from."""

    @app.get("/studies/{uid}/view", include_in_schema=False)
    def description(uid: str) -> dict[str, Any]:
        return theatre.described(uid) or {"token": "", "stacks": []}

    @app.get("/studies/{uid}/pixels/{token}/{stack}/{plane}/{index}", include_in_schema=False)
    def pixels(uid: str, token: str, stack: int, plane: str, index: int) -> Response:
        return Response(theatre.picture(uid, token, plane, lambda v, s: v.pixels(s, stack, plane, index)), media_type=_RAW)

    @app.get("/studies/{uid}/marks/{token}/{stack}/{plane}/{index}", include_in_schema=False)
    def marks(uid: str, token: str, stack: int, plane: str, index: int) -> Response:
        packed = theatre.picture(uid, token, plane, lambda v, s: v.marks(s, stack, plane, index))
        return Response(packed, media_type=_RAW, headers={"Content-Encoding": "deflate"} if packed else None)

    @app.get("/studies/{uid}/heat/{token}/{stack}.png", include_in_schema=False)
    def heat(uid: str, token: str, stack: int) -> Response:
        return Response(theatre.picture(uid, token, "axial", lambda v, s: v.heat(s, stack)), media_type="image/png")
