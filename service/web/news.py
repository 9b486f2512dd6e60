"""Tells pages that something has changed, as it happens (server-sent events): they then ask for what they show."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from hashlib import sha256

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from service import logs
from service.errors import Unavailable
from service.store.database import Database
from service.store.pulse import pulse

LOOK_S = 1.0
"""The database is asked for something new this often while somebody listens, seconds."""

_KEEP_S = 15.0  # a word this often, so that no proxy takes the line for dead
_LONGEST_S = 600.0  # then the page asks anew, and who may see it is asked anew
_HEADERS = {"X-Accel-Buffering": "no"}
_log = logs.get("web.news")


class News:
    """Looks for what is new, once for all who listen, and only while somebody does."""

    def __init__(
        self, database: Database, clock: Callable[[], float], window_s: float, stopping: Callable[[], bool],
    ) -> None:
        """Make it. window_s: of the list, seconds; stopping: whether the server is about to end."""
        self._database, self._clock, self._window_s, self._stopping = database, clock, window_s, stopping
        self._seen, self._listeners = "", 0
        self._watch: asyncio.Task[None] | None = None
        self._changed: asyncio.Event = asyncio.Event()

    async def stream(self) -> AsyncIterator[str]:
        """Yield the text of an event stream: what stands for the state now, then again whenever it has changed."""
        self._listeners += 1
        try:
            if self._watch is None or self._watch.done():
                self._seen = await self._look()
                self._watch = asyncio.create_task(self._look_again_and_again())
            told, since, quiet = "", 0.0, 0.0
            yield "retry: 2000\n\n"
            while since < _LONGEST_S and not self._stopping():
                if self._seen != told:
                    told, quiet = self._seen, 0.0
                    yield f"event: changed\ndata: {told}\n\n"
                elif quiet >= _KEEP_S:
                    quiet = 0.0
                    yield ": still here\n\n"
                since, quiet = since + LOOK_S, quiet + LOOK_S
                await self._wait()
        finally:
            self._listeners -= 1

    async def _wait(self) -> None:
        """Wait for a change, but not for long: whether the server ends is to be seen in time."""
        try:
            await asyncio.wait_for(self._changed.wait(), LOOK_S)
        except TimeoutError:
            return

    async def _look_again_and_again(self) -> None:
        while self._listeners and not self._stopping():
            found = await self._look()
            if found and found != self._seen:
                self._seen = found
                self._changed.set()
                self._changed = asyncio.Event()
            await asyncio.sleep(LOOK_S)

    async def _look(self) -> str:
        """Return what stands for the state of the studies; "" while the database is away."""
        try:
            return await run_in_threadpool(self._read)
        except Unavailable as error:
            _log.warning("no news: the database is away", extra={"reason": error.reason})
            return ""

    def _read(self) -> str:
        with self._database.reading() as session:
            return sha256(repr(pulse(session, self._clock() - self._window_s)).encode()).hexdigest()[:12]


def add_news(app: FastAPI, news: News) -> None:
    """Add /news."""

    @app.get("/news", include_in_schema=False)
    async def stream() -> StreamingResponse:
        return StreamingResponse(news.stream(), media_type="text/event-stream", headers=_HEADERS)
