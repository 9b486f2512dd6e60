"""`firstlook parked`: the jobs that need a person, and the end of one."""

from __future__ import annotations

import argparse
import os
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from service.audit.trail import runner
from service.settings import load
from service.store import parked
from service.store.database import Database

_MOST = 500


def add_parked(commands: Any) -> None:
    """Add the command."""
    told = "the jobs that need a person; with --dismiss: end one for good"
    command = commands.add_parser("parked", help=told, description=f"Print {told}. `firstlook retry` takes up again what is "
                                  "parked, `firstlook resend` sends a result once more.")
    default = os.environ.get("FIRSTLOOK_SETTINGS")
    command.add_argument("--settings", type=Path, default=Path(default) if default else None, metavar="FILE",
                         help="the settings of the service")
    command.add_argument("--dismiss", type=int, default=0, metavar="NUMBER",
                         help="of the job; its study goes on saying what it lacks")
    command.set_defaults(run=_parked)


def _parked(asked: argparse.Namespace) -> int:
    database = Database(load(asked.settings).database_url)
    try:
        if asked.dismiss:
            return _dismiss(database, asked.dismiss)
        with database.reading() as session:
            jobs, number = parked.parked(session, _MOST)
    finally:
        database.close()
    for job in jobs:
        at = datetime.fromtimestamp(job.parked_at).astimezone().isoformat(" ", "seconds")
        print(f"{job.id:>6}  {at}  {job.kind} {job.target}".rstrip()  # noqa: T201
              + f"  {job.study_instance_uid}  {job.reason} {job.detail}".rstrip())
    print("nothing is parked" if not number else f"{number} parked")  # noqa: T201
    return 0


def _dismiss(database: Database, number: int) -> int:
    with database.transaction() as session:
        done = parked.dismiss(session, number, time.time(), runner())
    if not done:
        print(f"firstlook: no job {number} is parked", file=sys.stderr)  # noqa: T201
        return 1
    print(f"job {number} dismissed")  # noqa: T201
    return 0
