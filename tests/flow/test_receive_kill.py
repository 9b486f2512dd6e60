"""What was acknowledged survives a kill in the middle of sending."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from sqlmodel import select

from service.store.tables import Instance
from tests import builders
from tests.peers import CALLING, FAST_PATH, Link, Raw, listening, wait_until

KILL_AFTER = 20


@pytest.fixture(params=["true", "false"], ids=["fast", "plain"], autouse=True)
def both_paths(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test is run with the fast path and without."""
    monkeypatch.setenv(FAST_PATH, request.param)


def serve(folder: Path) -> None:
    """Listen in a process of its own, that is to be killed."""
    with listening(folder) as station:
        (folder / "port.part").write_text(str(station.port))
        (folder / "port.part").rename(folder / "port")
        threading.Event().wait()


@pytest.mark.parametrize("delay_s", [0.0, 0.003, 0.011])
def test_everything_acknowledged_is_there_after_a_kill(tmp_path: Path, delay_s: float):
    raws = {r.sop_instance_uid: r for r in map(Raw.of, builders.ct_series(slices=200, size=64))}
    acknowledged: list[str] = []
    began = time.time()
    process = subprocess.Popen([sys.executable, "-m", "tests.flow.test_receive_kill", str(tmp_path)])
    try:
        port = int(wait_until(lambda: (tmp_path / "port").exists() and (tmp_path / "port").read_text()))
        link = Link(port, [(CTImageStorage, ExplicitVRLittleEndian)])
        sender = threading.Thread(target=send_all, args=(link, list(raws.values()), acknowledged))
        sender.start()
        wait_until(lambda: len(acknowledged) >= KILL_AFTER)
        until = time.perf_counter() + delay_s  # another point of the next store each time
        wait_until(lambda: time.perf_counter() >= until)
    finally:
        process.kill()
        process.wait()
        killed = time.time()
    sender.join(60)
    link.close()
    assert KILL_AFTER <= len(acknowledged) < len(raws)
    with listening(tmp_path) as station:
        with station.database.reading() as session:
            rows = {row.sop_instance_uid: row for row in session.exec(select(Instance))}
        assert set(acknowledged) <= set(rows)
        assert {row.calling_aet for row in rows.values()} == {CALLING}
        assert all(began <= row.received_at <= killed for row in rows.values())
        for uid, row in rows.items():
            file = station.spool.locate(row.path)
            assert file.read_bytes().endswith(raws[uid].data)
            assert pydicom.dcmread(file).SOPInstanceUID == uid
        assert sorted(station.spool.files()) == sorted(row.path for row in rows.values())
        assert list(station.spool.root.rglob("*.part")) == []


def send_all(link: Link, raws: list[Raw], acknowledged: list[str]) -> None:
    """Send until the other side is gone, noting what was answered with success."""
    for raw in raws:
        if not link.association.is_established or link.store(raw) != 0:
            return
        acknowledged.append(raw.sop_instance_uid)


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
