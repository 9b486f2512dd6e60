"""Sessions of people and tokens of programs: rows in the database, so that every process knows them and ending one works."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import delete
from sqlmodel import Session, col, select

from service.access.secrets import digest, new_token
from service.domain.person import Role, User
from service.store.database import Database
from service.store.tables import AccessToken, Account, LoginSession

_SEEN_EACH_S = 60.0  # seen_at is written this often at most


class Sessions:
    """idle_s: a session ends after so long in which its person did nothing; longest_s: it ends then in any case."""

    def __init__(self, database: Database, clock: Callable[[], float], idle_s: float, longest_s: float) -> None:
        self._database, self._clock = database, clock
        self._idle_s, self._longest_s = idle_s, longest_s

    def open(self, session: Session, account: Account) -> str:
        """Begin a session and return its token; sessions that are over are forgotten."""
        now, token = self._clock(), new_token()
        over = (col(LoginSession.ends_at) <= now) | (col(LoginSession.seen_at) <= now - self._idle_s)
        session.exec(delete(LoginSession).where(over))
        session.add(LoginSession(digest=digest(token), account_id=account.id or 0, started_at=now, seen_at=now,
                                 ends_at=now + self._longest_s))
        return token

    def user(self, token: str, active: bool) -> User | None:
        """Return whose session it is; None when there is none, or it is over. active: a person did something just now."""
        now = self._clock()
        with self._database.reading() as session:
            found = session.exec(
                select(LoginSession, Account).join(Account).where(LoginSession.digest == digest(token))).one_or_none()
        if found is None:
            return None
        row, account = found
        if row.ends_at <= now or row.seen_at <= now - self._idle_s or account.disabled_at is not None:
            return None
        if active and row.seen_at <= now - _SEEN_EACH_S:
            with self._database.transaction() as session:
                kept = session.get(LoginSession, row.id)
                if kept is not None:
                    kept.seen_at = max(kept.seen_at, now)
                    session.add(kept)
        return _user(account)

    def end(self, token: str) -> None:
        """End a session; nothing happens when there is none."""
        with self._database.transaction() as session:
            session.exec(delete(LoginSession).where(col(LoginSession.digest) == digest(token)))

    def program(self, token: str) -> User | None:
        """Return whose token it is; None when there is none, or it is revoked or over."""
        now = self._clock()
        with self._database.reading() as session:
            found = session.exec(
                select(AccessToken, Account).join(Account).where(AccessToken.digest == digest(token))).one_or_none()
        if found is None:
            return None
        row, account = found
        over = row.revoked_at is not None or (row.ends_at is not None and row.ends_at <= now)
        return None if over or account.disabled_at is not None else _user(account)


def _user(account: Account) -> User:
    return User(account.id or 0, account.name, Role(account.role))
