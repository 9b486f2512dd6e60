"""The commands of those who edit the rules of urgency: print them, and try them on images."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from service.domain.study import Header
from service.domain.urgency import Urgency
from service.errors import BadInstance
from service.pipeline.dry_run import dry_run
from service.pipeline.facts import facts_of
from service.receive.header import read_file_header
from service.settings import load
from service.store.database import Database
from service.triage.rules import RULES, Rule, decide, table_of
from service.triage.rules_file import load_rules, rules_as_toml

_SHOWN = 50


def add_triage(parser: argparse.ArgumentParser) -> None:
    """Add the commands to `firstlook triage`."""
    parser.description = "Rules of urgency on arrival: the table, and what it says of studies."
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    shown = _command(commands, "rules", "print the rules in use as a file to edit, for triage.rules")
    shown.set_defaults(run=_print_rules)
    tried = _command(commands, "explain", "say how urgent studies would be, and which rules say so; nothing is stored")
    tried.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="DICOM files, or folders searched for them")
    tried.add_argument("--rules", type=Path, metavar="FILE", help="rules to try instead of those of the settings")
    tried.add_argument("--from", dest="calling", default="", metavar="AET", help="as if this AE title had sent them")
    tried.add_argument("--hour", type=int, choices=range(24), metavar="0..23", help="as if they came at this hour; else now")
    tried.add_argument("--prior", default="", metavar="FINDING", help="as if an earlier study was flagged for this")
    tried.set_defaults(run=_explain)


    past = _command(commands, "dry-run", "say what other rules would have made of past studies; nothing is changed")
    past.add_argument("file", type=Path, metavar="FILE", help="the rules to try")
    past.add_argument("--days", type=float, default=30.0, metavar="DAYS", help="studies of so many days (30)")
    past.set_defaults(run=_dry_run)


def _command(commands: Any, name: str, told: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(name, help=told, description=told)
    default = os.environ.get("FIRSTLOOK_SETTINGS")
    command.add_argument("--settings", type=Path, default=Path(default) if default else None, metavar="FILE",
                         help="the settings of the service")
    return command


def _print_rules(asked: argparse.Namespace) -> int:
    settings = load(asked.settings).triage
    print(rules_as_toml(load_rules(settings.rules) if settings.rules else RULES), end="")  # noqa: T201
    return 0


def _explain(asked: argparse.Namespace) -> int:
    settings = load(asked.settings).triage
    file = asked.rules or settings.rules
    rules = table_of(settings.emergency_ae_titles, load_rules(file) if file else RULES)
    hour = time.localtime().tm_hour if asked.hour is None else asked.hour
    studies, unread = _studies(asked.paths)
    for path, why in unread:
        print(f"{path}: {why}")  # noqa: T201
    for number, headers in enumerate(studies, 1):
        facts = facts_of(headers, asked.calling, hour, asked.prior)
        decision = decide(facts, rules)
        target_s = settings.target_s(decision.urgency)
        print(f"study {number}, {len(headers)} images, {facts.modality or 'no modality'}: "  # noqa: T201
              f"{decision.urgency.value}, to be looked at within {target_s:g} s: {decision.reason}")
        _print_matched(decision.matched, decision.reason)
    return 0 if studies else 1


def _dry_run(asked: argparse.Namespace) -> int:
    settings = load(asked.settings)
    rules = load_rules(settings.triage.rules) if settings.triage.rules else RULES
    load_rules(asked.file)  # says what is wrong with the name of the file
    database = Database(settings.database_url)
    try:
        found = dry_run(database, asked.file.read_text(encoding="utf-8"), rules, settings.triage.emergency_ae_titles,
                        time.time() - asked.days * 86400)
    finally:
        database.close()
    trial = found.trial
    cut = ", the newest" if found.cut else ""
    print(f"{trial.studies} studies{cut}; {len(found.moved)} would have had another urgency")  # noqa: T201
    for urgency in Urgency:
        print(f"  {urgency.value:<8} {trial.before.get(urgency, 0):>6} now, "  # noqa: T201
              f"{trial.after.get(urgency, 0):>6} with these rules")
    for name, number in trial.fired.items():
        print(f"  {number:>6} matched: {name}")  # noqa: T201
    for study, move in found.moved[:_SHOWN]:
        print(f"{study.study_instance_uid}: {move.before.value} ({move.before_reason}) -> "  # noqa: T201
              f"{move.after.value} ({move.after_reason})")
    if len(found.moved) > _SHOWN:
        print(f"and {len(found.moved) - _SHOWN} more")  # noqa: T201
    return 0


def _print_matched(matched: Sequence[Rule], reason: str) -> None:
    for rule in matched:
        if rule.name != reason:
            print(f"    also: {rule.name} ({rule.urgency.value})")  # noqa: T201


def _studies(paths: Sequence[Path]) -> tuple[list[list[Header]], list[tuple[Path, str]]]:
    """Return the headers of each study, in the order met, and the files that could not be read, with why."""
    found: dict[str, list[Header]] = {}
    unread = []
    for path in paths:
        inside = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in inside:
            try:
                header = read_file_header(file)
            except BadInstance as error:
                unread.append((file, f"not read: {error.detail or error.reason.sentence}"))
            except OSError as error:
                unread.append((file, f"cannot be read ({error.strerror})"))
            else:
                found.setdefault(header.study_instance_uid, []).append(header)
    return list(found.values()), unread
