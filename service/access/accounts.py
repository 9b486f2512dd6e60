"""The accounts: made, listed, disabled and given a new password; each function runs inside the caller's transaction."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import delete, func, update
from sqlmodel import Session, col, select

from service.access.identity import Identity
from service.access.secrets import digest, new_token
from service.domain.person import Role
from service.store.tables import AccessToken, Account, LoginSession

PEOPLE = (Role.READER, Role.ADMINISTRATOR)
_NAME = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")


class AccountProblem(ValueError):
    """What is asked for cannot be done with this account. The text says why."""


@dataclass(frozen=True)
class AccountLine:
    """One account as it is shown. sessions, tokens: how many of them hold now; vouched: it logs in at the identity provider;
    *_at: Unix time, seconds."""

    name: str
    role: str
    created_at: float
    disabled_at: float | None
    has_password: bool
    sessions: int
    tokens: int
    vouched: bool = False


def tidy_name(text: str) -> str:
    """Return the name of an account in small letters. Raises: AccountProblem for one that is not accepted."""
    name = text.strip().lower()
    if not _NAME.fullmatch(name):
        raise AccountProblem(f"{text!r}: accepted: 1 to 64 of a-z, 0-9, '.', '_', '@', '-', a letter or digit first")
    return name


def add(session: Session, name: str, role: Role, password_hash: str, now: float) -> Account:
    """Make an account. password_hash: "" for none. Raises: AccountProblem when the name is taken."""
    if find(session, name) is not None:
        raise AccountProblem(f"there is an account {name} already")
    account = Account(name=name, role=role.value, password_hash=password_hash, created_at=now,
                      password_set_at=now if password_hash else None)
    session.add(account)
    session.flush()
    return account


def find(session: Session, name: str) -> Account | None:
    """Return the account of a name, disabled or not."""
    return session.exec(select(Account).where(Account.name == name)).one_or_none()


def known(session: Session, name: str) -> Account:
    """Return the account of a name. Raises: AccountProblem when there is none."""
    account = find(session, name)
    if account is None:
        raise AccountProblem(f"there is no account {name}; `firstlook users list` shows all")
    return account


def any_person(session: Session) -> bool:
    """Tell whether there is an account that a person logs in with; a disabled one counts, so that pages never reopen."""
    people = [role.value for role in PEOPLE]
    return session.exec(select(Account.id).where(col(Account.role).in_(people)).limit(1)).first() is not None


def any_password(session: Session) -> bool:
    """Tell whether there is an account with a password."""
    return session.exec(select(Account.id).where(Account.password_hash != "").limit(1)).first() is not None


def with_password(account: Account) -> None:
    """Make sure that an account has a password. Raises: AccountProblem for a program's, or the identity provider's."""
    if account.subject is not None:
        raise AccountProblem(f"{account.name} logs in at the identity provider: it has no password here")
    if account.role == Role.SERVICE.value:
        raise AccountProblem(f"{account.name} is a program's: it has tokens, no password")


def vouched(session: Session, identity: Identity, now: float) -> tuple[Account, bool]:
    """Return the account of somebody that the identity provider vouches for, made or given its role; True: changed so.

    Raises: AccountProblem when it is disabled, or its name is not accepted or that of another account.
    """
    account = session.exec(select(Account).where(Account.subject == identity.subject)).one_or_none()
    if account is None:
        made = add(session, tidy_name(identity.name), identity.role, "", now)
        made.subject = identity.subject
        session.add(made)
        return made, True
    if account.disabled_at is not None:
        raise AccountProblem(f"{account.name} is disabled")
    changed = account.role != identity.role.value
    account.role = identity.role.value
    session.add(account)
    return account, changed


def set_password(session: Session, account: Account, password_hash: str, now: float) -> None:
    """Give an account a new password and end its sessions. Raises: AccountProblem for a program's account."""
    with_password(account)
    account.password_hash, account.password_set_at = password_hash, now
    session.add(account)
    end_sessions(session, account)


