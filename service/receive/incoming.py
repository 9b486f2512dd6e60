"""One image on its way in, piece by piece; what goes wrong is kept until the end, when it becomes the answer."""

from __future__ import annotations

from service.errors import FirstlookError
from service.receive.part import Part
from service.receive.storing import Announced, Safe, Storing
from service.receive.tally import Tally


class Incoming:
    """An image that is being received: `room` and `filled` for each piece, then `keep`. `end` must end it.

    The first of a study has its row before it is answered; the rows of others follow, when `end` is called after the answer.
    """

    def __init__(self, storing: Storing, announced: Announced) -> None:
        self._storing, self._announced = storing, announced
        self._part: Part | None = None
        self._safe: Safe | None = None
        self._error: FirstlookError | None = None
        self._size_bytes = 0
        try:
            self._part = storing.begin(announced)
        except FirstlookError as error:
            self._error = error

    def room(self) -> memoryview | None:
        """Return where the next bytes of the data set belong; None once something has gone wrong."""
        return self._part.room() if self._part is not None else None

    def filled(self, size_bytes: int) -> None:
        """Take the bytes that were put in the room; once something has gone wrong they are only counted."""
        self._size_bytes += size_bytes
        if self._part is None:
            return
        if self._size_bytes > self._storing.max_object_bytes:
            self._drop()
            return
        try:
            self._part.filled(size_bytes)
        except FirstlookError as error:
            self._error = error
            self._drop()

    def keep(self, tally: Tally) -> None:
        """Keep the image, all of which has come.  Raises: as Storing.keep and Storing.write_down."""
        if self._size_bytes > self._storing.max_object_bytes:
            raise self._storing.too_large(self._size_bytes)
        if self._part is None:
            assert self._error is not None
            raise self._error
        safe = self._storing.keep(self._announced, self._part, tally)
        if self._storing.at_once or not tally.has_brought(safe.header.study_instance_uid):
            self._storing.write_down(safe)
        else:
            self._safe = safe

    def end(self) -> None:
        """Have the image written down if it was kept and is not yet; remove what was written if it was not kept."""
        safe, self._safe = self._safe, None
        if safe is not None:
            self._part = None  # it is closed when it is written down
            self._storing.write_later(safe)
        self._drop()

    def _drop(self) -> None:
        if self._part is not None:
            self._part.close()
            self._part = None
