"""The command firstlook feedback: how often readers agree with the models, and the verdicts as a file for retraining."""

from __future__ import annotations

import argparse
import csv
import os
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table

from service import DISCLAIMER
from service.domain.verdict import Judged, latest, missed, predictive_values
from service.settings import load
from service.store.database import Database
from service.store.verdicts import judged_since

COLUMNS = ("study_instance_uid", "revision", "bundle", "version", "digest", "finding", "presence", "probability",
           "threshold", "verdict", "why", "given_at", "sender", "scanner")
_DAY_S = 86400.0


def add_feedback(commands: Any) -> None:
    """Add the command."""
    command = commands.add_parser("feedback", help="how often readers agree with the models; verdicts for retraining")
    command.description = ("Print positive predictive values with 95 % intervals, by model, finding, scanner and sender, of "
                           "what readers said on the study pages.")
    default = os.environ.get("FIRSTLOOK_SETTINGS")
    command.add_argument("--settings", type=Path, default=Path(default) if default else None, metavar="FILE",
                         help="the settings of the service")
    command.add_argument("--days", type=float, default=365.0, metavar="DAYS", help="verdicts of so many days (365)")
    command.add_argument("--csv", type=Path, metavar="FILE",
                         help="write every verdict with its Study Instance UID, finding and digest of the model; no name of "
                              "a patient or reader, no note; must not be there yet")
    command.set_defaults(run=_feedback)


def _feedback(asked: argparse.Namespace) -> int:
    database = Database(load(asked.settings).database_url)
    try:
        with database.reading() as session:
            judged = judged_since(session, time.time() - asked.days * _DAY_S)
    finally:
        database.close()
    if asked.csv is not None:
        with asked.csv.open("x", encoding="utf-8", newline="") as file:
            write_csv(judged, file)
        print(f"{asked.csv}: {len(judged)} verdicts. {DISCLAIMER}")  # noqa: T201
        return 0
    show(latest(judged), Console(file=sys.stdout))
    return 0


def write_csv(judged: Sequence[Judged], file: TextIO) -> None:
    """Write verdicts as CSV (RFC 4180), oldest first, with the head `COLUMNS`; given_at in UTC."""
    rows = csv.writer(file)
    rows.writerow(COLUMNS)
    for one in judged:
        given_at = datetime.fromtimestamp(one.at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        said = vars(one) | {"given_at": given_at}
        rows.writerow([_plain(str(said[name])) for name in COLUMNS])


def show(judged: Sequence[Judged], console: Console) -> None:
    """Print the tables. judged: see `latest`."""
    if not judged:
        console.print(f"No finding has been judged yet. {DISCLAIMER}")
        return
    for title, group in (("model", lambda one: ""), ("scanner", lambda one: one.scanner or "not named"),
                         ("sender", lambda one: one.sender or "not known")):
        table = Table("model", "finding", *([title] if title != "model" else []), title=f"Agreed with, by {title}")
        for name in ("judged", "agreed", "predictive value", "95 % interval"):
            table.add_column(name, justify="right")
        for (model, finding, of), value in predictive_values(judged, group).items():
            low, high = value.interval
            table.add_row(model, finding, *([of] if title != "model" else []), str(value.judged), str(value.agreed),
                          f"{value.ratio or 0:.2f}", f"{low:.2f} to {high:.2f}")
        console.print(table)
    for (model, finding), count in missed(judged).items():
        console.print(f"{model}: {finding} was found by readers in {count} studies where the model called it absent")
    console.print(f"Only findings that a reader judged count, the newest verdict on each. {DISCLAIMER}")


def _plain(text: str) -> str:
    """Return a cell that no spreadsheet takes for a formula: some of it was written by a sender."""
    return f"'{text}" if text[:1] in ("=", "+", "@", "\t", "\r") or (text[:1] == "-" and not text[1:2].isdigit()) else text
