"""`firstlook audit`: who saw which patient, and when."""

from __future__ import annotations

import argparse
import os
import socket
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from service import DISCLAIMER
from service.audit.events import EVENTS
from service.audit.read import MOST, Wanted, read_trail
from service.audit.trail import runner
from service.reception import trail_of
from service.settings import load
from service.store.database import Database


def add_audit(commands: Any) -> None:
    """Add the command."""
    told = "who saw which patient when, and what else the audit trail holds"
    command = commands.add_parser("audit", help=told, description=f"Print {told}. Reading it is told in the trail itself.",
                                  epilog=f"It shows patient data. {DISCLAIMER}")
    default = os.environ.get("FIRSTLOOK_SETTINGS")
    command.add_argument("--settings", type=Path, default=Path(default) if default else None, metavar="FILE",
                         help="the settings of the service")
    command.add_argument("--days", type=int, default=7, metavar="N", help="of so many days, today included (7)")
    command.add_argument("--patient", default="", metavar="ID", help="about the patient with this Patient ID")
    command.add_argument("--study", default="", metavar="UID", help="about the study with this Study Instance UID")
    command.add_argument("--user", default="", metavar="NAME", help="where this account, AE title or target took part")
    command.add_argument("--event", default="", choices=["", *EVENTS], metavar="ID",
                         help="only this event: " + ", ".join(f"{code} {meaning}" for code, meaning in EVENTS.items()))
    command.set_defaults(run=_audit)


def _audit(asked: argparse.Namespace) -> int:
    settings = load(asked.settings)
    folder = settings.store.data_dir.resolve() / "audit"
    if not folder.is_dir():
        print(f"firstlook: {folder}: there is no audit trail here (audit.file)", file=sys.stderr)  # noqa: T201
        return 1
    database = Database(settings.database_url)
    trail = trail_of(settings, database, time.time)
    trail.log_used(runner(), socket.gethostname())
    trail.close()
    database.close()
    today = datetime.now(UTC).date()
    first = today - timedelta(days=max(0, asked.days - 1))
    wanted = Wanted(first, today, asked.user, asked.patient, asked.study, asked.event)
    found, more = read_trail(folder, wanted)
    table = Table("at (UTC)", "event", "who", "from", "patient", "study", "what")
    for one in found:
        what = " ".join(filter(None, (one.type, "" if one.succeeded else "FAILED", one.description)))
        table.add_row(datetime.fromtimestamp(one.at, UTC).isoformat(" ", "seconds")[:19], one.event, " > ".join(one.users),
                      one.address, " ".join(filter(None, (one.patient_id, one.patient_name))), one.study_instance_uid, what)
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else 220).print(table)
    print(f"{len(found)} messages{f', the newest {MOST}' if more else ''}. {DISCLAIMER}")  # noqa: T201
    return 0
