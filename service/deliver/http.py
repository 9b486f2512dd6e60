"""HTTP as the targets use it: bounded in time and size, no redirects, credentials renewed once, errors as ours."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import httpx

from service.errors import FirstlookError, PeerUnavailable, Reason, RefusedByPeer

MOST_BYTES = 4_194_304  # of an answer; a longer one is no answer to what we ask
_PASSING = frozenset({404, 407, 408, 409, 421, 425, 429})  # may be otherwise once somebody has looked, or later

Body = bytes | Callable[[], Iterator[bytes]]


class Credentials(Protocol):
    """What a request shows to be let in."""

    def header(self) -> str:
        """Return the value of Authorization; "" for none. Raises: PeerUnavailable when none can be had."""

    def renew(self) -> bool:
        """Forget what was refused; tell whether the next one may differ."""


class NoCredentials:
    """For a server that lets everybody in."""

    def header(self) -> str:
        """Return nothing."""
        return ""

    def renew(self) -> bool:
        """There is nothing else to show."""
        return False


class Token:
    """A bearer token that never changes (RFC 6750)."""

    def __init__(self, token: str) -> None:
        self._token = token

    def header(self) -> str:
        """Return the header's value."""
        return f"Bearer {self._token}"

    def renew(self) -> bool:
        """There is no other."""
        return False


@dataclass(frozen=True)
class Answer:
    """An answer as received; headers in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Caller:
    """Makes requests for one target. timeout_s: for connecting, for each write and read, and for reading an answer.

    context: for https; None: the authorities of the system.
    """

    def __init__(self, name: str, timeout_s: float, context: ssl.SSLContext | None = None,
                 credentials: Credentials | None = None) -> None:
        self.name = name
        self.timeout_s = timeout_s
        self._verify: ssl.SSLContext | bool = context if context is not None else True
        self._credentials = credentials or NoCredentials()

    def call(self, method: str, url: str, headers: Mapping[str, str], body: Body = b"") -> Answer:
        """Make a request and return the answer, whatever its status; a 401 is tried once more with new credentials.

        body: bytes, or a call that yields them and may be made twice; then `headers` have Content-Length.
        Raises: PeerUnavailable when there is no answer.
        """
        answer = self._once(method, url, headers, body)
        if answer.status == 401 and self._credentials.renew():
            answer = self._once(method, url, headers, body)
        return answer

    def _once(self, method: str, url: str, headers: Mapping[str, str], body: Body) -> Answer:
        shown = self._credentials.header()
        sent = {**headers, **({"Authorization": shown} if shown else {})}
        try:
            with httpx.Client(timeout=self.timeout_s, verify=self._verify, trust_env=False) as client, client.stream(
                    method, url, headers=sent, content=body if isinstance(body, bytes) else body()) as response:
                return Answer(response.status_code, dict(response.headers), self._read(response))
        except httpx.TimeoutException as error:
            raise self.unavailable(f"no answer within {self.timeout_s:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError) as error:
            why = "its certificate was not accepted" if "CERTIFICATE_VERIFY" in str(error) else (
                f"it could not be reached or broke off ({type(error).__name__})")
            raise self.unavailable(why) from error

    def _read(self, response: httpx.Response) -> bytes:
        """Read an answer. Raises: PeerUnavailable when it is too long or drips."""
        deadline, body = time.monotonic() + self.timeout_s, bytearray()
        for piece in response.iter_bytes():
            body += piece
            if len(body) > MOST_BYTES:
                raise self.unavailable(f"its answer is longer than {MOST_BYTES} bytes")
            if time.monotonic() > deadline:
                raise self.unavailable(f"its answer did not end within {self.timeout_s:g} s")
        return bytes(body)

    def failure(self, status: int, what: str) -> FirstlookError:
        """Return the error that a status stands for: what an administrator or time can mend may be tried again."""
        if status in (401, 403):
            return self.unavailable(f"HTTP {status} for {what}: its credentials were refused; see its settings")
        if 300 <= status < 400:
            return self.unavailable(f"HTTP {status} for {what}: it redirects; set the final address")
        if status >= 500 or status in _PASSING:
            return self.unavailable(f"HTTP {status} for {what}")
        return RefusedByPeer(Reason.PEER_REFUSED, f"{self.name} answered HTTP {status} for {what}")

    def unavailable(self, what: str) -> PeerUnavailable:
        """Return the error that says that this target is away for now, and why."""
        return PeerUnavailable(Reason.PEER_UNREACHABLE, f"{self.name}: {what}")
