"""What the fast path promises: no polling, nothing decoded twice, the same rows as without it."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from sqlmodel import select

from service.app import App
from service.receive.fast import FastServer
from service.settings import load
from service.store.tables import Instance, Study
from tests import builders
from tests.benchmarks import ingest
from tests.peers import HOST, Link, Raw, listening, missing, store, wait_until

RAWS = [Raw.of(ds) for ds in builders.ct_series(slices=5, size=32)]
CONTEXTS = [(RAWS[0].sop_class_uid, RAWS[0].transfer_syntax_uid)]
FRESH = {"id", "study_id", "path", "received_at"}


def test_open_associations_that_say_nothing_cost_nothing(tmp_path: Path):
    """Each polling thread would wake a thousand times a second: two of ten associations, a third of a core and more."""
    with listening(tmp_path, fast_path=True) as station, ExitStack() as stack:
        for _ in range(10):
            connection, _ = ingest.associate(station.port)
            stack.enter_context(connection)
        wait_until(lambda: station.counted("firstlook_associations_open") == 10)
        began, used = time.monotonic(), time.process_time()
        wait_until(lambda: time.monotonic() > began + 1.0)
        assert time.process_time() - used < 0.15


@pytest.mark.parametrize("fast_path", [True, False])
def test_rows_and_files_are_the_same_on_both_paths(tmp_path: Path, fast_path: bool):
    with listening(tmp_path, fast_path=fast_path) as station:
        assert store(station.port, *RAWS, RAWS[0]) == [0] * 6
        with station.database.reading() as session:
            rows = [r.model_dump(exclude=FRESH) for r in session.exec(select(Instance).order_by(Instance.id))]
            [study] = session.exec(select(Study))
        assert [row["sop_instance_uid"] for row in rows] == [raw.sop_instance_uid for raw in RAWS]
        assert [row["size_bytes"] for row in rows] == [len(raw.data or b"") for raw in RAWS]
        assert {row["header"]["transfer_syntax_uid"] for row in rows} == {RAWS[0].transfer_syntax_uid}
        assert study.last_received_at >= study.receiving_since_at >= study.first_received_at
        assert len(list(station.spool.files())) == 5


def test_one_association_after_the_other_leaves_no_open_file(tmp_path: Path):
    with listening(tmp_path, fast_path=True) as station:
        store(station.port, RAWS[0])
        wait_until(lambda: station.counted("firstlook_associations_open") == 0)
        before = open_files()
        for number in range(5):
            store(station.port, replace(RAWS[0], data=b"x" * 50), RAWS[number])
        wait_until(lambda: station.counted("firstlook_associations_open") == 0)
        wait_until(lambda: open_files() <= before)


def test_a_caller_that_leaves_without_a_word_is_forgotten_at_once(tmp_path: Path):
    before = set(threading.enumerate())
    with listening(tmp_path, fast_path=True, association_timeout_s=60.0) as station:
        with socket.create_connection((HOST, station.port)):
            wait_until(lambda: acceptors(before))
        wait_until(lambda: not acceptors(before), timeout_s=5.0)


def acceptors(before: set[threading.Thread]) -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t not in before and t.name.startswith("AcceptorThread")]


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_an_image_in_pieces_larger_than_the_buffer_arrives(tmp_path: Path):
    large = Raw.of(builders.ct_series(slices=1, size=1024)[0])
    with listening(tmp_path, fast_path=True) as station, Link(station.port, CONTEXTS) as link:
        assert link.store(large) == 0
        [path] = station.spool.files()
        assert station.spool.locate(path).read_bytes().endswith(large.data or b"-")


@pytest.mark.parametrize("fast_path", [True, False])
def test_the_setting_decides_the_path(tmp_path: Path, fast_path: bool):
    settings = load(None, {"FIRSTLOOK_STORE__DATA_DIR": str(tmp_path), "FIRSTLOOK_RECEIVE__PORT": "0",
                           "FIRSTLOOK_RECEIVE__FAST_PATH": str(fast_path).lower()})
    app = App(settings, ("listen",))
    app.start()
    try:
        assert app.listener is not None
        assert isinstance(app.listener._servers[0], FastServer) is fast_path
    finally:
        app.stop()


@pytest.mark.alone
@pytest.mark.peer
def test_the_benchmark_runs(capsys: pytest.CaptureFixture[str]):
    if not Path(ingest.STORESCP).exists():
        missing("DCMTK")
    assert ingest.main(["--quick", "--rows", "b"]) == 0
    assert "C-ECHO" in capsys.readouterr().out
