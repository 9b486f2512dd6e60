"""What a year of past jobs costs the queue: python -m tests.benchmarks.queue [--quick] [--postgres URL]

Each row is one thing that the service does all the time, with a million past jobs and 10,000 waiting ones, over the same
thing with a hundred past jobs and a hundred waiting, in the same run: SQLite, and a PostgreSQL of our own where it is
installed. Ends with 1 when a ratio exceeds its limit: what grows with the years is not flat.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from random import Random

from sqlalchemy import insert, text

from service.checks import check_database
from service.domain.job import JobKind, JobState, RetryPolicy
from service.domain.order import ReadingOrder
from service.domain.urgency import Urgency
from service.metrics import Metrics
from service.pipeline.watch import watch
from service.store.database import Database
from service.store.parked import parked as parked_of
from service.store.tables import Job, Study
from service.store.worklist import reading_list
from service.triage.queue import Queue
from tests.unit.test_store_migrations import running_postgres

NOW = 1_767_400_000.0
YEAR_S, DAY_S = 365 * 86400.0, 86400.0
LIMIT = 3.0
"""Of the ratio. A query that reads the past, or all that waits, is a hundred times slower, not three."""
COUNTING, COUNTING_LIMIT = ("gauges", "worklist"), 40.0
"""Of what counts, or places, all that waits: a hundred times as many are there."""
TARGETS = ("pacs", "vna")

tell = partial(print, flush=True)


@dataclass(frozen=True)
class Size:
    """How many jobs are past, and how many wait: half of them for the models, half at a PACS that is away."""

    past: int
    waiting: int


SMALL, LARGE, QUICK = Size(100, 100), Size(1_000_000, 10_000), Size(5_000, 500)


def fill(database: Database, size: Size) -> None:
    """Put studies and jobs into an empty database: the past spread over a year, the waiting ones of today."""
    random = Random(1)
    with database.transaction() as session:
        session.connection().execute(insert(Study), [_study(n, size) for n in range(1, size.past // 10 + size.waiting + 1)])
    for start in range(0, size.past + size.waiting, 20_000):
        rows = [_job(n, size, random) for n in range(start, min(start + 20_000, size.past + size.waiting))]
        with database.transaction() as session:
            session.connection().execute(insert(Job), rows)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))  # what both do by themselves, in time


def _study(number: int, size: Size) -> dict[str, object]:
    past = number <= size.past // 10
    age_s = YEAR_S * number / max(1, size.past // 10) + 3 * DAY_S if past else 3600.0
    state = "assessed" if past else "queued"
    return {"id": number, "study_instance_uid": f"1.2.{number}", "state": state, "kind": "cxr", "modality": "DX",
            "first_received_at": NOW - age_s, "last_received_at": NOW - age_s + 10, "completed_at": NOW - age_s + 20,
            "urgency": "routine", "reading_urgency": "routine", "summary": {}, "patient_id": f"P{number}"}


def _job(number: int, size: Size, random: Random) -> dict[str, object]:
    urgency = random.choice(list(Urgency))
    row: dict[str, object] = {
        "key": f"k{number}", "revision": 1, "urgency": urgency.value, "target": "", "kind": JobKind.INFER.value,
        "failures": 0, "lease_owner": "", "lease_until_at": 0.0, "reason": "", "detail": "", "not_before_at": 0.0}
    if number < size.past:
        at = NOW - YEAR_S * random.random()
        kind = JobKind.INFER if number % 3 == 0 else JobKind.DELIVER
        state = JobState.PARKED if number % 100_000 == 1 else JobState.DONE
        return row | {"study_id": number % max(1, size.past // 10) + 1, "state": state.value, "kind": kind.value,
                      "queued_at": at, "deadline_at": at + 600, "started_at": at + 1, "ended_at": at + 2,
                      "target": "" if kind is JobKind.INFER else TARGETS[number % 2]}
    study = size.past // 10 + number - size.past + 1
    deadline = NOW - 3600 * random.random() + 600
    waits = {"study_id": study, "state": JobState.WAITING.value, "queued_at": NOW - 3600, "deadline_at": deadline,
             "started_at": None, "ended_at": None}
    if number % 2:  # a PACS is away: tried again in some minutes
        waits |= {"kind": JobKind.DELIVER.value, "target": "pacs", "not_before_at": NOW + 600 * random.random() + 1}
    return row | waits


def things(database: Database, folder: Path) -> dict[str, Callable[[], object]]:
    """Return what is measured, by name."""
    queue = Queue(database, lambda: NOW, RetryPolicy(5, 2, 3, 600, 1e6), 60, "here:1:1")
    metrics, numbers = Metrics(), count(1)

    def claim() -> None:
        job = queue.claim(JobKind.INFER)
        assert job is not None
        with database.transaction() as session:
            queue.end(session, job, JobState.DONE)

    def add() -> None:
        with database.transaction() as session:
            queue.insert(session, Job(
                key=f"new{next(numbers)}", kind=JobKind.INFER.value, study_id=1, revision=1, urgency="stat",
                queued_at=NOW, deadline_at=NOW + 120))

    def worklist() -> None:
        with database.reading() as session:
            reading_list(session, 100, NOW, 2 * DAY_S, ReadingOrder(8 * 3600.0))

    def parked() -> None:
        with database.reading() as session:
            parked_of(session, 50)

    return {
        "insert": add, "claim and end": claim, "nothing is due: vna": lambda: queue.claim(JobKind.DELIVER, "vna"),
        "nothing is due: pacs is away": lambda: queue.claim(JobKind.DELIVER, "pacs"),
        "nothing more urgent": lambda: queue.claim(JobKind.INFER, above=Urgency.STAT), "renew leases": queue.renew,
        "leases at start": queue.release_dead_leases, "is the database well": lambda: check_database(database),
        "parked jobs": parked, "worklist": worklist, "gauges": lambda: watch(database, metrics, folder, NOW, TARGETS)}


def milliseconds(pair: tuple[Callable[[], object], Callable[[], object]], rounds: int) -> tuple[float, float]:
    """Return the lower quartile of the times of two things done in turns, so that the machine's other work hits both."""
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 3):
        for do, of in zip(pair, times, strict=True):
            began = time.perf_counter()
            do()
            if number >= 3:
                of.append(1000 * (time.perf_counter() - began))
    small, large = (statistics.quantiles(of, n=4)[0] for of in times)
    return small, large


