"""`firstlook users`: the accounts of the pages."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from sqlmodel import Session

from service import DISCLAIMER
from service.access import accounts
from service.access.accounts import AccountProblem
from service.access.links import make_link
from service.access.passwords import LEAST, Passwords, WeakPassword
from service.audit.events import ATTRIBUTES_CHANGED, ROLES_CHANGED
from service.audit.trail import runner
from service.domain.person import Role
from service.reception import trail_of
from service.settings import Settings, load
from service.store.database import Database

_TOLD = f"""The accounts of the pages. A reader sees the list and the studies; an administrator also changes things; a
program (role service) has tokens and only reads. A password is asked for, or read from standard input, never from the
command line; it has {LEAST} characters or more. With the first account of a person the pages ask for a login (web.login)."""
Act = Callable[[Session, argparse.Namespace, float], str]
Prepare = Callable[[Session, argparse.Namespace], str]


def add_users(parser: argparse.ArgumentParser) -> None:
    """Add the commands below `firstlook users`."""
    parser.description, parser.epilog = _TOLD, DISCLAIMER
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    made = _command(commands, "add", "make an account", _add, prepare=_new_password)
    made.add_argument("--role", choices=[role.value for role in Role], default=Role.READER.value,
                      help="reader (default), administrator, or service: a program, which gets a token")
    _command(commands, "list", "all accounts, with the sessions and tokens that hold", _list, named=False)
    _command(commands, "disable", "let an account in no more: its sessions end, its tokens are revoked", _disable)
    _command(commands, "enable", "let a disabled account in again", _enable)
    role = _command(commands, "role", "give a person another role; the sessions of the account end", _role)
    role.add_argument("--role", choices=accounts.PEOPLE, required=True, help="reader or administrator")
    _command(commands, "logout", "end the sessions of an account", _logout)
    _command(commands, "password", "give an account a new password; its sessions end", _password, prepare=_changed_password)
    link = _command(commands, "link", "a link that lets a person in once, within ten minutes; shown this once", _link)
    link.add_argument("--url", default="", metavar="URL", help="where the pages are reached (default: on this machine)")
    token = _command(commands, "token", "a new token of a program, shown this once; its account is made if need be", _token)
    token.add_argument("--days", type=_days, default=0, metavar="N", help="it holds so long (default: until it is revoked)")
    token.add_argument("--revoke", action="store_true", help="revoke all tokens of the account instead")


def _command(commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, told: str, act: Act,
             named: bool = True, prepare: Prepare | None = None) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=told, description=told)
    if named:
        command.add_argument("name", metavar="NAME", help="of the account; small and capital letters are the same")
    default = os.environ.get("FIRSTLOOK_SETTINGS")
    command.add_argument("--settings", type=Path, default=Path(default) if default else None, metavar="FILE",
                         help="the settings of the service")
    command.set_defaults(what=name, run=lambda asked: _run(asked, act, prepare))
    return command


def _run(asked: argparse.Namespace, act: Act, prepare: Prepare | None) -> int:
    """Do one thing in one transaction and say what was done. prepare: asks for a password, and returns its hash."""
    settings = load(asked.settings)
    settings.store.data_dir.mkdir(parents=True, exist_ok=True)
    database = Database(settings.database_url)
    try:
        if hasattr(asked, "name"):
            asked.name = accounts.tidy_name(asked.name)
        database.migrate()
        with database.reading() as session:
            asked.password = prepare(session, asked) if prepare else ""
        with database.transaction() as session:
            told = act(session, asked, time.time())
        if hasattr(asked, "name"):
            _noted(settings, database, asked)
    except (AccountProblem, WeakPassword) as error:
        print(f"firstlook: {error}", file=sys.stderr)  # noqa: T201
        return 1
    finally:
        database.close()
    print(told)  # noqa: T201
    return 0


def _noted(settings: Settings, database: Database, asked: argparse.Namespace) -> None:
    """Tell the audit trail what was done to an account."""
    what = {"add": f"made, {getattr(asked, 'role', '')}", "disable": "disabled", "enable": "enabled",
            "password": "new password; sessions ended", "role": f"role {getattr(asked, 'role', '')}; sessions ended",
            "logout": "sessions ended",
            "link": "new link", "token": "tokens revoked" if getattr(asked, "revoke", False) else "new token"}[asked.what]
    trail = trail_of(settings, database, time.time)
    trail.account_changed(runner(), asked.name, what,
                          ROLES_CHANGED if asked.what in ("add", "role") else ATTRIBUTES_CHANGED)
    trail.close()


def _add(session: Session, asked: argparse.Namespace, now: float) -> str:
    role = Role(asked.role)
    if role is Role.SERVICE:
        account = accounts.add(session, asked.name, role, "", now)
        token = accounts.issue_token(session, account, now, None)
        return f"{asked.name} made, {role.value}. Its token, shown this once:\n{token}"
    accounts.add(session, asked.name, role, asked.password, now)
    return f"{asked.name} made, {role.value}"


def _list(session: Session, _asked: argparse.Namespace, now: float) -> str:
    lines = [f"{'name':<24} {'role':<14} {'made':<11} {'sessions':>8} {'tokens':>6}"]
    for one in accounts.listed(session, now):
        state = "  disabled" if one.disabled_at is not None else ""
        made = f"{datetime.fromtimestamp(one.created_at, UTC):%Y-%m-%d}"
        lines.append(f"{one.name:<24} {one.role:<14} {made:<11} {one.sessions:>8} {one.tokens:>6}{state}")
    return "\n".join(lines) if len(lines) > 1 else "there is no account"


def _disable(session: Session, asked: argparse.Namespace, now: float) -> str:
    accounts.disable(session, accounts.known(session, asked.name), now)
    left = "" if accounts.any_administrator(session) else "; nobody can administer the pages now"
    return f"{asked.name} disabled{left}"


def _enable(session: Session, asked: argparse.Namespace, _now: float) -> str:
    accounts.enable(session, accounts.known(session, asked.name))
    return f"{asked.name} enabled"


def _role(session: Session, asked: argparse.Namespace, _now: float) -> str:
    accounts.change_role(session, accounts.known(session, asked.name), Role(asked.role))
    return f"{asked.name}: {asked.role} now; all sessions ended"


def _logout(session: Session, asked: argparse.Namespace, _now: float) -> str:
    return f"{asked.name}: {accounts.end_sessions(session, accounts.known(session, asked.name))} sessions ended"


def _password(session: Session, asked: argparse.Namespace, now: float) -> str:
    accounts.set_password(session, accounts.known(session, asked.name), asked.password, now)
    return f"{asked.name}: new password; all sessions ended"


def _token(session: Session, asked: argparse.Namespace, now: float) -> str:
    if asked.revoke:
        return f"{asked.name}: {accounts.revoke_tokens(session, accounts.known(session, asked.name), now)} tokens revoked"
    account = accounts.find(session, asked.name) or accounts.add(session, asked.name, Role.SERVICE, "", now)
    return accounts.issue_token(session, account, now, now + asked.days * 86400 if asked.days else None)


def _link(session: Session, asked: argparse.Namespace, now: float) -> str:
    web = load(asked.settings).web
    base = asked.url or web.oidc.public_url or f"http://127.0.0.1:{web.port}"
    return f"{base.rstrip('/')}/login/once?key={make_link(session, accounts.known(session, asked.name), now)}"


def _new_password(session: Session, asked: argparse.Namespace) -> str:
    if accounts.find(session, asked.name) is not None:
        raise AccountProblem(f"there is an account {asked.name} already")
    return "" if asked.role == Role.SERVICE.value else _asked_password(asked.name)


def _changed_password(session: Session, asked: argparse.Namespace) -> str:
    accounts.with_password(accounts.known(session, asked.name))
    return _asked_password(asked.name)


def _asked_password(name: str) -> str:
    """Return the hash of a password that is asked for twice on a terminal, or read from standard input once."""
    if sys.stdin.isatty():
        password = getpass.getpass(f"Password of {name}: ")
        if getpass.getpass("Once more: ") != password:
            raise WeakPassword("the two passwords differ")
    else:
        password = sys.stdin.readline().rstrip("\r\n")
    return Passwords().hash(name, password)


def _days(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 3650:
        raise argparse.ArgumentTypeError(f"{text!r}: accepted: 1 to 3650")
    return int(text)
