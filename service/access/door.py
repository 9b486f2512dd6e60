"""The door of the pages: who comes in by password, session or token, and whether anybody is asked at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from service import logs
from service.access import accounts
from service.access.passwords import Passwords
from service.access.secrets import same
from service.access.sessions import Sessions
from service.access.throttle import Throttle
from service.audit.trail import Trail, silent
from service.domain.person import Role, User
from service.store.database import Database

_log = logs.get("access")
SHARED = User(0, "access token", Role.SERVICE)


class Login(StrEnum):
    """Whether a login is asked for: as soon as there is an account of a person; always; never."""

    AUTO = "auto"
    REQUIRED = "required"
    OFF = "off"


@dataclass(frozen=True)
class Entered:
    """A login that was good: who, and the token of the new session."""

    user: User
    token: str


@dataclass(frozen=True)
class TurnedAway:
    """A login that was not: wait_s, seconds, where too many were wrong; else 0, and name or password are wrong."""

    wait_s: float = 0.0


class Door:
    """Safe to share between threads. shared_token: `web.access_token`, by which a program may read; "" for none."""

    def __init__(self, database: Database, clock: Callable[[], float], login: Login, shared_token: str,
                 sessions: Sessions, passwords: Passwords, throttle: Throttle, trail: Trail | None = None) -> None:
        self._database, self._clock, self._login, self._shared = database, clock, login, shared_token
        self.sessions, self.passwords, self._throttle = sessions, passwords, throttle
        self._asks, self._trail = login is Login.REQUIRED, trail or silent()

    def asks(self) -> bool:
        """Tell whether a login is asked for. Accounts are never deleted, so that once asked it stays so."""
        if not self._asks and self._login is Login.AUTO:
            self._asks = self.has_people()
        return self._asks

    def has_people(self) -> bool:
        """Tell whether there is an account that a person can log in with."""
        with self._database.reading() as session:
            return accounts.any_person(session)

    def program(self, token: str) -> User | None:
        """Return whose token it is; None when it is nobody's."""
        return SHARED if same(token, self._shared) else self.sessions.program(token)

    def enter(self, name: str, password: str, address: str) -> Entered | TurnedAway:
        """Check name and password, and begin a session.

        A name that nobody has takes as long as a wrong password. address: of the caller, for the limit and the log.
        """
        name = name.strip().lower()
        wait_s = self._throttle.begin(name, address)
        if wait_s:
            _log.warning("too many wrong logins", extra={"address": address, "wait_s": round(wait_s)})
            self._trail.login_failed("", address, "too many wrong logins; none is taken for a while")
            return TurnedAway(wait_s)
        with self._database.reading() as session:
            account = accounts.find(session, name)
        known = account is not None and account.role in accounts.PEOPLE and account.disabled_at is None
        kept = account.password_hash if account is not None and known else ""
        if not self.passwords.matches(kept, password) or account is None:
            _log.warning("login failed", extra={"address": address, "user": account.name if account else "(unknown)"})
            self._trail.login_failed(account.name if account else "", address, "name or password is wrong")
            return TurnedAway()
        newer = self.passwords.renewed(kept, password)
        with self._database.transaction() as session:
            account = accounts.known(session, name)
            if account.disabled_at is not None or account.password_hash != kept:  # changed in the meantime
                return TurnedAway()
            account.password_hash = newer
            session.add(account)
            token = self.sessions.open(session, account)
        self._throttle.forgive(name, address)
        user = User(account.id or 0, account.name, Role(account.role))
        _log.info("login", extra={"address": address, "user": user.name})
        self._trail.logged_in(user.name, address)
        return Entered(user, token)

    def leave(self, token: str, name: str, address: str) -> None:
        """End a session. name: of its account; address: of the caller, both for the audit trail."""
        self.sessions.end(token)
        self._trail.logged_out(name, address)