@contextmanager
def filled(url: str, size: Size) -> Iterator[Database]:
    """Yield a database of a size."""
    database = Database(url)
    database.migrate()
    began = time.perf_counter()
    fill(database, size)
    tell(f"  {size.past} past and {size.waiting} waiting jobs, filled in {time.perf_counter() - began:.0f} s")
    try:
        yield database
    finally:
        database.close()


def compare(kind: str, urls: tuple[str, str], large: Size, rounds: int, folder: Path) -> bool:
    """Measure a small and a large queue and print the ratios; tell whether one exceeds its limit."""
    tell(kind)
    late = False
    with filled(urls[0], SMALL) as few, filled(urls[1], large) as many:
        in_large = things(many, folder)
        for name, do in things(few, folder).items():
            small_ms, large_ms = milliseconds((do, in_large[name]), rounds)
            limit, ratio = COUNTING_LIMIT if name in COUNTING else LIMIT, large_ms / small_ms
            late |= ratio > limit
            tell(f"  {name:<30} small {small_ms:7.2f} ms, large {large_ms:7.2f} ms, ratio {ratio:6.2f}, limit {limit:g}")
    return late


def main() -> int:
    """Measure and print; return 1 when something exceeds its limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer jobs and rounds; nothing is judged")
    quick = parser.parse_args().quick
    large, rounds = (QUICK, 3) if quick else (LARGE, 41)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        late = compare("SQLite", (f"sqlite:///{folder / 'small'}.db", f"sqlite:///{folder / 'large'}.db"), large, rounds,
                       folder)
        if shutil.which("initdb") or list(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
            folder.chmod(0o711)
            with running_postgres(folder / "s") as small, running_postgres(folder / "l") as big:
                late |= compare("PostgreSQL", (small, big), large, rounds, folder)
        else:
            tell("PostgreSQL is not installed: left out")
    return int(late and not quick)


if __name__ == "__main__":
    raise SystemExit(main())
