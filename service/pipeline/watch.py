"""What the metrics say of the queue and the disk, read afresh at each call."""

from __future__ import annotations

import shutil

from sqlalchemy import func, select
from sqlmodel import col

from service.domain.job import JobKind, JobState
from service.domain.urgency import Urgency
from service.pipeline.line import Line
from service.store.tables import Delivery, Job


def watch(line: Line) -> None:
    """Set the gauges of the queue (depth by urgency, oldest, parked), of what is not proven, and of the disk."""
    with line.database.reading() as session:
        rows = session.execute(
            select(col(Job.kind), col(Job.urgency), col(Job.state), func.count(), func.min(col(Job.queued_at)))
            .where(col(Job.state).in_((JobState.WAITING.value, JobState.PARKED.value)))
            .group_by(col(Job.kind), col(Job.urgency), col(Job.state))).all()
        open_ = session.execute(
            select(col(Delivery.target), func.count()).where(col(Delivery.proven_at).is_(None))
            .group_by(col(Delivery.target))).all()
    now = line.clock()
    for kind in JobKind:
        waiting = {u: (n, t) for k, u, s, n, t in rows if k == kind.value and s == JobState.WAITING.value}
        for urgency in Urgency:
            line.metrics.queue_depth.labels(kind.value, urgency.value).set(waiting.get(urgency.value, (0, now))[0])
        oldest = min((t for _, t in waiting.values()), default=now)
        line.metrics.queue_oldest_seconds.labels(kind.value).set(max(0.0, now - oldest))
        parked = sum(n for k, _, s, n, _ in rows if k == kind.value and s == JobState.PARKED.value)
        line.metrics.jobs_parked.labels(kind.value).set(parked)
    for name in line.targets:
        line.metrics.unproven.labels(name).set(next((count for target, count in open_ if target == name), 0))
    line.metrics.disk_free_bytes.set(shutil.disk_usage(line.spool_dir).free)
