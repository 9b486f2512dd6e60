"""A limit on wrong logins: for one name from one address, for one name, and for one address. It holds for all processes."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import delete, func
from sqlmodel import Session, col, select

from service.access.secrets import digest
from service.store.database import Database
from service.store.tables import LoginTry


@dataclass(frozen=True)
class Limits:
    """How many wrong tries in window_s, seconds. Those for a name alone are many: nobody shall lock out another easily."""

    of_name_from_address: int = 5
    of_name: int = 50
    from_address: int = 30
    window_s: float = 900.0


class Throttle:
    """Counts each try before the password is looked at, so that tries at the same time count too."""

    def __init__(self, database: Database, clock: Callable[[], float], limits: Limits | None = None) -> None:
        self._database, self._clock, self._limits = database, clock, limits or Limits()

    def begin(self, name: str, address: str) -> float:
        """Note a try; return 0, or for how long, seconds, none is taken. A try that is not taken does not count."""
        now, since = self._clock(), self._clock() - self._limits.window_s
        about = _about(name, address)
        most = (self._limits.of_name_from_address, self._limits.of_name, self._limits.from_address)
        with self._database.transaction() as session:
            session.exec(delete(LoginTry).where(col(LoginTry.at) <= since))
            made = [LoginTry(about=one, at=now) for one in about]
            session.add_all(made)
        with self._database.transaction() as session:
            waits = [self._wait_s(session, one, limit, since) for one, limit in zip(about, most, strict=True)]
            if max(waits) > 0:
                session.exec(delete(LoginTry).where(col(LoginTry.id).in_([one.id for one in made])))
        return max(waits)

    def forgive(self, name: str, address: str) -> None:
        """Forget the wrong tries of a name from an address, because it is now logged in; those of others stay."""
        both, of_name, from_address = _about(name, address)
        with self._database.transaction() as session:
            session.exec(delete(LoginTry).where(col(LoginTry.about) == both))
            for one in (of_name, from_address):
                last = session.exec(
                    select(LoginTry).where(LoginTry.about == one).order_by(col(LoginTry.id).desc()).limit(1)).first()
                if last is not None:
                    session.delete(last)

    def _wait_s(self, session: Session, about: str, most: int, since: float) -> float:
        count, oldest = session.exec(
            select(func.count(), func.min(LoginTry.at)).where(LoginTry.about == about, LoginTry.at > since)).one()
        return max(1.0, oldest - since) if count > most else 0.0


def _about(name: str, address: str) -> tuple[str, str, str]:
    """Return what a try is counted under. A network of IPv6 (/64) counts as one address: one host has all of it."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
        where = str(ipaddress.ip_network((parsed, 64), strict=False) if parsed.version == 6 else parsed)
    except ValueError:
        where = "unknown"
    return f"both:{digest(f'{name} {where}')}", f"name:{digest(name)}", f"from:{where}"
