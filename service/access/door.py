"""The door of the pages: who comes in by password, session or token, and whether anybody is asked at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from service import logs
from service.access import accounts, links
from service.access.identity import NotLetIn, Provider, ProviderAway
from service.access.passwords import Passwords
from service.access.secrets import same
from service.access.sessions import Sessions
from service.access.throttle import Throttle
from service.audit.events import ROLES_CHANGED
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
    """A login that was not: wait_s, seconds, where too many were wrong; else 0, and name or password are wrong.

    because: why the identity provider's word did not do.
    """

    wait_s: float = 0.0
    because: str = ""


class Door:
    """Safe to share between threads. shared_token: `web.access_token`, by which a program may read; "" for none.

    provider: the hospital's identity provider, which vouches for people; None: there is none.
    """

    def __init__(self, database: Database, clock: Callable[[], float], login: Login, shared_token: str,
                 sessions: Sessions, passwords: Passwords, throttle: Throttle, trail: Trail | None = None,
                 provider: Provider | None = None) -> None:
        self._database, self._clock, self._login, self._shared = database, clock, login, shared_token
        self.sessions, self.passwords, self._throttle = sessions, passwords, throttle
        self._asks, self._trail = login is Login.REQUIRED or provider is not None, trail or silent()
        self.provider = provider

    def asks(self) -> bool:
        """Tell whether a login is asked for. Accounts are never deleted, so that once asked it stays so."""
        if not self._asks and self._login is Login.AUTO:
            self._asks = self.has_people()
        return self._asks

    def has_people(self) -> bool:
        """Tell whether there is an account that a person can log in with."""
        with self._database.reading() as session:
            return accounts.any_person(session)

    def has_passwords(self) -> bool:
        """Tell whether there is an account that has a password."""
        with self._database.reading() as session:
            return accounts.any_password(session)

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

    def come_back(self, secret: str, query: Mapping[str, str], address: str) -> Entered | TurnedAway:
        """Let in whom the identity provider vouches for; their account is made, and gets the role of their groups.

        secret, query: see `Provider.end`; address: of the caller. Raises: ProviderAway.
        """
        assert self.provider is not None
        about = f"identity provider {address}"
        wait_s = self._throttle.begin(about, address)
        if wait_s:
            return TurnedAway(wait_s)
        try:
            identity = self.provider.end(secret, query)
            with self._database.transaction() as session:
                account, changed = accounts.vouched(session, identity, self._clock())
                token = self.sessions.open(session, account)
        except (NotLetIn, accounts.AccountProblem) as error:
            _log.warning("login failed", extra={"address": address, "because": str(error)})
            self._trail.login_failed("", address, f"by the identity provider: {error}")
            return TurnedAway(because=str(error))
        except ProviderAway as error:
            _log.error("the identity provider is away", extra={"because": str(error)})
            raise
        self._throttle.forgive(about, address)
        user = User(account.id or 0, account.name, Role(account.role))
        if changed:
            self._trail.account_changed("identity provider", user.name, f"role {user.role.value}", ROLES_CHANGED)
        _log.info("login", extra={"address": address, "user": user.name, "by": "identity provider"})
        self._trail.logged_in(user.name, address)
        return Entered(user, token)

    def link_holds(self, key: str) -> str:
        """Return the name of the account that a link would let in, "" for none; the link stays."""
        with self._database.reading() as session:
            return links.holds(session, key, self._clock())

    def enter_by_link(self, key: str, address: str) -> Entered | TurnedAway:
        """Let in whoever has the key of a link that was not used. address: of the caller, for the audit trail."""
        with self._database.transaction() as session:
            account = links.use_link(session, key, self._clock())
            token = self.sessions.open(session, account) if account is not None else ""
        if account is None:
            _log.warning("login failed", extra={"address": address, "because": "link"})
            self._trail.login_failed("", address, "a link that is unknown, used or over")
            return TurnedAway()
        user = User(account.id or 0, account.name, Role(account.role))
        _log.info("login", extra={"address": address, "user": user.name, "by": "link"})
        self._trail.logged_in(user.name, address)
        return Entered(user, token)

    def leave(self, token: str, name: str, address: str) -> None:
        """End a session. name: of its account; address: of the caller, both for the audit trail."""
        self.sessions.end(token)
        self._trail.logged_out(name, address)
