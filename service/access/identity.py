"""Who an identity provider says somebody is, and what it can be asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from service.domain.person import Role


class NotLetIn(ValueError):
    """Somebody who is not let in. The text says why, for the log and the audit trail: nothing a stranger wrote."""


class ProviderAway(Exception):
    """The provider does not answer as it should. The text says how."""


@dataclass(frozen=True)
class Identity:
    """Who the provider says it is. subject: SHA-256 of issuer and subject; name: not tidied; role: by its groups."""

    subject: str
    name: str
    role: Role


class Provider(Protocol):
    """What vouches for people."""

    label: str

    def begin(self, secret: str) -> str:
        """Return where to send the browser. Raises: ProviderAway."""

    def end(self, secret: str, query: Mapping[str, str]) -> Identity:
        """Return who came back. Raises: NotLetIn, ProviderAway."""
