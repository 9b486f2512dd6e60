"""Evaluations as tables on a terminal and as files."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from models.evaluation import tasks
from models.evaluation.evaluate import Evaluation
from models.evaluation.figures import Figure
from models.evaluation.problems import Problems
from service import DISCLAIMER

ROWS_SHOWN = 20


def show(console: Console, evaluation: Evaluation) -> None:
    """Print the figures of one bundle, part by part."""
    m = evaluation.manifest
    variant = evaluation.variant
    console.print(f"[bold]{escape(m.name)}[/bold] {escape(m.version)}, {variant.precision} {variant.sha256[:12]}: "
                  f"{escape(m.title)}")
    show_figures(console, evaluation.figures)
    if found := tasks.confusion_of(evaluation.scores):
        _show_confusion(console, found)
    show_problems(console, evaluation.problems)
    for note in evaluation.notes:
        console.print(f"- {escape(note)}")
    console.print(DISCLAIMER)


def show_figures(console: Console, figures: list[Figure]) -> None:
    """Print one table for each part and subset."""
    for key in dict.fromkeys((f.part, f.subset.split(" ")[0]) for f in figures):
        table = Table("of", "figure", "value", "95 % interval", "n", "groups", title=f"{key[0]}: {key[1]}")
        for f in (f for f in figures if (f.part, f.subset.split(" ")[0]) == key):
            table.add_row(escape(f.subset), escape(f"{f.name} {f.of}".strip()), f"{f.value:.3f}", interval(f.low, f.high),
                          str(f.n), str(f.groups))
        console.print(table)
    if not figures:
        console.print("No figure could be measured: no usable image, or no class with both positives and negatives.")


def interval(low: float | None, high: float | None) -> str:
    """Return an interval as text."""
    return "none" if low is None or high is None else f"{low:.3f} to {high:.3f}"


def show_problems(console: Console, problems: Problems) -> None:
    """Print what is absent and what was skipped: counts by reason, then the first rows."""
    for part in problems.absent:
        console.print(f"absent, skipped: {escape(part)}")
    for why, count in problems.by_kind().most_common():
        console.print(f"skipped {count}: {escape(why)}")
    for what, why in problems.rows[:ROWS_SHOWN]:
        console.print(f"  {escape(what)}: {escape(why)}")
    if len(problems.rows) > ROWS_SHOWN:
        console.print(f"  and {len(problems.rows) - ROWS_SHOWN} more; --json or --out names them all")


def write_out(folder: Path, evaluation: Evaluation) -> None:
    """Write evaluation.json, evaluation.txt and images.csv (every image with truth and scores) into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "evaluation.json").write_text(json.dumps(evaluation.as_json(), indent=1) + "\n", encoding="utf-8")
    with (folder / "evaluation.txt").open("w", encoding="utf-8") as file:
        show(Console(file=file, width=140), evaluation)
    rows = tasks.of(evaluation.manifest).rows(evaluation.scores)
    with (folder / "images.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else ["image"])
        writer.writeheader()
        writer.writerows(rows)


def _show_confusion(console: Console, found: dict[str, Any]) -> None:
    table = Table("true \\ called", *found["classes"], title=f"confusion, {found['images']} images of one class")
    for name, row in zip(found["classes"], found["rows_true"], strict=True):
        table.add_row(name, *(str(number) for number in row))
    console.print(table)
    console.print(f"{found['without_one_class']} images with no class or several labelled are not in accuracy and confusion")
