"""One image on its way in, piece by piece; what goes wrong is kept until the end, when it becomes the answer."""

from __future__ import annotations

from collections.abc import Callable

from service.errors import FirstlookError
from service.receive.spool import Part
from service.receive.storing import Announced, Kept, Storing


class Incoming:
    """An image that is being received. Either `keep` or `drop` must end it."""

    def __init__(self, storing: Storing, announced: Announced) -> None:
        self._storing, self._announced = storing, announced
        self._part: Part | None = None
        self._error: FirstlookError | None = None
        self._size_bytes = 0
        try:
            self._part = storing.begin(announced)
        except FirstlookError as error:
            self._error = error

    def write(self, data: memoryview) -> None:
        """Add bytes of the data set; once something has gone wrong they are only counted."""
        self._size_bytes += len(data)
        if self._part is None:
            return
        if self._size_bytes > self._storing.max_object_bytes:
            self.drop()
            return
        try:
            self._part.write(data)
        except FirstlookError as error:
            self._error = error
            self.drop()

    def keep(self, touch: Callable[[str], None]) -> Kept:
        """Keep the image, all of which has come.  Raises: as Storing.store."""
        if self._size_bytes > self._storing.max_object_bytes:
            raise self._storing.too_large(self._size_bytes)
        if self._part is None:
            assert self._error is not None
            raise self._error
        return self._storing.finish(self._announced, self._part, touch)

    def drop(self) -> None:
        """Remove what was written, unless it was kept."""
        if self._part is not None:
            self._part.abandon()
            self._part = None
