"""`firstlook simulate`: what the order of this service would change in a department, by simulation."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from dataclasses import astuple
from pathlib import Path

from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from service import DISCLAIMER
from service.infer.catalogue import Catalogue
from service.operating import MOST_STUDIES, as_served, past_of, publish
from service.settings import Settings, load
from service.simulate.as_json import as_json
from service.simulate.department import Department, example_department
from service.simulate.department_file import read_department
from service.simulate.effect import Effect, Length, NothingArrived, Source, simulate
from service.simulate.groups import ALL, TOLD
from service.simulate.intervals import Estimate
from service.simulate.reading import Policy
from service.simulate.replay import TooLittleHistory, replayed, require_enough, widened
from service.simulate.report import report
from service.simulate.textbook import CASES, QUANTITIES, radiographs, simulate_case
from service.store.database import Database
from service.store.history import passages

_EPILOG = f"""
examples:
  firstlook simulate                                     the example department, with the bundles in use
  firstlook simulate --department department.toml        yours; deploy/department.example.toml is one to edit
  firstlook simulate --history --publish                 this service's own studies; shown on its page /effect
  firstlook simulate --check                             the simulation against exact results
  firstlook simulate --json --seed 7 > effect.json

first come: by arrival. flag only: the same, with a flag beside the study. as ordered: by ordered urgency, without AI.
our order: by ordered urgency, raised by AI, with a cap on the wait; it is also shown without the cap.
{DISCLAIMER}
"""


def add_simulate(parser: argparse.ArgumentParser) -> None:
    """Add the options of `firstlook simulate`."""
    parser.formatter_class, parser.epilog = argparse.RawDescriptionHelpFormatter, _EPILOG
    parser.description = "Who waits how long, under which order of the reading list: a simulation, with 95 % intervals."
    default = os.environ.get("FIRSTLOOK_SETTINGS")
    parser.add_argument("--settings", type=Path, default=Path(default) if default else None, metavar="FILE",
                        help="the service's settings: bundles in use, quiet times, targets, cap")
    parser.add_argument("--department", type=Path, metavar="FILE", help="TOML file of the department (an example if none)")
    parser.add_argument("--history", action="store_true",
                        help="replay this service's own studies from its database in place of drawn ones")
    parser.add_argument("--days", type=_whole(1), default=90, metavar="N", help="with --history: the last N days (90)")
    parser.add_argument("--publish", action="store_true", help="show the result beside what is measured, on /effect")
    parser.add_argument("--check", action="store_true", help="simulate cases with known results instead, and compare")
    parser.add_argument("--replications", type=_whole(2), default=Length.replications, metavar="N",
                        help=f"independent replications, 2 at least ({Length.replications})")
    parser.add_argument("--weeks", type=_whole(1), default=Length.weeks, metavar="N",
                        help=f"weeks counted in each ({Length.weeks}), after one of warm-up")
    parser.add_argument("--seed", type=_whole(0), default=1, metavar="N", help="the same seed gives the same result (1)")
    parser.add_argument("--html", type=Path, default=None, metavar="FILE",
                        help="where the report goes (effect.html; with --json none unless named)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=_run)


def _whole(least: int) -> type[int]:
    def number(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"{value} is below {least}")
        return value

    number.__name__ = "whole number"
    return number  # type: ignore[return-value]


def _run(asked: argparse.Namespace) -> int:
    if asked.check:
        return _check(asked.seed, asked.replications)
    settings = load(asked.settings)
    department = read_department(asked.department) if asked.department else example_department()
    department, notes = as_served(department, settings, Catalogue.load(settings.infer.models_dir))
    length = Length(asked.replications, asked.weeks)
    try:
        effect = (_replayed(department, length, asked, settings) if asked.history
                  else _simulated(department, length, asked.seed))
    except (TooLittleHistory, NothingArrived) as error:
        print(f"firstlook: {error}", file=sys.stderr)  # noqa: T201
        return 1
    if asked.publish:
        publish(settings, {"notice": DISCLAIMER, "made_at": time.time(), "command": _command(asked), **as_json(effect)})
    if asked.html or not asked.json:
        page = report(effect, DISCLAIMER, [*notes, *_warnings(department)], _command(asked))
        (asked.html or Path("effect.html")).write_text(page, encoding="utf-8")
    if asked.json:
        print(json.dumps({"notice": DISCLAIMER, "notes": notes, **as_json(effect)}, indent=1))  # noqa: T201
        return 0
    console = Console()
    for table in (_waits_table(effect), _notification_table(effect)):
        console.print(table)
    for note in (*notes, *_warnings(effect.department)):
        console.print(f"note: {note}", style="yellow", highlight=False)
    console.print(f"report: {asked.html or 'effect.html'}", highlight=False)
    return 0


def _simulated(department: Department, length: Length, seed: int, source: Source | None = None, history: str = "") -> Effect:
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as shown:
        task = shown.add_task("simulating", total=length.replications)
        return simulate(department, length, seed, source, history, lambda done: shown.update(task, completed=done))


def _replayed(department: Department, length: Length, asked: argparse.Namespace, settings: Settings) -> Effect:
    """Replay the last days of the database. Raises: TooLittleHistory."""
    database = Database(settings.database_url)
    try:
        with database.reading() as session:
            past = past_of(passages(session, time.time() - asked.days * 86400, MOST_STUDIES))
    finally:
        database.close()
    require_enough(past)
    told = (f"the {past.arrived_s.size} studies of this service's last {past.days:.0f} days, replayed {length.replications} "
            "times with other reading times; arrivals, orders and AI results are as they were")
    department = widened(department, past)
    return _simulated(department, length, asked.seed, replayed(past, department), told)


def _command(asked: argparse.Namespace) -> str:
    """Return the command that makes this result again, with the names of files but not their folders."""
    files = "".join(f" --{name} {path.name}" for name in ("settings", "department") if (path := getattr(asked, name)))
    files += f" --history --days {asked.days}" if asked.history else ""
    return f"firstlook simulate{files} --replications {asked.replications} --weeks {asked.weeks} --seed {asked.seed}"


def _warnings(department: Department) -> list[str]:
    if department.load < 0.98:
        return []
    return [f"the readers cannot keep up: {department.load:.0%} of their time is asked for; waits grow with the weeks"]


def _waits_table(effect: Effect) -> Table:
    about = (f"{effect.department.name}: {effect.studies} studies, readers busy {effect.department.load:.0%}; "
             f"95 % intervals over {effect.length.replications} replications. {DISCLAIMER}")
    table = Table("wait until read, minutes", "studies", *(p.called for p in Policy), title="Mean wait (and the longest)",
                  caption=about, box=box.SIMPLE_HEAD)
    for row in effect.rows:
        cells = (f"{_minutes(row.waits[p].mean)} ({row.waits[p].longest.value / 60:.0f})" for p in Policy)
        table.add_row(row.name, str(row.studies), *cells, style="bold" if row.name in (ALL, TOLD) else "")
    return table


def _minutes(estimate: Estimate) -> str:
    half = (estimate.high - estimate.low) / 120
    return f"{estimate.value / 60:.1f}" + ("" if math.isnan(half) else f" ± {half:.1f}")


def _notification_table(effect: Effect) -> Table:
    table = Table("last image to result, seconds", "studies", "mean", "95 %", "wait for a model", "passed, each",
                  title="The models' queue", box=box.SIMPLE_HEAD)
    for n in effect.notifications:
        table.add_row(f"{n.modality} {n.urgency}", str(n.studies), f"{n.to_result.value:.1f}",
                      f"{n.to_result_p95.value:.1f}", f"{n.queue_wait.value:.2f}", f"{n.passed.value:.4f}")
    return table


def _check(seed: int, replications: int) -> int:
    """Simulate the cases that are known; 0 when every interval holds its value.

    48 values are compared, so each interval is wide enough that all hold together in 95 of 100 runs (Bonferroni).
    """
    console, missed = Console(), 0
    table = Table("minutes", *QUANTITIES, title="Exact, and simulated", caption=DISCLAIMER, box=box.SIMPLE_HEAD)
    together = 1 - 0.05 / (len(CASES) * len(QUANTITIES))
    for case in CASES:
        exact, found = astuple(case.exact()), simulate_case(case, 15000, replications, seed, together)
        missed += sum(not one.holds(value) for value, one in zip(exact, found, strict=True))
        table.add_row(case.name, *(f"{value:.3f}\n{one.value:.3f} ± {(one.high - one.low) / 2:.3f}"
                                   f"{'' if one.holds(value) else '  MISSED'}"
                                   for value, one in zip(exact, found, strict=True)))
    console.print(table)
    cap = simulate(radiographs(), Length(10, 4, 1), seed).row("pneumothorax").waits
    console.print("Radiographs with a pneumothorax, minutes: mean and longest wait", *(
        f"  {p.called:<18}{cap[p].mean.value / 60:8.1f}{cap[p].longest.value / 60:8.0f}"
        for p in (Policy.FIFO, Policy.UNCAPPED, Policy.OURS)), sep="\n", highlight=False)
    needed = cap[Policy.OURS].longest.value < cap[Policy.UNCAPPED].longest.value > cap[Policy.FIFO].longest.value
    console.print("all as it should be" if needed and not missed else f"{missed} values missed; the cap: {needed}")
    return 0 if needed and not missed else 1
