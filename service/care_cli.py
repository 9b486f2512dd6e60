"""The commands of those who run the service: backup, restore, doctor."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from service.backup import back_up, restore
from service.doctor import pack
from service.settings import Settings, load
from service.web.health import Check


def add_care(commands: Any, run_checks: Callable[[Settings], Sequence[Check]]) -> None:
    """Add the three commands. run_checks: what `firstlook check` runs."""
    kept = _command(commands, "backup", "one file with database, results and images; the service may run")
    kept.description = "Write one file with the database, the results and the images. It holds patient data."
    kept.add_argument("file", type=Path, metavar="FILE", help="a tar file; must not be there yet")
    kept.add_argument("--without-images", action="store_true", help="leave the received images out: the PACS has them")
    kept.set_defaults(run=_backup)
    back = _command(commands, "restore", "put a backup back into an empty place; the service must not run")
    back.add_argument("file", type=Path, metavar="FILE", help="made by `firstlook backup`, of this release or an older one")
    back.set_defaults(run=_restore)
    asked = _command(commands, "doctor", "a support archive without patient data")
    asked.add_argument("--bundle", type=Path, required=True, metavar="FILE", help="the archive (zip); must not be there yet")
    asked.add_argument("--log", type=Path, metavar="FILE", help="a log of the service; its last lines go in, without UIDs")
    asked.set_defaults(run=lambda a: _doctor(a, run_checks))


def _command(commands: Any, name: str, told: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=told)
    default = os.environ.get("FIRSTLOOK_SETTINGS")
    command.add_argument("--settings", type=Path, default=Path(default) if default else None, metavar="FILE",
                         help="the settings of the service")
    return command


def _backup(asked: argparse.Namespace) -> int:
    settings = load(asked.settings)
    told = back_up(settings.database_url, settings.store.data_dir.resolve(), asked.file.resolve(),
                   images=not asked.without_images)
    print(f"{asked.file}: {told.files} files, {told.size_bytes} bytes, schema {told.revision}. "  # noqa: T201
          "It holds patient data.")
    return 0


def _restore(asked: argparse.Namespace) -> int:
    settings = load(asked.settings)
    told = restore(settings.database_url, settings.store.data_dir.resolve(), asked.file.resolve())
    print(f"{told.files} files put back; the schema was {told.revision} and is up to date")  # noqa: T201
    return 0


def _doctor(asked: argparse.Namespace, run_checks: Callable[[Settings], Sequence[Check]]) -> int:
    settings = load(asked.settings)
    names = pack(settings, asked.bundle, lambda: run_checks(settings), asked.log)
    print(f"{asked.bundle}: {', '.join(names)}")  # noqa: T201
    return 0
