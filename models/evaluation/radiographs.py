"""The radiographs of a data folder: `cxr/labels.csv`, its images, and the lung masks that some of them have."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from models.evaluation.problems import Problems
from service.domain.labels import COLUMN_OF_CODE
from service.domain.manifest import Manifest, Output

BANDS = ((0, 17), (18, 39), (40, 59), (60, 79), (80, 150))
LABELS = {"": None, "0": False, "1": True, "0.0": False, "1.0": True}
SUBGROUPS = ("sex", "age", "view", "population")
Label = bool | None
RADIOGRAPHS = "radiographs"


@dataclass(frozen=True)
class Radiograph:
    """One row that can be used.

    labels: one for each output of the bundle, None where not labelled; group: what may not be torn apart, a patient or
    near-duplicates; traits: source, sex, age (a band), view and population, empty where unknown.
    """

    path: Path
    name: str
    group: str
    labels: tuple[Label, ...]
    traits: dict[str, str]
    lung_mask: Path | None
    part: str = RADIOGRAPHS


def columns_of(outputs: Sequence[Output], header: Sequence[str]) -> list[str | None]:
    """Return the column of labels.csv for each output of a bundle, by its name or else by its code; None: no column."""
    by_name = {name.lower(): name for name in header}
    by_code = [COLUMN_OF_CODE.get(o.code, "") if o.code else "" for o in outputs]
    return [by_name.get(o.name.lower()) or by_name.get(column.lower())
            for o, column in zip(outputs, by_code, strict=True)]


def read_rows(data: Path, problems: Problems) -> list[dict[str, str]]:
    """Read `cxr/labels.csv`; empty, and noted as absent, where there is none or it has no column `file`."""
    path = data / "cxr" / "labels.csv"
    if not path.is_file():
        problems.absent.append("cxr/labels.csv")
        return []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [{k: (v or "").strip() for k, v in row.items() if isinstance(k, str)} for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        problems.skip("cxr/labels.csv", f"unreadable table: {type(error).__name__}")
        return []
    if rows and "file" not in rows[0]:
        problems.skip("cxr/labels.csv", "the table has no column `file`")
        return []
    return rows


def read_radiographs(
    data: Path, rows: Sequence[dict[str, str]], manifest: Manifest, problems: Problems,
    outputs: Sequence[Output] | None = None,
) -> list[Radiograph]:
    """Turn rows of labels.csv into radiographs; a row with a missing file or an unknown label is noted and skipped.

    outputs: those that have a label, all of the manifest's where None.
    """
    wanted = manifest.outputs if outputs is None else outputs
    columns = columns_of(wanted, list(rows[0])) if rows else []
    for output, column in zip(wanted, columns, strict=False):
        if column is None:
            problems.skip("cxr/labels.csv", f"no column for the output: {output.name}")
    images, groups = [], joined(rows)
    for row, group in zip(rows, groups, strict=True):
        name = row["file"] or "(a row without a file)"
        given = [row.get(column, "") if column else "" for column in columns]
        if wrong := [f"{c} is {v!r}" for c, v in zip(columns, given, strict=True) if v not in LABELS]:
            problems.skip(name, f"unknown label: {', '.join(wrong)}")
        elif not row["file"] or not (data / "cxr" / row["file"]).is_file():
            problems.skip(name, "missing file")
        else:
            mask = row.get("lung_mask", "")
            images.append(Radiograph(
                data / "cxr" / row["file"], name, group, tuple(LABELS[v] for v in given),
                {"source": row.get("source", ""), **{t: row.get(t, "") for t in SUBGROUPS},
                 "age": band(row.get("age", ""), name, problems)},
                data / "cxr" / mask if mask else None,
            ))
    return images


def joined(rows: Sequence[dict[str, str]]) -> list[str]:
    """Return the group of each row: rows that share a patient or a group belong together, through others as well.

    A row with neither is a group of its own.
    """
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    names = []
    for place, row in enumerate(rows):
        known = [f"{key} {row[key]}" for key in ("patient", "group") if row.get(key)] or [f"row {place}"]
        parent[root(known[0])] = root(known[-1])
        names.append(known[-1])
    return [root(name) for name in names]


def band(age: str, name: str, problems: Problems) -> str:
    """Return the band of an age in years, such as "40-59"; empty where unknown or not an age (noted)."""
    if not age:
        return ""
    try:
        years = int(float(age))
    except ValueError:
        years = -1
    for low, high in BANDS:
        if low <= years <= high:
            return f"{low}+" if low == BANDS[-1][0] else f"{low}-{high}"
    problems.skip(name, f"not an age, image kept: {age!r}")
    return ""
