"""The hospital's identity provider: OpenID Connect, code flow with PKCE (RFC 7636), an ID token that is checked whole."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from requests import RequestException

from service.access.identity import Identity, NotLetIn, ProviderAway
from service.access.sections import Oidc
from service.domain.person import Role

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")
"""Signatures that are taken: by a private key only, never "none" and never a shared secret."""
CALLBACK = "/login/oidc/callback"
_KEEP_S, _LEAST_S, _LEEWAY_S = 3600.0, 30.0, 60
_MOST_BYTES = 1_048_576


class OidcProvider:
    """Safe to share between threads.

    client_secret: the secret itself; clock: Unix time, seconds. `secret` of the methods: random text that only the browser
    and this service know (its cookie); state, nonce and verifier are made from it, so that nothing has to be kept.
    """

    def __init__(self, settings: Oidc, client_secret: str, clock: Callable[[], float]) -> None:
        self.label = settings.label
        self._settings, self._client_secret, self._clock = settings, client_secret, clock
        self._lock = threading.Lock()
        self._metadata: dict[str, Any] = {}
        self._keys: KeySet | None = None
        self._read_at = self._keys_read_at = float("-inf")

    def begin(self, secret: str) -> str:
        """Return where to send the browser. Raises: ProviderAway."""
        with self._session() as session:
            url, _ = session.create_authorization_url(
                self._about()["authorization_endpoint"], state=_made(secret, "state"), nonce=_made(secret, "nonce"),
                code_verifier=_made(secret, "verifier"))
        return str(url)

    def end(self, secret: str, query: Mapping[str, str]) -> Identity:
        """Return who came back, by the query of the address that the provider sent the browser to.

        Raises: NotLetIn, ProviderAway.
        """
        if not secret or not hmac.compare_digest(query.get("state", "").encode(), _made(secret, "state").encode()):
            raise NotLetIn("the answer is of another login, or cookies are off")
        if query.get("error"):
            raise NotLetIn("the identity provider did not let them in")
        if query.get("iss", self._settings.issuer) != self._settings.issuer:  # RFC 9207
            raise NotLetIn("the answer is of another identity provider")
        try:
            with self._session() as session:
                tokens = session.fetch_token(
                    self._about()["token_endpoint"], grant_type="authorization_code", code=query.get("code", ""),
                    code_verifier=_made(secret, "verifier"), timeout=self._settings.timeout_s)
        except AuthlibBaseError as error:
            raise NotLetIn("the identity provider does not know this code") from error
        except (RequestException, ValueError) as error:
            raise ProviderAway(f"its token endpoint: {type(error).__name__}") from error
        return self._identity(self._claims(tokens, _made(secret, "nonce")))

    def _session(self) -> OAuth2Session:
        wanted = self._settings
        session = OAuth2Session(
            wanted.client_id, self._client_secret or None, scope=wanted.scopes, code_challenge_method="S256",
            redirect_uri=wanted.public_url.rstrip("/") + CALLBACK,
            token_endpoint_auth_method="client_secret_basic" if self._client_secret else "none")
        session.verify = str(wanted.authorities) if wanted.authorities else True
        session.trust_env, session.max_redirects = False, 0
        return session

    def _claims(self, tokens: Mapping[str, Any], nonce: str) -> CodeIDToken:
        """Check the ID token (OpenID Connect Core 3.1.3.7). Raises: NotLetIn, ProviderAway."""
        try:
            decoded = self._decoded(str(tokens.get("id_token", "")))
            claims = CodeIDToken(
                decoded.claims, decoded.header,
                {"iss": {"essential": True, "value": self._settings.issuer},
                 "aud": {"essential": True, "value": self._settings.client_id}, "sub": {"essential": True}},
                {"nonce": nonce, "client_id": self._settings.client_id, "access_token": tokens.get("access_token")})
            claims.validate(now=int(self._clock()), leeway=_LEEWAY_S)
        except (JoseError, AuthlibBaseError, ValueError) as error:
            raise NotLetIn(f"the ID token is not good: {type(error).__name__}") from error
        return claims

    def _decoded(self, token: str) -> Any:
        """Check the signature; a key that is not known is looked up once more, for providers change them."""
        try:
            return jwt.decode(token, self._key_set(), algorithms=ALGORITHMS)
        except (JoseError, ValueError):
            if not self._forget_keys():
                raise
            return jwt.decode(token, self._key_set(), algorithms=ALGORITHMS)

    def _identity(self, claims: Mapping[str, Any]) -> Identity:
        wanted = self._settings
        held = _values(claims, wanted.roles_claim)
        role = Role.ADMINISTRATOR if held & set(wanted.administrators) else Role.READER
        if not held & {*wanted.administrators, *wanted.readers}:
            raise NotLetIn("none of their groups has a role here")
        name = claims.get(wanted.name_claim)
        if not isinstance(name, str) or not name:
            raise NotLetIn(f"there is no claim {wanted.name_claim}")
        return Identity(hashlib.sha256(f"{wanted.issuer}\0{claims['sub']}".encode()).hexdigest(), name, role)

    def _about(self) -> dict[str, Any]:
        """Return the discovery document, read anew each hour. Raises: ProviderAway."""
        with self._lock:
            if self._clock() - self._read_at > _KEEP_S:
                issuer = self._settings.issuer
                found = self._fetch(issuer.rstrip("/") + "/.well-known/openid-configuration")
                if found.get("issuer") != issuer:
                    raise ProviderAway(f"its discovery document is of the issuer {found.get('issuer')!r}, not of {issuer!r}")
                for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
                    if not isinstance(found.get(name), str):
                        raise ProviderAway(f"its discovery document has no {name}")
                self._metadata, self._read_at = found, self._clock()
            return self._metadata

    def _key_set(self) -> KeySet:
        about = self._about()
        with self._lock:
            if self._keys is None or self._clock() - self._keys_read_at > _KEEP_S:
                self._keys_read_at = self._clock()
                try:
                    self._keys = KeySet.import_key_set(self._fetch(about["jwks_uri"]))  # type: ignore[arg-type]
                except (JoseError, ValueError, KeyError) as error:
                    raise ProviderAway("its keys cannot be read") from error
            return self._keys

    def _forget_keys(self) -> bool:
        """Have the keys read again; False when they were read a moment ago."""
        with self._lock:
            if self._clock() - self._keys_read_at < _LEAST_S:
                return False
            self._keys = None
            return True

    def _fetch(self, url: str) -> dict[str, Any]:
        try:
            authorities = self._settings.authorities
            trusted = ssl.create_default_context(cafile=str(authorities) if authorities else None)
            with httpx.Client(verify=trusted, timeout=self._settings.timeout_s, trust_env=False) as client:
                answer = client.get(url)
            tree = answer.raise_for_status().json() if len(answer.content) <= _MOST_BYTES else None
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            raise ProviderAway(f"{url}: {type(error).__name__}") from error
        if not isinstance(tree, dict):
            raise ProviderAway(f"{url}: no JSON object")
        return tree


def _made(secret: str, purpose: str) -> str:
    """Return 43 characters that only who knows the secret can make (RFC 7636 wants 43 to 128 for a verifier)."""
    made = hmac.new(secret.encode(), f"oidc {purpose}".encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(made).rstrip(b"=").decode()


def _values(claims: Mapping[str, Any], path: str) -> set[str]:
    """Return the texts of a claim: one, several, or words of one text; "realm_access.roles" leads into an object."""
    found: Any = claims
    for part in [path] if path in claims else path.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    if isinstance(found, str):
        return {found, *found.split()}
    return {one for one in found if isinstance(one, str)} if isinstance(found, Sequence) else set()
