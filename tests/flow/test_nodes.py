"""Several machines: one listens, two work, over a real PostgreSQL; a killed worker and a lost Ray node cost nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlmodel import col, select

from service.app import App
from service.domain.job import DeliveryState, JobState, StudyState
from service.store.tables import Event, Job, ResultObject, Study
from service.triage.queue import OPEN
from tests.builders import ct_series, radiograph, uid
from tests.cluster import two_nodes
from tests.flow.test_ray import place
from tests.hospital import TINY, Hospital, settings_for, tiny_models
from tests.peers import HOST, Link, Raw, ScriptedPacs, free_port, wait_until
from tests.unit.test_store_migrations import postgres as postgres

QUICK = {"quiet_cxr_s": 0.2, "quiet_ct_s": 0.3, "early_cxr_s": 0.1, "early_ct_s": 0.2}
LEASE_S = 2.0
CTS, CXRS = (1, 2, 3), tuple(range(11, 17))
STUDIES = [uid(patient, 1) for patient in (*CTS, *CXRS)]


class Worker:
    """`firstlook work` as a process of its own."""

    def __init__(self, number: int, tree: dict[str, Any], folder: Path) -> None:
        self.port, self._log = free_port(), folder / f"work-{number}.log"
        tree = {**tree, "monitor": {"port": self.port}}
        (file := folder / f"work-{number}.toml").write_text(toml(tree))
        environ = {k: v for k, v in os.environ.items() if not k.startswith("FIRSTLOOK_")}
        with self._log.open("ab") as out:
            self.process = subprocess.Popen([sys.executable, "-m", "service.cli", "work", "--settings", str(file)],
                                            stdout=out, stderr=out, env=environ)

    def ready(self) -> bool:
        """Tell whether it takes jobs."""
        assert self.process.poll() is None, self._log.read_text()[-3000:]
        try:
            return httpx.get(f"http://{HOST}:{self.port}/health/ready", timeout=2).is_success
        except httpx.TransportError:
            return False

    def owns(self, owner: str) -> bool:
        """Tell whether a lease is of this process."""
        return owner.split(":")[1:2] == [str(self.process.pid)]

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)


def toml(tree: dict[str, Any]) -> str:
    """Write settings as TOML: tables of plain values, and deliver.targets."""
    text = ""
    for section, table in tree.items():
        plain = {k: v for k, v in table.items() if k != "targets"}
        text += f"[{section}]\n" + "".join(f"{k} = {json.dumps(v, default=str)}\n" for k, v in plain.items())
        for target in table.get("targets", ()):
            text += f"[[{section}.targets]]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in target.items())
    return text


@contextmanager
def department(folder: Path, url: str, **infer: Any) -> Iterator[tuple[Hospital, Sequence[Worker]]]:
    """Run a listener here and two workers as processes; yield them once both are ready."""
    for bundle in ("tiny-ct", "tiny-cxr"):  # two workers with two sessions of both: there is room on one node
        place(tiny_models(folder / "models") if bundle == "tiny-ct" else folder / "models", bundle, cpus=0.2)
    with ScriptedPacs(folder / "pacs") as pacs:
        tree: dict[str, Any] = {
            "store": {"data_dir": str(folder / "data"), "database_url": url}, "assemble": QUICK,
            "infer": TINY | {"models_dir": str(folder / "models"), "device": "cpu"} | infer,
            "work": {"first_wait_s": 0.1, "wait_factor": 1.0, "tries": 9, "lease_s": LEASE_S}}
        listener = App(settings_for(folder, pacs, **tree), ["listen"])
        listener.start()
        tree |= {"deliver": {"targets": [{"name": "pacs", "ae_title": pacs.ae_title, "host": HOST, "port": pacs.port}]}}
        workers = [Worker(number, tree, folder) for number in range(2)]
        try:
            wait_until(lambda: all(worker.ready() for worker in workers), 90)
            yield Hospital(listener, pacs, folder), workers
        finally:
            for worker in workers:
                worker.process.kill()
                worker.process.wait(30)
            listener.stop()


def send_all(house: Hospital) -> None:
    """Send every study."""
    for patient in CTS:
        house.send(*ct_series(patient=patient))
    for patient in CXRS:
        house.send(radiograph(patient=patient))


def leased(house: Hospital) -> list[Job]:
    """Return the jobs in hand."""
    with house.app.database.reading() as session:
        return list(session.exec(select(Job).where(Job.state == JobState.LEASED.value)).all())


def all_is_done_once(house: Hospital) -> None:
    """Wait until every study is in the PACS; each result is there once, and nothing is left to do."""

    def ended() -> bool:
        with house.app.database.reading() as session:
            studies = session.exec(select(Study)).all()
            left = session.exec(select(Job.id).where(col(Job.state).in_(OPEN)).limit(1)).first()
        return left is None and len(studies) == len(STUDIES) and all(
            s.delivery == DeliveryState.DELIVERED and s.completed_at is not None for s in studies)

    wait_until(ended, 120)
    with house.app.database.reading() as session:
        assert {s.state for s in session.exec(select(Study)).all()} == {StudyState.ASSESSED.value}
        assert {j.state for j in session.exec(select(Job)).all()} <= {JobState.DONE.value, JobState.CANCELLED.value}
        made = [r.sop_instance_uid for r in session.exec(select(ResultObject)).all()]
        reported = session.exec(select(Event.study_id).where(Event.stage == "reported")).all()
    assert len(set(made)) == len(made) and {r.sop_instance_uid for r in house.pacs.received()} == set(made)
    assert len(reported) == len(set(reported)) == len(STUDIES)


@pytest.mark.peer
def test_a_worker_that_is_killed_leaves_its_jobs_to_the_other(tmp_path: Path, postgres: str) -> None:
    with department(tmp_path, postgres) as (house, workers):
        house.pacs.stall()  # so that jobs are in hand
        send_all(house)
        (job,) = wait_until(lambda: [j for j in leased(house) if workers[0].owns(j.lease_owner)][:1], 60)
        workers[0].kill()
        house.pacs.resume()
        all_is_done_once(house)
        with house.app.database.reading() as session:
            assert session.get_one(Job, job.id).state == JobState.DONE
        assert workers[1].process.poll() is None


@pytest.mark.alone
@pytest.mark.peer
def test_a_worker_and_a_ray_node_are_lost_and_no_study(tmp_path: Path, postgres: str) -> None:
    with two_nodes() as nodes, department(tmp_path, postgres, engine="ray", ray_address=nodes.address, ray_sessions=2,
                                          ray_timeout_s=30) as (house, workers):
        house.pacs.stall()
        send_all(house)
        wait_until(lambda: any(workers[1].owns(j.lease_owner) for j in leased(house)), 60)
        nodes.lose_second()
        workers[1].kill()
        house.pacs.resume()
        all_is_done_once(house)
        sessions = httpx.get(f"http://{HOST}:{workers[0].port}/metrics").text
        assert 'firstlook_engine_info{bundle="tiny-ct",provider="CPUExecutionProvider"' in sessions


def test_a_worker_waits_for_what_another_process_is_still_being_sent(tmp_path: Path) -> None:
    models = tiny_models(tmp_path / "models")
    slices = [Raw.of(dataset) for dataset in ct_series()]
    with ScriptedPacs(tmp_path / "pacs") as pacs:
        settings = settings_for(tmp_path, pacs, infer=TINY | {"models_dir": models}, assemble=QUICK)
        listen, work = App(settings, ["listen"]), App(settings, ["work"])
        try:
            listen.start()
            work.start()
            house = Hospital(listen, pacs, tmp_path)
            assert listen.listener is not None
            with Link(listen.listener.port, [(slices[0].sop_class_uid, slices[0].transfer_syntax_uid)]) as link:
                assert [link.store(raw) for raw in slices[:30]] == [0] * 30
                last_at = house.study(uid(1, 1)).last_received_at
                wait_until(lambda: work.clock() - last_at > 2.0)  # far more than the quiet time
                assert house.study(uid(1, 1)).completed_at is None
                assert [link.store(raw) for raw in slices[30:]] == [0] * (len(slices) - 30)
            assert house.delivered(uid(1, 1)).revision == 1
        finally:
            for app in (listen, work):
                app.stop()
