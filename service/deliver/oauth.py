"""Access tokens by OAuth 2.0 client credentials (RFC 6749 4.4): fetched when needed, kept while good, renewed in time."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus, urlencode

from service import logs
from service.deliver.http import Answer, Caller

_DEFAULT_LIFE_S = 300.0  # where the server does not say how long a token is good
_EARLY_S, _EARLY_SHARE = 30.0, 0.1  # renewed that long before its end, or in the last tenth of a short life
_ERRORS = frozenset({"invalid_request", "invalid_client", "invalid_grant", "unauthorized_client",
                     "unsupported_grant_type", "invalid_scope"})
log = logs.get("deliver.oauth")


@dataclass(frozen=True)
class Client:
    """Who asks for a token, and where. in_body: client id and secret go into the body instead of HTTP Basic."""

    token_url: str
    client_id: str
    client_secret: str
    scope: str = ""
    in_body: bool = False


class ClientCredentials:
    """Credentials that fetch themselves. Threads share one token. clock: seconds that never go back."""

    def __init__(self, client: Client, caller: Caller, clock: Callable[[], float]) -> None:
        self._client = client
        self._caller = caller
        self._clock = clock
        self._lock = threading.Lock()
        self._token = ""
        self._good_until = 0.0

    def header(self) -> str:
        """Return the header's value, with a new token where there is none that is still good.

        Raises: PeerUnavailable when the token endpoint gives none.
        """
        with self._lock:
            if not self._token or self._clock() >= self._good_until:
                self._fetch()
            return f"Bearer {self._token}"

    def renew(self) -> bool:
        """Forget the token: it was refused before its time."""
        with self._lock:
            self._token = ""
        return True

    def _fetch(self) -> None:
        form = {"grant_type": "client_credentials"} | ({"scope": self._client.scope} if self._client.scope else {})
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        if self._client.in_body:
            form |= {"client_id": self._client.client_id, "client_secret": self._client.client_secret}
        else:  # RFC 6749 2.3.1: each part is form-encoded first
            pair = f"{quote_plus(self._client.client_id)}:{quote_plus(self._client.client_secret)}"
            headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        began = self._clock()
        answer = self._caller.call("POST", self._client.token_url, headers, urlencode(form).encode())
        token, life_s = self._read(answer)
        self._token = token
        self._good_until = began + life_s - min(_EARLY_S, life_s * _EARLY_SHARE)
        log.info("access token fetched", extra={"target": self._caller.name, "good_for_s": round(life_s)})

    def _read(self, answer: Answer) -> tuple[str, float]:
        """Return token and life in seconds (RFC 6749 5.1). Raises: PeerUnavailable."""
        try:
            told: Any = json.loads(answer.body)
        except ValueError:
            told = None
        told = told if isinstance(told, dict) else {}
        if answer.status != 200:
            code = told.get("error")
            why = f" ({code})" if isinstance(code, str) and code in _ERRORS else ""
            raise self._caller.unavailable(
                f"its token endpoint answered HTTP {answer.status}{why}; see client_id, client_secret and scope")
        token, kind, life = told.get("access_token"), told.get("token_type", "Bearer"), told.get("expires_in")
        if not isinstance(token, str) or not token.isascii() or not token.isprintable() or not token:
            raise self._caller.unavailable("its token endpoint gave no access token that can be used")
        if not isinstance(kind, str) or kind.lower() != "bearer":
            raise self._caller.unavailable("its token endpoint gave a token that is not of the type Bearer")
        good = isinstance(life, int | float) and not isinstance(life, bool) and 0 < life < 1e9
        return token, float(life) if good and life is not None else _DEFAULT_LIFE_S
