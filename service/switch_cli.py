"""`firstlook models activate | rollback | beside`: other bundles for a kind of study, while the service runs."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from service.audit.trail import runner
from service.reception import trail_of
from service.settings import Settings, load
from service.store.activations import BESIDE, history, named, roll_back, switch, switch_beside
from service.store.database import Database
from service.switching import KINDS, as_set, in_use, problems, require_readers


def add_switch(commands: Any, with_settings: Callable[[argparse.ArgumentParser], argparse.ArgumentParser]) -> None:
    """Add the commands to `firstlook models`."""
    told = "let other bundles read a kind of study from now on, without a restart; without names: say which do"
    on = with_settings(commands.add_parser("activate", help=told, description=told))
    on.add_argument("kind", choices=KINDS, help="the kind of study")
    on.add_argument("names", nargs="*", metavar="NAME", help="bundles, the leading one first")
    on.set_defaults(run=_activate)
    told = "go back to the bundles of before the last switch, without a restart"
    back = with_settings(commands.add_parser("rollback", help=told, description=told))
    back.add_argument("kind", choices=KINDS, help="the kind of study")
    back.set_defaults(run=_roll_back)
    told = "let these bundles look beside the active ones from now on, without a restart; without names: say which do"
    beside = with_settings(commands.add_parser("beside", help=told, description=told))
    beside.add_argument("names", nargs="*", metavar="NAME", help="bundles, all that are to look beside")
    beside.add_argument("--none", action="store_true", help="none looks beside any more")
    beside.set_defaults(run=_beside)


def _activate(asked: argparse.Namespace) -> int:
    settings = load(asked.settings)
    if asked.names and not _whole(settings, asked.kind, asked.names):
        return 1
    with _opened(settings) as database:
        if asked.names:
            with database.transaction() as session:
                switch(session, asked.kind, asked.names, time.time(), who())
            _noted(settings, database, f"{asked.kind} is read by {', '.join(asked.names)}")
        _print(settings, database, asked.kind)
    return 0


def _roll_back(asked: argparse.Namespace) -> int:
    settings = load(asked.settings)
    with _opened(settings) as database:
        with database.transaction() as session:
            before = roll_back(session, asked.kind, time.time(), who())
        if before is None:
            print(f"firstlook: {asked.kind}: nothing to roll back", file=sys.stderr)  # noqa: T201
            return 1
        _noted(settings, database, f"{asked.kind} is rolled back to {', '.join(before) or 'what the settings say'}")
        _print(settings, database, asked.kind)
    return 0


def _beside(asked: argparse.Namespace) -> int:
    settings = load(asked.settings)
    if asked.names and not _whole(settings, BESIDE, asked.names):
        return 1
    with _opened(settings) as database:
        if asked.names or asked.none:
            with database.transaction() as session:
                switch_beside(session, asked.names, as_set(settings)[BESIDE], time.time(), who())
            _noted(settings, database, f"beside the active bundles: {', '.join(asked.names) or 'none'}")
        _print(settings, database, BESIDE)
    return 0


@contextmanager
def _opened(settings: Settings) -> Iterator[Database]:
    database = Database(settings.database_url)
    try:
        database.migrate()
        yield database
    finally:
        database.close()


def who() -> str:
    """Return who gives this command, for the history: the user of the operating system."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _noted(settings: Settings, database: Database, what: str) -> None:
    """Tell the audit trail of a switch."""
    trail = trail_of(settings, database, time.time)
    trail.configuration_changed(runner(), what)
    trail.close()


def _whole(settings: Settings, kind: str, names: list[str]) -> bool:
    """Tell whether these bundles are whole and read this kind of study; say what is wrong where not.

    Raises: InvalidSettings for a name twice, an unknown bundle, or one with another task.
    """
    require_readers(settings, kind, names)
    found = list(problems(settings, names))
    for problem in found:
        print(f"firstlook: {problem}", file=sys.stderr)  # noqa: T201
    return not found


def _print(settings: Settings, database: Database, kind: str) -> None:
    with database.reading() as session:
        names, rows = in_use(settings, session)[kind], history(session, kind)
    print(f"{kind}: {', '.join(names) or 'no bundle'}")  # noqa: T201
    for row in rows[:10]:
        at = datetime.fromtimestamp(row.at).astimezone().isoformat(" ", "seconds")
        what = ", ".join(named(row)) or ("none" if row.bundles else "as the settings say")
        print(f"  {at}  {'rolled back to' if row.rolled_back else 'switched to'} {what}  ({row.who})")  # noqa: T201