def change_role(session: Session, account: Account, role: Role) -> None:
    """Give a person's account another role, and end its sessions.

    Raises: AccountProblem for a program's account or role, one that the identity provider gives its role, one that has it
    already, and the last administrator.
    """
    if account.role not in PEOPLE or role not in PEOPLE:
        raise AccountProblem(f"{account.name}: a program stays a program, and a person a person; make another account")
    if account.subject is not None:
        raise AccountProblem(f"{account.name} has its role from the groups at the identity provider")
    if account.role == role.value:
        raise AccountProblem(f"{account.name} has the role {role.value} already")
    keep_an_administrator(session, account)
    account.role = role.value
    session.add(account)
    end_sessions(session, account)


def keep_an_administrator(session: Session, account: Account) -> None:
    """Make sure that somebody can administer without this account. Raises: AccountProblem for the last administrator."""
    able = session.exec(select(Account).where(Account.role == Role.ADMINISTRATOR.value, col(Account.disabled_at).is_(None))
                        .order_by(col(Account.id)).with_for_update()).all()
    if [one.id for one in able] == [account.id]:
        raise AccountProblem(f"{account.name} is the last administrator")


def any_administrator(session: Session) -> bool:
    """Tell whether there is an administrator who is let in."""
    able = (Account.role == Role.ADMINISTRATOR.value, col(Account.disabled_at).is_(None))
    return session.exec(select(Account.id).where(*able).limit(1)).first() is not None


def disable(session: Session, account: Account, now: float) -> None:
    """Disable an account: its sessions end and its tokens are revoked."""
    account.disabled_at = now
    session.add(account)
    end_sessions(session, account)
    revoke_tokens(session, account, now)


def enable(session: Session, account: Account) -> None:
    """Let a disabled account in again; its tokens stay revoked."""
    account.disabled_at = None
    session.add(account)


def issue_token(session: Session, account: Account, now: float, ends_at: float | None) -> str:
    """Make a token of a program and return it: it is kept nowhere. Raises: AccountProblem for a person's account."""
    if account.role != Role.SERVICE.value:
        raise AccountProblem(f"{account.name} is a {account.role}'s account; a token needs one of role service")
    if account.disabled_at is not None:
        raise AccountProblem(f"{account.name} is disabled")
    token = new_token()
    session.add(AccessToken(digest=digest(token), account_id=account.id or 0, created_at=now, ends_at=ends_at))
    return token


def revoke_tokens(session: Session, account: Account, now: float) -> int:
    """Revoke every token of an account; return how many there were."""
    held = (col(AccessToken.account_id) == account.id, col(AccessToken.revoked_at).is_(None))
    return int(session.exec(update(AccessToken).where(*held).values(revoked_at=now)).rowcount)


def end_sessions(session: Session, account: Account) -> int:
    """End every session of an account; return how many there were."""
    return int(session.exec(delete(LoginSession).where(col(LoginSession.account_id) == account.id)).rowcount)


def listed(session: Session, now: float) -> Sequence[AccountLine]:
    """Return all accounts by name, with the sessions and tokens that hold now."""
    sessions = dict(session.exec(select(LoginSession.account_id, func.count()).where(LoginSession.ends_at > now)
                                 .group_by(col(LoginSession.account_id))).all())
    holds = (col(AccessToken.revoked_at).is_(None),
             col(AccessToken.ends_at).is_(None) | (col(AccessToken.ends_at) > now))
    tokens = dict(session.exec(select(AccessToken.account_id, func.count()).where(*holds)
                               .group_by(col(AccessToken.account_id))).all())
    return [AccountLine(a.name, a.role, a.created_at, a.disabled_at, bool(a.password_hash),
                        sessions.get(a.id or 0, 0), tokens.get(a.id or 0, 0), a.subject is not None)
            for a in session.exec(select(Account).order_by(col(Account.name))).all()]
