"""Jobs that need a person: listed, and dismissed when nothing more is to be done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import func
from sqlmodel import Session, col, select

from service.domain.job import JobState
from service.store.studies import add_event
from service.store.tables import Job, Study


@dataclass(frozen=True)
class Parked:
    """A parked job and its study, without the patient. parked_at: Unix time, seconds; reason: a code of `errors.Reason`."""

    id: int
    study_instance_uid: str
    modality: str
    accession_number: str
    kind: str
    target: str
    reason: str
    detail: str
    failures: int
    parked_at: float


def parked(session: Session, most: int) -> tuple[Sequence[Parked], int]:
    """Return the parked jobs, the last first, and how many there are."""
    query = (select(Job, Study).join(Study, col(Study.id) == Job.study_id).where(Job.state == JobState.PARKED.value)
             .order_by((col(Job.id) + 0).desc()).limit(most))  # + 0: the index of what is parked, not all jobs from the end
    rows = [Parked(job.id or 0, study.study_instance_uid, study.modality, study.accession_number, job.kind, job.target,
                   job.reason, job.detail, job.failures, job.ended_at or job.queued_at)
            for job, study in session.exec(query).all()]
    return rows, session.exec(select(func.count()).select_from(Job).where(Job.state == JobState.PARKED.value)).one()


def dismiss(session: Session, job_id: int, now: float, by: str) -> bool:
    """End a parked job for good; the study goes on saying what it lacks. False when it is not parked (any more).

    by: the name of the account, for the trace.
    """
    job = session.exec(select(Job).where(Job.id == job_id, Job.state == JobState.PARKED.value).with_for_update()).first()
    if job is None:
        return False
    job.state, job.ended_at = JobState.CANCELLED.value, now
    session.add(job)
    add_event(session, job.study_id, now, "dismissed", f"{job.kind} {job.target}".strip() + f": a person ended it ({by})")
    return True


def last_received(session: Session) -> dict[str, float]:
    """Return when each calling AE title last sent an image of a study that is still known, Unix time."""
    return dict(session.exec(select(Study.calling_aet, func.max(Study.last_received_at)).group_by(Study.calling_aet)).all())
