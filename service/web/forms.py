"""Reads the fields of a small form (application/x-www-form-urlencoded), and lets the next reader read it again."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qsl

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message, Receive

MOST_BYTES = 65_536
LONGEST_WAIT_S = 20.0
"""For the next part of a body."""
_MOST_FIELDS = 100


class TooLarge(ValueError):
    """A form larger than MOST_BYTES, or one that does not end."""


def announced(headers: Headers) -> int:
    """Return how many bytes a request says that its body has; 0 where it does not say."""
    given = headers.get("content-length", "")
    return int(given) if given.isdecimal() else 0


async def read_body(receive: Receive) -> bytes:
    """Return the body of a request. Raises: TooLarge; also when the caller goes away, or keeps us waiting."""
    parts, size = [], 0
    while True:
        try:
            message = await asyncio.wait_for(receive(), LONGEST_WAIT_S)
        except TimeoutError as error:
            raise TooLarge(f"no more of the form within {LONGEST_WAIT_S:.0f} s") from error
        if message["type"] != "http.request":
            raise TooLarge("the caller went away")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MOST_BYTES:
            raise TooLarge(f"a form of more than {MOST_BYTES} bytes")
        if not message.get("more_body", False):
            return b"".join(parts)


def again(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives the body once more, then what comes after it."""
    given = False

    async def receive_again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again


def fields(content_type: str, body: bytes) -> dict[str, str]:
    """Return the fields of a form by name, the last of a name; none where the body is not such a form."""
    if content_type.partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        return {}
    try:
        return dict(parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="strict"))
    except (UnicodeDecodeError, ValueError):
        return {}


async def fields_of(request: Request) -> dict[str, str]:
    """Return the fields of the form that a request carries. Raises: HTTPException 413 when it is too large."""
    try:
        return fields(request.headers.get("content-type", ""), await read_body(request.receive))
    except TooLarge as error:
        raise HTTPException(413, f"Not accepted: {error}.") from error
