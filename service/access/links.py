"""Links that let somebody in once: rows with the digest of their key, gone with their first use."""

from __future__ import annotations

from sqlalchemy import delete
from sqlmodel import Session, col, select

from service.access.accounts import PEOPLE, AccountProblem
from service.access.secrets import digest, new_token
from service.store.tables import Account, LoginLink

LIFE_S = 600.0
"""A link holds so long, seconds."""


def make_link(session: Session, account: Account, now: float, life_s: float = LIFE_S) -> str:
    """Return the key of a new link for a person's account. Raises: AccountProblem for a program's or a disabled one."""
    if account.role not in PEOPLE or account.disabled_at is not None:
        raise AccountProblem(f"{account.name} is disabled, or a program's: no link lets it in")
    key = new_token()
    session.exec(delete(LoginLink).where(col(LoginLink.ends_at) <= now))
    session.add(LoginLink(digest=digest(key), account_id=account.id or 0, ends_at=now + life_s))
    return key


def use_link(session: Session, key: str, now: float) -> Account | None:
    """Return the account that a link lets in, and end the link; None for one that is unknown, used or over."""
    found = session.exec(select(LoginLink).where(LoginLink.digest == digest(key)).with_for_update()).one_or_none()
    if found is None:
        return None
    session.delete(found)
    account = session.get_one(Account, found.account_id)
    return account if found.ends_at > now and account.disabled_at is None else None


def holds(session: Session, key: str, now: float) -> str:
    """Return the name of the account that a link would let in, "" for none; the link stays."""
    found = session.exec(select(Account.name).join(LoginLink).where(
        LoginLink.digest == digest(key), col(LoginLink.ends_at) > now, col(Account.disabled_at).is_(None))).first()
    return found or ""
