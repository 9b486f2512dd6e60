"""Queries on what became of studies: what was measured, and what can be replayed. They only read."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import and_
from sqlmodel import Session, col, select

from service.domain.job import JobKind, StudyState
from service.domain.urgency import Urgency
from service.store.tables import Job, Study


@dataclass(frozen=True)
class Passage:
    """One study's way through the service; times are Unix, seconds, None where it did not get so far.

    urgency: as ordered; reading_urgency: as raised by AI; bundle: the one that called for it, or else the leading one, ""
    where none was asked for.
    """

    kind: str
    modality: str
    urgency: Urgency
    reading_urgency: Urgency
    flagged: bool
    bundle: str
    first_received_at: float
    last_received_at: float
    queued_at: float | None
    started_at: float | None
    assessed_at: float | None

    @property
    def to_notification_s(self) -> float | None:
        """Last image to result on the worklist, seconds."""
        return None if self.assessed_at is None else max(0.0, self.assessed_at - self.last_received_at)


_PLAIN = (Study.kind, Study.modality, Study.urgency, Study.reading_urgency, Study.flag, Study.first_received_at,
          Study.last_received_at, Job.queued_at, Job.started_at, Study.assessed_at)


def passages(session: Session, since: float, limit: int, bundles: bool = False) -> list[Passage]:
    """Return the studies that began to arrive since a moment (Unix time), in order of arrival, at most the `limit` newest.

    Studies whose images still arrive are left out. bundles: read the results to say which bundle called, which costs more.
    """
    looked = and_(col(Job.study_id) == col(Study.id), col(Job.kind) == JobKind.INFER.value,
                  col(Job.revision) == col(Study.revision))
    columns = (*_PLAIN, Study.summary) if bundles else _PLAIN
    rows = session.execute(
        select(*columns).outerjoin(Job, looked)
        .where(col(Study.state) != StudyState.RECEIVING.value, col(Study.fetched).is_(False),
               col(Study.first_received_at) >= since)
        .order_by(col(Study.id).desc()).limit(limit)).all()
    found = [_passage(row, row[-1] if bundles else {}) for row in rows]
    return sorted(found, key=lambda p: p.first_received_at)


def _passage(row: tuple, summary: dict) -> Passage:  # type: ignore[type-arg]
    kind, modality, urgency, reading, flag, first, last, queued, started, assessed = row[:10]
    return Passage(kind, modality, Urgency(urgency), Urgency(reading), bool(flag), _caller(summary), first, last, queued,
                   started, assessed)


def _caller(summary: dict) -> str:  # type: ignore[type-arg]
    """Return the bundle whose finding calls for the most urgent reading, as `Assessment.caller` does."""
    calling = [f for f in summary.get("findings", ()) if f.get("urgency") and f.get("presence") == "present"]
    if not calling:
        return str(summary.get("bundle", ""))
    best = min(calling, key=lambda f: (Urgency(f["urgency"]).rank, -float(f["probability"])))
    return str(best.get("bundle") or summary.get("bundle", ""))
