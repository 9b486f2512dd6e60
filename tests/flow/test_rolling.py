"""Two listeners behind a real HAProxy are restarted one after the other under load: no association is lost."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage
from sqlmodel import func, select

from service.store.database import Database
from service.store.tables import Instance
from tests.builders import ct_series, write
from tests.peers import HOST, ScriptedPacs, dcmtk_run, free_port, missing, wait_until
from tests.served import settings_file

pytestmark = [pytest.mark.alone, pytest.mark.peer, pytest.mark.timeout(300)]
CONFIG = Path(__file__).parents[2] / "deploy" / "haproxy" / "haproxy.cfg"
SLICES = 12


class ListenerProcess:
    """One `firstlook listen`, which can be told to stop and started again on the same ports."""

    def __init__(self, settings: Path, folder: Path, name: str) -> None:
        self.settings, self.log, self.port, self.monitor = settings, folder / f"{name}.log", free_port(), free_port()
        self.start()

    def start(self) -> None:
        environ = {k: v for k, v in os.environ.items() if not k.startswith("FIRSTLOOK_")} | {
            "FIRSTLOOK_RECEIVE__PORT": str(self.port), "FIRSTLOOK_MONITOR__PORT": str(self.monitor),
            "FIRSTLOOK_RECEIVE__NOTICE_S": "10", "FIRSTLOOK_RECEIVE__DRAIN_S": "60"}
        with self.log.open("ab") as out:
            command = [sys.executable, "-m", "service.cli", "listen", "--settings", str(self.settings)]
            self.process = subprocess.Popen(command, stdout=out, stderr=out, env=environ)
        wait_until(lambda: self.status() == 200 or self.process.poll() is not None, 60)
        assert self.process.poll() is None, self.log.read_text()[-2000:]

    def status(self) -> int:
        """Return what its health page answers, 0 when nobody answers."""
        try:
            return httpx.get(f"http://{HOST}:{self.monitor}/health/ready", timeout=5).status_code
        except httpx.TransportError:
            return 0

    def received(self) -> float:
        """Return how many images it has stored since it started."""
        text = httpx.get(f"http://{HOST}:{self.monitor}/metrics", timeout=5).text
        found = re.search(r'firstlook_instances_received_total\{modality="CT",outcome="stored"\} ([\d.]+)', text)
        return float(found[1]) if found else 0.0


@contextmanager
def proxy(folder: Path, port: int, listeners: list[ListenerProcess]) -> Iterator[None]:
    """Run HAProxy with the configuration of deploy/; only ports differ."""
    program = shutil.which("haproxy") or ("/usr/sbin/haproxy" if Path("/usr/sbin/haproxy").exists() else "")
    if not program:
        missing("haproxy")
    text = CONFIG.read_text().replace("bind :11112", f"bind {HOST}:{port}")
    for one, (dicom, health) in zip(listeners, ((11121, 8051), (11122, 8052)), strict=True):
        assert f"{HOST}:{dicom} port {health}" in text
        text = text.replace(f"{HOST}:{dicom} port {health}", f"{HOST}:{one.port} port {one.monitor}")
    (folder / "haproxy.cfg").write_text(text)
    with (folder / "haproxy.log").open("w") as log, subprocess.Popen(
            [program, "-db", "-f", str(folder / "haproxy.cfg")], stdout=log, stderr=log) as process:
        try:
            wait_until(lambda: dcmtk_run("echoscu", "-aet", "CT1", "-aec", "FIRSTLOOK", HOST, port).returncode == 0, 30)
            yield
        finally:
            process.terminate()


class Sender(threading.Thread):
    """Sends one study after the other with DCMTK until told to stop."""

    def __init__(self, port: int, folder: Path, number: int) -> None:
        super().__init__(daemon=True)
        self.port, self.folder, self.number = port, folder, number
        self.enough, self.sent, self.failed = threading.Event(), 0, list[str]()

    def run(self) -> None:
        while not self.enough.is_set():
            study = self.folder / f"{self.number}-{self.sent}"
            files = write(ct_series(patient=self.number, study=self.sent + 1, slices=SLICES, size=32), study)
            done = dcmtk_run("storescu", "-aet", "CT1", "-aec", "FIRSTLOOK", HOST, self.port, *files)
            if done.returncode:
                self.failed.append(done.stderr[-300:])
            self.sent += 1


def slow_sender(port: int) -> tuple[object, list[int]]:
    """Open an association straight to a listener and send one image; return it with the statuses of its stores."""
    entity = AE("CT1")
    entity.add_requested_context(CTImageStorage)
    association = entity.associate(HOST, port, ae_title="FIRSTLOOK")
    assert association.is_established
    return association, [association.send_c_store(ct_series(patient=90, slices=3, size=32)[0]).Status]


def test_a_rolling_restart_loses_no_association_and_no_image(tmp_path: Path) -> None:
    port = free_port()
    with ScriptedPacs(tmp_path / "pacs") as pacs, ExitStack() as stack:
        settings = settings_file(tmp_path, pacs, 0, 0)
        listeners = [ListenerProcess(settings, tmp_path, name) for name in ("one", "two")]
        for one in listeners:
            stack.callback(lambda one=one: (one.process.kill(), one.process.wait(20)))
        stack.enter_context(proxy(tmp_path, port, listeners))
        senders = [Sender(port, tmp_path, number) for number in (1, 2)]
        for sender in senders:
            sender.start()
        wait_until(lambda: all(one.received() > 0 for one in listeners), 60)
        proxy_log = tmp_path / "haproxy.log"
        for one, name in zip(listeners, ("one", "two"), strict=True):
            association, statuses = slow_sender(one.port)
            one.process.send_signal(signal.SIGTERM)
            wait_until(lambda one=one: one.status() == 503, 30)
            for image in ct_series(patient=90, slices=3, size=32)[1:]:
                statuses.append(association.send_c_store(image).Status)  # type: ignore[attr-defined]
            assert one.process.poll() is None, "it waits for the association that is open"
            association.release()  # type: ignore[attr-defined]
            assert statuses == [0, 0, 0] and association.is_released  # type: ignore[attr-defined]
            assert one.process.wait(60) == 0
            assert '"every_association_ended": true' in one.log.read_text()
            before = [sender.sent for sender in senders]
            wait_until(lambda before=before: all(s.sent > b for s, b in zip(senders, before, strict=True)), 60)
            back = proxy_log.read_text().count(f"/{name} is UP")
            one.start()
            wait_until(lambda name=name, back=back: proxy_log.read_text().count(f"/{name} is UP") > back, 60)
        for sender in senders:
            sender.enough.set()
            sender.join(60)
        assert [sender.failed for sender in senders] == [[], []]
        database = Database(f"sqlite:///{tmp_path / 'data' / 'firstlook.db'}")
        wanted = SLICES * sum(sender.sent for sender in senders) + 3

        def rows() -> int:
            with database.reading() as session:
                return session.exec(select(func.count()).select_from(Instance)).one()

        wait_until(lambda: rows() == wanted, 30)
        database.close()
