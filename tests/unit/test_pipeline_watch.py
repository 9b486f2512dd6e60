"""The gauges say what the database, the disk and the GPUs say, in every process the same."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from service.infer.gpu import Gpus, GpuUse
from service.metrics import Metrics
from service.pipeline.watch import watch
from service.store.database import Database
from service.store.tables import Job, Study
from service.worker import Loop, every
from tests.peers import wait_until

NOW = 10_000.0


def add(database: Database, number: int, state: str, urgency: str, deadline_at: float | None, job: str = "") -> None:
    with database.transaction() as session:
        study = Study(study_instance_uid=f"1.2.{number}", state=state, urgency=urgency, deadline_at=deadline_at,
                      first_received_at=NOW - 900, last_received_at=NOW - 800 + number)
        session.add(study)
        session.flush()
        if job:
            session.add(Job(key=f"k{number}", kind="infer", study_id=study.id or 0, revision=1, urgency=urgency, state=job,
                            queued_at=NOW - 100 * number, deadline_at=deadline_at or NOW))


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"firstlook_{name}", labels)


def test_gauges_are_those_of_the_database_in_each_process(database: Database, tmp_path: Path) -> None:
    add(database, 1, "queued", "stat", NOW - 5, "waiting")
    add(database, 2, "inferring", "stat", NOW - 1, "leased")
    add(database, 3, "queued", "routine", NOW + 5, "waiting")
    add(database, 4, "failed", "urgent", NOW - 50, "parked")
    add(database, 5, "receiving", "routine", None)
    one, other = Metrics(), Metrics()
    for metrics in (one, other):
        watch(database, metrics, tmp_path, NOW)
        assert value(metrics, "queue_depth", kind="infer", urgency="stat") == 1
        assert value(metrics, "queue_depth", kind="deliver", urgency="stat") == 0
        assert value(metrics, "queue_oldest_seconds", kind="infer") == 300
        assert value(metrics, "jobs_parked", kind="infer") == 1
        assert [value(metrics, "studies_open", state=s) for s in ("receiving", "queued", "inferring")] == [1, 2, 1]
        overdue = [value(metrics, "studies_overdue", urgency=u) for u in ("stat", "urgent", "routine", "low")]
        assert overdue == [2, 0, 0, 0]
        assert value(metrics, "last_received_timestamp_seconds") == NOW - 795
        assert 0 < (value(metrics, "disk_free_bytes") or 0) < (value(metrics, "disk_size_bytes") or 0)


def test_a_gauge_falls_when_the_work_is_done(database: Database, tmp_path: Path) -> None:
    metrics = Metrics()
    add(database, 1, "queued", "stat", NOW - 5, "waiting")
    watch(database, metrics, tmp_path, NOW)
    with database.transaction() as session:
        session.get_one(Study, 1).state = "assessed"
        session.get_one(Job, 1).state = "done"
    watch(database, metrics, tmp_path, NOW)
    assert value(metrics, "studies_overdue", urgency="stat") == value(metrics, "studies_open", state="queued") == 0
    assert value(metrics, "queue_depth", kind="infer", urgency="stat") == 0


def test_before_the_first_image_nothing_is_said_of_the_last(database: Database, tmp_path: Path) -> None:
    metrics = Metrics()
    watch(database, metrics, tmp_path, NOW)
    assert value(metrics, "last_received_timestamp_seconds") == 0


def test_a_loop_shows_a_sign_of_life_only_after_a_turn_without_an_error() -> None:
    turned: list[str] = []
    trouble = [True]

    def step() -> bool:
        if trouble:
            trouble.pop()
            raise RuntimeError
        return False

    loop = Loop("watch", step, turned.append)
    with pytest.raises(RuntimeError):
        loop._once()
    assert turned == []
    loop.start()
    wait_until(lambda: turned)
    loop.stop()
    assert set(turned) == {"watch"}


def test_every_waits_its_time_and_is_due_at_once_after_an_error() -> None:
    now, done, trouble = [0.0], [], [True]

    def action() -> None:
        if trouble:
            raise RuntimeError
        done.append(now[0])

    step = every(5.0, action, lambda: now[0])
    for _ in range(2):
        with pytest.raises(RuntimeError):
            step()
    trouble.clear()
    for second in range(12):
        now[0] = float(second)
        assert step() is False
    assert done == [0.0, 5.0, 10.0]


class _Nvml(SimpleNamespace):
    """Answers as NVIDIA's library does for two GPUs, of which the second has fallen off the bus."""

    class NVMLError(Exception):
        pass

    def nvmlInit(self) -> None:
        if self.broken:
            raise self.NVMLError

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, number: int) -> int:
        return number

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        if handle == 1:
            raise self.NVMLError
        return SimpleNamespace(used=3 << 30, total=8 << 30, free=5 << 30)

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:
        return SimpleNamespace(gpu=75, memory=10)


def test_a_gpu_that_does_not_answer_is_left_out(database: Database, tmp_path: Path) -> None:
    assert Gpus(_Nvml(broken=True)).read() == []
    (gpu,) = Gpus(_Nvml(broken=False)).read()
    assert gpu == GpuUse("0", 3 << 30, 8 << 30, 0.75)
    metrics = Metrics()
    watch(database, metrics, tmp_path, NOW, gpus=[gpu])
    assert value(metrics, "gpu_memory_used_bytes", gpu="0") == 3 << 30
    assert value(metrics, "gpu_memory_size_bytes", gpu="0") == 8 << 30
    assert value(metrics, "gpu_busy_ratio", gpu="0") == 0.75


def test_the_real_library_is_read_where_it_is_and_its_absence_is_no_error() -> None:
    for gpu in Gpus().read():
        assert 0 <= gpu.used_bytes <= gpu.size_bytes and 0 <= gpu.busy <= 1
