"""Who uses the pages: an account's name and what it may do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """What an account may do: read list and studies; administer too; or, for a program, only read."""

    READER = "reader"
    ADMINISTRATOR = "administrator"
    SERVICE = "service"


@dataclass(frozen=True)
class User:
    """Somebody who is known: the number of the account's row (0: the shared access token), its name and role."""

    id: int
    name: str
    role: Role
