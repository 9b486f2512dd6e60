"""Passwords as Argon2id hashes (RFC 9106), with the same work for a name that nobody has."""

from __future__ import annotations

import threading

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

LEAST, MOST = 12, 1024
_AT_ONCE = 2  # each takes 64 MiB and a core


class WeakPassword(ValueError):
    """A password that is not taken. The text says what is."""


class Passwords:
    """Makes and checks hashes, few at a time."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._nobody = self._hasher.hash("nobody")
        self._turn = threading.BoundedSemaphore(_AT_ONCE)

    def hash(self, name: str, password: str) -> str:
        """Return the hash of a new password for the account `name`. Raises: WeakPassword."""
        if not LEAST <= len(password) <= MOST:
            raise WeakPassword(f"the password has {len(password)} characters; accepted: {LEAST} to {MOST}")
        if (len(name) > 3 and name.lower() in password.lower()) or len(set(password)) < 5:
            raise WeakPassword("the password holds the name, or fewer than 5 different characters")
        with self._turn:
            return self._hasher.hash(password)

    def matches(self, kept: str, password: str) -> bool:
        """Tell whether the password is the one kept; kept: its hash, "" where there is none, which takes as long."""
        with self._turn:
            try:
                return self._hasher.verify(kept or self._nobody, password[:MOST + 1]) and bool(kept)
            except (VerificationError, InvalidHashError):
                return False

    def renewed(self, kept: str, password: str) -> str:
        """Return the hash to keep of a password that was right: a new one where less work was asked for in its day."""
        if not self._hasher.check_needs_rehash(kept):
            return kept
        with self._turn:
            return self._hasher.hash(password)
