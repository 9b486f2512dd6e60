"""What the metrics say of the queue, the studies, the disk and the GPUs, read afresh at each call.

Every process reads the same database, so of several processes each shows the same queue: Prometheus takes the largest, not
the sum.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import func, select
from sqlmodel import Session, col

from service.domain.job import BEHIND, JobKind, JobState, StudyState
from service.domain.urgency import Urgency
from service.infer.gpu import GpuUse
from service.metrics import Metrics
from service.store.database import Database
from service.store.tables import Delivery, Job, Study

_OPEN = (StudyState.RECEIVING, StudyState.QUEUED, StudyState.INFERRING)
_DUE = (StudyState.QUEUED.value, StudyState.INFERRING.value)


def watch(database: Database, metrics: Metrics, folder: Path, now: float, targets: Collection[str] = (),
          gpus: Sequence[GpuUse] = ()) -> None:
    """Set the gauges of the queue (depth by urgency, oldest, parked), the studies, the disk of `folder` and the GPUs.

    now: Unix time, seconds; targets: names of those whose proofs are awaited; gpus: as read just now.
    """
    with database.reading() as session:
        _watch_queue(session, metrics, now)
        _watch_studies(session, metrics, now)
        _watch_proofs(session, metrics, targets)
    disk = shutil.disk_usage(folder)
    metrics.disk_free_bytes.set(disk.free)
    metrics.disk_size_bytes.set(disk.total)
    for gpu in gpus:
        metrics.gpu_memory_used_bytes.labels(gpu.name).set(gpu.used_bytes)
        metrics.gpu_memory_size_bytes.labels(gpu.name).set(gpu.size_bytes)
        metrics.gpu_busy_ratio.labels(gpu.name).set(gpu.busy)


def _watch_queue(session: Session, metrics: Metrics, now: float) -> None:
    rows = session.execute(
        select(col(Job.kind), col(Job.urgency), col(Job.state), func.count(), func.min(col(Job.queued_at)))
        .where(col(Job.state).in_((JobState.WAITING.value, JobState.PARKED.value)), col(Job.target) != BEHIND)
        .group_by(col(Job.kind), col(Job.urgency), col(Job.state))).all()
    for kind in JobKind:
        waiting = {u: (n, t) for k, u, s, n, t in rows if k == kind.value and s == JobState.WAITING.value}
        for urgency in Urgency:
            metrics.queue_depth.labels(kind.value, urgency.value).set(waiting.get(urgency.value, (0, now))[0])
        oldest = min((t for _, t in waiting.values()), default=now)
        metrics.queue_oldest_seconds.labels(kind.value).set(max(0.0, now - oldest))
        parked = sum(n for k, _, s, n, _ in rows if k == kind.value and s == JobState.PARKED.value)
        metrics.jobs_parked.labels(kind.value).set(parked)


def _watch_studies(session: Session, metrics: Metrics, now: float) -> None:
    state, urgency, deadline = col(Study.state), col(Study.urgency), col(Study.deadline_at)
    states = _counts(session.execute(
        select(state, func.count()).where(state.in_([s.value for s in _OPEN]), col(Study.fetched).is_(False))
        .group_by(state)).all())
    overdue = _counts(session.execute(
        select(urgency, func.count()).where(state.in_(_DUE), deadline < now).group_by(urgency)).all())
    for one in _OPEN:
        metrics.studies_open.labels(one.value).set(states.get(one.value, 0))
    for level in Urgency:
        metrics.studies_overdue.labels(level.value).set(overdue.get(level.value, 0))
    last = session.execute(select(func.max(col(Study.last_received_at)))).scalar()
    if last is not None:
        metrics.last_received_seconds.set(last)


def _watch_proofs(session: Session, metrics: Metrics, targets: Collection[str]) -> None:
    target = col(Delivery.target)
    unproven = _counts(session.execute(
        select(target, func.count()).where(col(Delivery.proven_at).is_(None)).group_by(target)).all())
    for name in targets:
        metrics.unproven.labels(name).set(unproven.get(name, 0))


def _counts(rows: Iterable[Any]) -> dict[str, int]:
    return {row[0]: row[1] for row in rows}
