"""The department as a TOML file: read and checked; what it does not say is as in the example."""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

from service.domain.urgency import Urgency
from service.simulate.department import ASSUMED, Ai, Department, Detector, Modality, Shape, example_department


class InvalidDepartment(ValueError):
    """A department that cannot be simulated; the text names the file, the key and what is accepted."""


class _Table:
    """One table of the file. Each key is asked for once; `end` refuses those that nobody asked for."""

    def __init__(self, path: Path, name: str, values: Any) -> None:
        if not isinstance(values, dict):
            raise InvalidDepartment(f"{path}: {name or 'the file'} must be a table")
        self._path, self._name, self._values = path, name, values
        self._known: list[str] = []

    def text(self, key: str, default: str) -> str:
        value = self._take(key, default)
        if not isinstance(value, str):
            raise self._refused(key, value, "a text")
        return value

    def choice(self, key: str, default: str, accepted: list[str]) -> str:
        value = self._take(key, default)
        if not isinstance(value, str) or value not in accepted:
            raise self._refused(key, value, ", ".join(accepted))
        return value

    def number(self, key: str, default: float, least: float, most: float, whole: bool = False) -> float:
        value = self._take(key, default)
        if not _is_number(value) or not least <= value <= most or (whole and value != int(value)):
            raise self._refused(key, value, f"a {'whole ' if whole else ''}number from {least:g} to {most:g}")
        return float(value)

    def row(self, key: str, default: tuple[float, ...], length: int, whole: bool = False,
            empty: bool = False) -> tuple[float, ...]:
        value = self._take(key, list(default))
        most = 500 if whole else 1e6
        if (not isinstance(value, list) or len(value) != length or not all(_is_number(v) and 0 <= v <= most for v in value)
                or (whole and any(v != int(v) for v in value)) or (not empty and sum(value) <= 0)):
            rest = "" if empty else ", not all 0"
            raise self._refused(key, value, f"{length} {'whole ' * whole}numbers from 0 to {most:g}{rest}")
        return tuple(float(v) for v in value)

    def shares(self, key: str, default: dict[str, float], names: tuple[str, ...] = ()) -> dict[str, float]:
        value = self._take(key, default)
        if (not isinstance(value, dict) or not all(_is_number(v) and 0 <= v <= 1 for v in value.values())
                or sum(value.values()) > 1 + 1e-9 or (names and set(value) - set(names))):
            of = f": {', '.join(names)}" if names else ""
            raise self._refused(key, value, f"a table of shares in 0..1, 1 in all at most{of}")
        return {name: float(share) for name, share in value.items()}

    def table(self, key: str) -> _Table:
        return _Table(self._path, f"{self._name}.{key}".strip("."), self._take(key, {}))

    def tables(self) -> dict[str, _Table]:
        self._known = list(self._values)
        return {key: _Table(self._path, f"{self._name}.{key}".strip("."), value) for key, value in self._values.items()}

    def has(self, key: str) -> bool:
        self._known.append(key)
        return key in self._values

    def end(self) -> None:
        for key in self._values:
            if key not in self._known:
                close = difflib.get_close_matches(key, self._known, n=1)
                hint = f"did you mean {close[0]!r}? " if close else ""
                where = f"{self._name}.{key}".strip(".")
                known = ", ".join(sorted(set(self._known)))
                raise InvalidDepartment(f"{self._path}: {where}: unknown key; {hint}accepted: {known}")

    def _take(self, key: str, default: Any) -> Any:
        self._known.append(key)
        return self._values.get(key, default)

    def _refused(self, key: str, value: Any, accepted: str) -> InvalidDepartment:
        where = f"{self._name}.{key}".strip(".")
        return InvalidDepartment(f"{self._path}: {where} is {value!r}; accepted: {accepted}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def read_department(path: Path) -> Department:
    """Read and check a department's file.

    Raises: InvalidDepartment when it cannot be read, is not TOML, or a key is unknown or out of range.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidDepartment(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidDepartment(f"{path}: not valid TOML ({error})") from error
    top, base = _Table(path, "", raw), example_department()
    if top.has("modality"):
        modalities = tuple(_modality(name, table, base) for name, table in top.table("modality").tables().items())
    else:
        modalities = base.modalities
    if not modalities:
        raise InvalidDepartment(f"{path}: modality is empty; accepted: a table for each, such as [modality.cxr]")
    readers, ai = top.table("readers"), top.table("ai")
    made = Department(
        name=top.text("name", base.name), modalities=modalities, readers=_readers(readers, base),
        shape=Shape(readers.choice("shape", base.shape.value, list(Shape))),
        spread=readers.number("spread", base.spread, 0, 5),
        flag_noticed=top.number("flag_noticed", base.flag_noticed, 0, 1),
        longest_wait_s=60 * top.number("longest_wait_min", base.longest_wait_s / 60, 0, 1e5),
        ai=Ai(int(ai.number("engines", base.ai.engines, 1, 64, whole=True)),
              ai.number("failure_rate", base.ai.failure_rate, 0, 1)), targets_s=base.targets_s)
    for table in (readers, ai, top):
        table.end()
    return made


def _readers(table: _Table, base: Department) -> tuple[int, ...]:
    week = table.row("by_hour", base.readers[:24], 24, whole=True)
    weekend = table.row("by_hour_weekend", week if table.has("by_hour") else base.readers[-24:], 24, whole=True,
                        empty=True)
    return tuple(int(n) for n in week * 5 + weekend * 2)


def _modality(name: str, table: _Table, base: Department) -> Modality:
    known = next((m for m in base.modalities if m.name == name), Modality(name, 50.0))
    ordered = _ordered(table, "ordered", known.ordered)
    also = ordered if table.has("ordered") and not table.has("ordered_with_condition") else known.ordered_with_condition
    reading_min = table.number("reading_min", known.reading_s / 60, 0.01, 1e4)
    longer_min = reading_min if table.has("reading_min") else known.reading_with_condition_s / 60
    prevalence = table.shares("prevalence", dict(known.prevalence))
    made = replace(
        known, per_weekday=table.number("per_weekday", known.per_weekday, 0, 20000),
        by_hour=table.row("by_hour", known.by_hour, 24), weekend=table.number("weekend", known.weekend, 0, 10),
        ordered=ordered, ordered_with_condition=_ordered(table, "ordered_with_condition", also), prevalence=prevalence,
        reading_s=60 * reading_min,
        reading_with_condition_s=60 * table.number("reading_with_condition_min", longer_min, 0.01, 1e4),
        transfer_s=table.number("transfer_s", known.transfer_s, 0, 1e5),
        compute_s=table.number("compute_s", known.compute_s, 0, 1e5),
        detectors=_assumed(table.table("assumed")) if table.has("assumed") else known.detectors)
    table.end()
    return made


def _ordered(table: _Table, key: str, default: tuple[float, ...]) -> tuple[float, ...]:
    names = tuple(u.value for u in Urgency)
    found = table.shares(key, dict(zip(names, default, strict=True)), names)
    rest = round(max(0.0, 1 - sum(found.values())), 9)
    return tuple(found.get(u.value, 0.0) + rest * (u is Urgency.ROUTINE) for u in Urgency)


def _assumed(table: _Table) -> tuple[Detector, ...]:
    """Read what a site assumes of a finding: it counts only where no bundle in use has measured figures of it."""
    found = []
    for finding, row in table.tables().items():
        asked = row.choice("urgency", Urgency.URGENT.value, list(Urgency))
        found.append(Detector("", finding, row.number("sensitivity", 0.8, 0, 1), row.number("specificity", 0.9, 0, 1),
                              Urgency(asked), ASSUMED))
        row.end()
    return tuple(found)
