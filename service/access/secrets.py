"""Random tokens of 256 bits. Only their digest is kept: who reads the database cannot use it."""

from __future__ import annotations

import hashlib
import hmac
import secrets


def new_token() -> str:
    """Return a new token, 43 characters of the URL-safe alphabet."""
    return secrets.token_urlsafe(32)


def digest(token: str) -> str:
    """Return what is kept of a token: SHA-256, 64 hexadecimal digits. It needs no salt: nobody guesses 256 bits."""
    return hashlib.sha256(token.encode()).hexdigest()


def csrf_of(token: str) -> str:
    """Return what a form of this session carries: whoever has not the cookie cannot know it, and it is not the cookie."""
    return hmac.new(token.encode(), b"form", hashlib.sha256).hexdigest()


def same(given: str, wanted: str) -> bool:
    """Compare two texts in constant time; an empty one is never right."""
    return bool(wanted) and hmac.compare_digest(given.encode(), wanted.encode())
