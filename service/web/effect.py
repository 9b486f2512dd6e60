"""The page /effect: what the service measured of its own order, and what a simulation expects, side by side."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse

from service.domain.urgency import Urgency
from service.simulate.queue import overtakes
from service.simulate.reading import Policy
from service.store.database import Database
from service.store.history import Passage, passages
from service.web.page import RESEARCH_USE, Pages

WINDOW_S = 7 * 86400.0
MOST_STUDIES = 2000


@dataclass(frozen=True)
class Notified:
    """Last image to result, seconds, of one kind, ordered urgency and bundle; expected: [mean, low, high], None: unknown."""

    kind: str
    urgency: str
    bundle: str
    studies: int
    median_s: float
    p95_s: float
    expected_s: list[float | None] | None
    expected_p95_s: float | None


@dataclass(frozen=True)
class Waited:
    """The models' queue for one ordered urgency: wait, seconds; passed: less urgent jobs overtaken, of 1000 claims."""

    urgency: str
    studies: int
    median_s: float
    p95_s: float
    passed: float
    expected_s: float | None
    expected_passed: float | None


def add_effect(app: FastAPI, database: Database, clock: Callable[[], float], pages: Pages, expectation: Path | None) -> None:
    """Add /effect and /api/effect. expectation: the file that `firstlook simulate --publish` writes, None: nowhere."""

    def read() -> dict[str, Any]:
        now = clock()
        with database.reading() as session:
            seen = passages(session, now - WINDOW_S, MOST_STUDIES, bundles=True)
        expected, problem = expected_of(expectation)
        return {"studies": len(seen), "notified": notified(seen, expected), "waited": waited(seen, expected),
                "expected": expected, "problem": problem, "now": now}

    @app.get("/effect", response_class=HTMLResponse, include_in_schema=False)
    def effect_page(request: Request) -> HTMLResponse:
        return pages.answer(request, "effect.html", policies=list(Policy), days=round(WINDOW_S / 86400), **read())

    @app.get("/api/effect")
    def effect_json() -> dict[str, Any]:
        """Return what was measured in the last seven days (of the newest 2000 studies), and what was simulated."""
        found = read()
        return {"notice": RESEARCH_USE, "at": found["now"], "studies": found["studies"], "problem": found["problem"],
                "notified": [asdict(row) for row in found["notified"]],
                "waited": [asdict(row) for row in found["waited"]], "expected": found["expected"]}


def expected_of(path: Path | None) -> tuple[dict[str, Any] | None, str]:
    """Read the published simulation. Returns None and a sentence where there is none, or where it cannot be read."""
    if path is None or not path.is_file():
        return None, "No simulation is published yet."
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        whole = isinstance(found["made_at"], float) and isinstance(found["department"]["name"], str) and all(
            {"kind", "urgency", "studies", "to_result", "to_result_p95", "queue_wait", "passed"} <= set(row)
            for row in found["notification_s"]) and all(
            {"group", "studies", *(p.value for p in Policy)} <= set(row) for row in found["waits_min"])
    except (OSError, ValueError, KeyError, TypeError):
        whole = False
    return (found, "") if whole else (None, "The published simulation cannot be read; publish it anew.")


def notified(seen: Sequence[Passage], expected: dict[str, Any] | None) -> list[Notified]:
    """Return a row for each kind, urgency and bundle that had a result, with what was expected of it."""
    told = {(row["kind"], row["urgency"]): row for row in (expected or {}).get("notification_s", ())}
    times: dict[tuple[str, int, str], list[float]] = defaultdict(list)
    for one in seen:
        if one.to_notification_s is not None:
            times[one.kind, one.urgency.rank, one.bundle].append(one.to_notification_s)
    rows = []
    for (kind, rank, bundle), values in sorted(times.items()):
        urgency = list(Urgency)[rank].value
        row = told.get((kind, urgency))
        rows.append(Notified(
            kind, urgency, bundle, len(values), float(np.quantile(values, 0.5)), float(np.quantile(values, 0.95)),
            row["to_result"] if row else None, row["to_result_p95"][0] if row else None))
    return rows


def waited(seen: Sequence[Passage], expected: dict[str, Any] | None) -> list[Waited]:
    """Return a row for each urgency that was claimed; expectations are means over the kinds, by their studies."""
    claimed = [(one, one.queued_at, one.started_at) for one in seen]
    known = [(one.urgency.rank, queued, started) for one, queued, started in claimed
             if queued is not None and started is not None]
    if not known:
        return []
    rank, queued, started = (np.array(column, np.float64) for column in zip(*known, strict=True))
    passed, wait = overtakes(queued, started, rank.astype(np.int64)), np.maximum(started - queued, 0.0)
    rows = []
    for urgency in Urgency:
        mine = rank == urgency.rank
        if mine.any():
            rows.append(Waited(
                urgency.value, int(mine.sum()), float(np.quantile(wait[mine], 0.5)), float(np.quantile(wait[mine], 0.95)),
                1000 * float(passed[mine].mean()), _over_kinds(expected, urgency, "queue_wait"),
                _times(1000, _over_kinds(expected, urgency, "passed"))))
    return rows


def _over_kinds(expected: dict[str, Any] | None, urgency: Urgency, name: str) -> float | None:
    rows = [row for row in (expected or {}).get("notification_s", ())
            if row["urgency"] == urgency.value and row[name][0] is not None]
    studies = sum(r["studies"] for r in rows)
    return sum(r[name][0] * r["studies"] for r in rows) / studies if studies else None


def _times(factor: float, value: float | None) -> float | None:
    return None if value is None else factor * value
