"""A small OpenID Connect provider on loopback: discovery, keys, authorisation code with PKCE, signed ID tokens.

It lets in whoever is set as `who`, without asking, and can be made to misbehave.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, RedirectResponse
from joserfc import jwt
from joserfc.jwk import RSAKey

from tests.browser.served import served

CLIENT, SECRET = "firstlook", "s3cret-of-the-test"


@dataclass
class SmallProvider:
    """A running provider. claims: of who is let in; change: may alter an ID token's claims before it is signed.

    header: of the ID token; key: it is signed with, None: its own. refuses: it lets nobody in. asked: token requests.
    """

    issuer: str = ""
    claims: dict[str, Any] = field(default_factory=lambda: {
        "sub": "7", "preferred_username": "Okafor", "groups": ["radiology"]})
    change: Callable[[dict[str, Any]], dict[str, Any]] = lambda claims: claims
    header: dict[str, str] = field(default_factory=lambda: {"alg": "RS256"})
    key: Any = None
    refuses: bool = False
    asked: list[dict[str, str]] = field(default_factory=list)
    own: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "one", "use": "sig"}))
    codes: dict[str, dict[str, str]] = field(default_factory=dict)

    def turn_keys(self) -> None:
        """Sign with another key from now on, and publish only that."""
        self.own = RSAKey.generate_key(2048, {"kid": "two", "use": "sig"})

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.get("/.well-known/openid-configuration")
        def discovery() -> dict[str, Any]:
            return {"issuer": self.issuer, "authorization_endpoint": f"{self.issuer}/authorize",
                    "token_endpoint": f"{self.issuer}/token", "jwks_uri": f"{self.issuer}/keys"}

        @app.get("/keys")
        def keys() -> dict[str, Any]:
            return {"keys": [self.own.as_dict(private=False)]}

        @app.get("/authorize")
        def authorize(request: Request) -> RedirectResponse:
            asked = dict(request.query_params)
            assert asked["response_type"] == "code" and asked["code_challenge_method"] == "S256"
            assert asked["client_id"] == CLIENT and "openid" in asked["scope"].split()
            if self.refuses:
                answer = {"error": "access_denied", "state": asked["state"]}
            else:
                code = secrets.token_urlsafe()
                self.codes[code] = asked
                answer = {"code": code, "state": asked["state"]}
            return RedirectResponse(f"{asked['redirect_uri']}?{urlencode(answer)}", 303)

        @app.post("/token")
        async def token(request: Request) -> JSONResponse:
            form = dict(parse_qsl((await request.body()).decode()))
            self.asked.append(form)
            asked = self.codes.pop(form.get("code", ""), None)
            if not _same_client(request.headers.get("authorization", "")):
                return JSONResponse({"error": "invalid_client"}, 401)
            if asked is None or asked["redirect_uri"] != form["redirect_uri"] or _challenge(
                    form["code_verifier"]) != asked["code_challenge"]:
                return JSONResponse({"error": "invalid_grant"}, 400)
            return JSONResponse({"access_token": "a", "token_type": "Bearer", "expires_in": 60,
                                 "id_token": self.id_token(asked["nonce"])})

        return app

    def id_token(self, nonce: str) -> str:
        now = int(time.time())
        claims = self.change({"iss": self.issuer, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": nonce} | self.claims)
        if self.header["alg"] in ("none", "HS256"):
            return self._forged(claims)
        return str(jwt.encode({"kid": self.own.kid} | self.header, claims, self.key or self.own))

    def _forged(self, claims: dict[str, Any]) -> str:
        """Return a token without a signature, or signed with the public key as if it were a shared secret."""
        header = {"alg": self.header["alg"], "kid": self.own.kid}
        told = ".".join(_base64(json.dumps(part).encode()) for part in (header, claims))
        if self.header["alg"] == "none":
            return f"{told}."
        return f"{told}.{_base64(hmac.digest(self.own.as_pem(private=False), told.encode(), 'sha256'))}"


@contextmanager
def small_provider() -> Iterator[SmallProvider]:
    """Run a provider."""
    provider = SmallProvider()
    with served(provider.app()) as address:
        provider.issuer = address
        yield provider


def _same_client(authorization: str) -> bool:
    given = base64.b64decode(authorization.removeprefix("Basic ") or b"").decode()
    return given == f"{CLIENT}:{SECRET}"


def _challenge(verifier: str) -> str:
    return _base64(hashlib.sha256(verifier.encode()).digest())


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
