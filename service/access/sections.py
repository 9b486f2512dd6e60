"""The section of the settings that speaks of the hospital's identity provider."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

FilePath = Annotated[Path | None, BeforeValidator(lambda value: None if value == "" else value)]
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Oidc(BaseModel):
    """People log in at the hospital's identity provider (OpenID Connect); needs the extra oidc."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    issuer: str = Field("", description="Its issuer URL, as its discovery document has it; empty: none.")
    client_id: str = Field("", description="What this service is called there.")
    client_secret: str = Field("", description='The secret it gave, or "file:/PATH"; empty: a public client (PKCE only).')
    public_url: str = Field("", description="Where people reach the pages; register /login/oidc/callback below it.")
    scopes: str = Field("openid profile", description="Scopes that are asked for.")
    name_claim: str = Field("preferred_username", min_length=1, description="Claim that becomes the name of the account.")
    roles_claim: str = Field("groups", min_length=1, description="Claim with groups or roles; dots lead into an object.")
    administrators: tuple[str, ...] = Field((), description="Its values that make an administrator.")
    readers: tuple[str, ...] = Field((), description="Its values that make a reader; who has none of either is not let in.")
    label: str = Field("Hospital login", min_length=1, max_length=40, description="What the button says.")
    authorities: FilePath = Field(None, description="File of the authorities that may vouch for it; empty: the system's.")
    timeout_s: float = Field(10.0, gt=0, le=60, description="Network time-out, seconds.")

    @property
    def enabled(self) -> bool:
        """Whether there is one."""
        return bool(self.issuer)

    @model_validator(mode="after")
    def _complete(self) -> Oidc:
        if not self.enabled:
            return self
        missing = [name for name in ("client_id", "public_url") if not getattr(self, name)]
        if missing:
            raise ValueError(f"with an issuer also needed: {', '.join(missing)}")
        if not self.administrators and not self.readers:
            raise ValueError("nobody could log in: administrators and readers are both empty")
        for name in ("issuer", "public_url"):
            url = urlsplit(getattr(self, name))
            if url.scheme != "https" and not (url.scheme == "http" and url.hostname in _LOOPBACK):
                raise ValueError(f"{name} must begin with https:// (http only for this machine)")
        if "openid" not in self.scopes.split():
            raise ValueError("scopes must hold openid")
        return self
