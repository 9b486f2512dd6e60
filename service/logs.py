"""Structured logs: one JSON object a line, our ids and UIDs only, never a name, a birth date or free text of a peer."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, TextIO

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


_ABOUT: ContextVar[Mapping[str, object]] = ContextVar("firstlook-about", default={})  # noqa: B039 - never changed


@contextmanager
def about(**ids: object) -> Iterator[None]:
    """Let every line that is logged inside carry these of our ids, whichever module logs it; "" and None are left out."""
    token = _ABOUT.set({**_ABOUT.get(), **{name: value for name, value in ids.items() if value not in ("", None)}})
    try:
        yield
    finally:
        _ABOUT.reset(token)


class JsonFormatter(logging.Formatter):
    """Format a record as one JSON line: time, level, logger, event, and the fields passed as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; an exception is given by its type and our own frames, not by its text."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        line |= {k: v for k, v in {**_ABOUT.get(), **vars(record)}.items() if k not in _STANDARD}
        if record.exc_info and record.exc_info[0]:
            line["error"] = record.exc_info[0].__name__
            line["where"] = _frames(record)
        return json.dumps(line, default=str)


def _frames(record: logging.LogRecord) -> list[str]:
    frames = []
    trace = record.exc_info[2] if record.exc_info else None
    while trace is not None:
        code = trace.tb_frame.f_code
        frames.append(f"{code.co_filename.rsplit('/', 2)[-1]}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return frames[-8:]


def configure(level: str = "INFO", stream: TextIO | None = None) -> None:
    """Send our log records to `stream` (standard error) as JSON lines; quieten libraries that quote identifiers."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for library in ("pydicom", "pynetdicom", "highdicom"):  # their warnings quote values of the images
        warnings.filterwarnings("ignore", module=rf"{library}\b")
    for noisy in ("pynetdicom", "pydicom", "highdicom", "uvicorn.access"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)


def get(name: str) -> logging.Logger:
    """Return the logger of one of our modules; pass facts as `extra={...}`, not inside the text."""
    return logging.getLogger(f"firstlook.{name}")
