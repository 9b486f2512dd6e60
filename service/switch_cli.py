"""`firstlook models activate | rollback`: other bundles for a kind of study, while the service runs."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from service.domain.manifest import READERS, TASKS
from service.domain.study import Kind
from service.errors import UnusableStudy
from service.infer.catalogue import Catalogue
from service.settings import InvalidSettings, Settings, load
from service.store.activations import history, roll_back, switch, switched_to
from service.store.database import Database
from service.verify import verify

KINDS = tuple(kind.value for kind in Kind)


def add_switch(commands: Any, with_settings: Callable[[argparse.ArgumentParser], argparse.ArgumentParser]) -> None:
    """Add the two commands to `firstlook models`."""
    told = "let other bundles read a kind of study from now on, without a restart; without names: say which do"
    on = with_settings(commands.add_parser("activate", help=told, description=told))
    on.add_argument("kind", choices=KINDS, help="the kind of study")
    on.add_argument("names", nargs="*", metavar="NAME", help="bundles, the leading one first")
    on.set_defaults(run=_activate)
    told = "go back to the bundles of before the last switch, without a restart"
    back = with_settings(commands.add_parser("rollback", help=told, description=told))
    back.add_argument("kind", choices=KINDS, help="the kind of study")
    back.set_defaults(run=_roll_back)


def active_now(settings: Settings) -> dict[str, tuple[str, ...]]:
    """Return the bundles that read each kind of study: as last switched, else as set; also without a database."""
    if not settings.store.database_url and not (settings.store.data_dir.resolve() / "firstlook.db").exists():
        return _as_set(settings)
    database = Database(settings.database_url)
    try:
        return _active(settings, database)
    except SQLAlchemyError:  # of an older release, or away: nothing was switched that could be known
        return _as_set(settings)
    finally:
        database.close()


def _as_set(settings: Settings) -> dict[str, tuple[str, ...]]:
    return {Kind.CT.value: settings.infer.ct_bundles, Kind.CXR.value: settings.infer.cxr_bundles}


def _active(settings: Settings, database: Database) -> dict[str, tuple[str, ...]]:
    with database.reading() as session:
        return {kind: switched_to(session, kind) or names for kind, names in _as_set(settings).items()}


def _activate(asked: argparse.Namespace) -> int:
    settings = load(asked.settings)
    if asked.names and not _may_read(settings, asked.kind, asked.names):
        return 1
    database = Database(settings.database_url)
    try:
        database.migrate()
        if asked.names:
            with database.transaction() as session:
                switch(session, asked.kind, asked.names, time.time(), who())
        _print(settings, database, asked.kind)
    finally:
        database.close()
    return 0


def _roll_back(asked: argparse.Namespace) -> int:
    settings = load(asked.settings)
    database = Database(settings.database_url)
    try:
        database.migrate()
        with database.transaction() as session:
            before = roll_back(session, asked.kind, time.time(), who())
        if before is None:
            print(f"firstlook: {asked.kind}: nothing to roll back", file=sys.stderr)  # noqa: T201
            return 1
        _print(settings, database, asked.kind)
    finally:
        database.close()
    return 0


def who() -> str:
    """Return who gives this command, for the history: the user of the operating system."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def _may_read(settings: Settings, kind: str, names: list[str]) -> bool:
    """Tell whether these bundles are whole and read this kind of study; say what is wrong where not.

    Raises: InvalidSettings for a name twice, an unknown bundle, or one with another task.
    """
    accepted = [task for task in READERS if TASKS[task] is Kind(kind)]
    catalogue = Catalogue.load(settings.infer.models_dir)
    if len(set(names)) < len(names):
        raise InvalidSettings("a bundle is named twice")
    good = True
    for name in names:
        try:
            manifest = catalogue.get(name)
        except UnusableStudy as error:
            raise InvalidSettings(error.detail) from error
        if manifest.task not in accepted:
            raise InvalidSettings(f"{name!r} has the task {manifest.task}; accepted for {kind}: {', '.join(accepted)}")
        found = verify((settings.infer.models_dir / name).resolve())
        for problem in found.problems:
            good = False
            print(f"firstlook: {name}: {' '.join(problem.split())}", file=sys.stderr)  # noqa: T201
    return good


def _print(settings: Settings, database: Database, kind: str) -> None:
    with database.reading() as session:
        rows = history(session, kind)
    print(f"{kind}: {', '.join(_active(settings, database)[kind]) or 'no bundle'}")  # noqa: T201
    for row in rows[:10]:
        at = datetime.fromtimestamp(row.at).astimezone().isoformat(" ", "seconds")
        what = ", ".join(row.bundles) or "as the settings say"
        print(f"  {at}  {'rolled back to' if row.rolled_back else 'switched to'} {what}  ({row.who})")  # noqa: T201
