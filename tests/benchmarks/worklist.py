"""What the list costs with many studies: python -m tests.benchmarks.worklist [--quick]

Each row is the list of 200 studies drawn by the server (queries, words, HTML; one process), over the bare query that
brings 200 studies of the same days with every column from SQLite, without anything around it. 100,000 studies of a year are
in the database. Ends with 1 when a ratio exceeds its limit.
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

import httpx
from sqlalchemy import insert

from service.domain.order import ReadingOrder
from service.domain.urgency import Urgency
from service.metrics import Metrics
from service.store.database import Database
from service.store.tables import Study, found_in
from service.web.app import WebStyle, create_app
from tests.browser import seed

NOW = 1_767_400_000.0
YEAR_S, DAY_S = 365 * 86400.0, 86400.0
ROWS = 200
LIMIT = 40.0
"""Of the ratio: drawing is Python and HTML, the bare query is C."""
BARE = ("SELECT * FROM study WHERE (completed_at IS NULL OR completed_at >= :since) AND last_received_at >= :since AND "
        "(read_at IS NULL OR last_received_at > read_at) ORDER BY +reading_rank, first_received_at, id LIMIT 200")
VIEWS = (("the list", "", ""), ("one finding", "finding=pneumonia", ""), ("30 days", "hours=720", ""),
         ("30 days, a search", "hours=720", "chest okafor"), ("30 days, what is read", "hours=720&shown=read", ""))

tell = partial(print, flush=True)


def fill(database: Database, studies: int) -> None:
    """Put studies into an empty database, spread evenly over a year until now; two of three are read."""
    random, made = Random(1), []
    names = ("Okafor^Ngozi", "Tanaka^Hiroshi", "Moreau^Jean", "Rossi^Giulia")
    for number in range(1, studies + 1):
        age_s = YEAR_S * (studies - number) / studies
        found = seed.finding(random.choice(("pneumonia", "effusion")), random.random(), bundle="cxr-findings")
        others = [seed.finding(f"finding_{k}", 0.3 * random.random(), bundle="cxr-findings") for k in range(13)]
        study = seed.study(
            number, NOW, age_s, "assessed", reading=random.choice(list(Urgency)), patient_name=random.choice(names),
            completed_at=NOW - age_s + 50, assessed_at=NOW - age_s + 60, summary=seed.summary(found, *others),
            read_at=NOW - age_s + 3600 if number % 3 else None, read_rank=0, read_by="anna", delivery="delivered",
            study_description="Chest PA and lateral", modality="DX")
        values = study.model_dump(exclude={"id"})
        made.append(values | {"found": found_in(study.summary)})
        if len(made) == 2000 or number == studies:
            with database.transaction() as session:
                session.connection().execute(insert(Study), made)
            made = []


def milliseconds(do: Callable[[], object], rounds: int) -> float:
    """Return the median time of doing something, after one time that does not count."""
    do()
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        do()
        times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times)


def main() -> int:
    """Measure and print; return 1 when something exceeds its limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer studies and rounds; nothing is judged")
    quick = parser.parse_args().quick
    studies, rounds, late = (2000, 1, False) if quick else (100_000, 15, False)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "many.db"
        database = Database(f"sqlite:///{file}")
        database.migrate()
        fill(database, studies)
        style = WebStyle(limit=ROWS, order=ReadingOrder(8 * 3600.0), window_s=2 * DAY_S)
        app = create_app(database, Metrics(), lambda: NOW, style, tuple, Path(folder))
        bare = sqlite3.connect(file)
        tell(f"{studies} studies, {file.stat().st_size / 1e6:.0f} MB")
        with asyncio.Runner() as runner:
            client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")

            async def asked(query: str, text: str) -> None:
                answer = await (client.post(f"/rows?{query}", data={"text": text}) if text else client.get(f"/rows?{query}"))
                assert answer.status_code == 200, answer.text

            def draw(query: str, text: str) -> None:
                runner.run(asked(query, text))

            def read_bare(since: float) -> None:
                bare.execute(BARE, {"since": since}).fetchall()

            for name, query, text in VIEWS:
                since = NOW - (30 if "720" in query else 2) * DAY_S
                drawn_ms = milliseconds(partial(draw, query, text), rounds)
                bare_ms = milliseconds(partial(read_bare, since), rounds)
                late |= drawn_ms / bare_ms > LIMIT
                tell(f"{name:<22} drawn {drawn_ms:7.1f} ms, bare query {bare_ms:6.2f} ms, ratio {drawn_ms / bare_ms:5.1f}")
            runner.run(client.aclose())
        bare.close()
        database.close()
    return int(late and not quick)


if __name__ == "__main__":
    raise SystemExit(main())
