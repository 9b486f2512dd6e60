"""`firstlook models retrain-set`: what readers judged and corrected, as a folder that training and measuring read."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from service import DISCLAIMER
from service.retrain import write_set
from service.settings import load
from service.store.database import Database


def add_retrain(commands: Any, with_settings: Callable[[argparse.ArgumentParser], argparse.ArgumentParser]) -> None:
    """Add the command to `firstlook models`."""
    told = "what readers judged and corrected, as a folder that evaluate, compare and train read"
    command = with_settings(commands.add_parser("retrain-set", help=told, description=(
        f"Write {told}: radiographs with labels, slices of CT whose segmentation a person corrected. Patients and studies "
        "get names that mean nothing elsewhere. Burnt-in text is not looked for: look through the pictures.")))
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="must not be there yet")
    command.add_argument("--days", type=float, default=365.0, metavar="DAYS", help="what was judged in so many days (365)")
    command.set_defaults(run=_retrain_set)


def _retrain_set(asked: argparse.Namespace) -> int:
    settings = load(asked.settings)
    database = Database(settings.database_url)
    try:
        written = write_set(settings, database, asked.out.resolve(), time.time() - asked.days * 86400)
    finally:
        database.close()
    print(f"{asked.out}: {written.radiographs} radiographs; {written.slices} slices of {written.cases} CT. "  # noqa: T201
          f"{DISCLAIMER}")
    for why, number in sorted(written.left_out.items()):
        print(f"  left out: {number} studies: {why}")  # noqa: T201
    return 0 if written.radiographs or written.cases else 1
