"""Studies that were fetched from an archive to be compared with another one: no work of their own."""

from __future__ import annotations

from sqlalchemy import UniqueConstraint
from sqlmodel import Field, Session, SQLModel, col, select

from service.domain.job import JobKind, JobState
from service.store.tables import Job, Study


class FetchedPrior(SQLModel, table=True):
    """An earlier study that one study asked for. ended_at: it has come, or was here; None while it is being fetched.

    images: how many came; used_at: the study that asked was compared anew because of it.
    """

    id: int | None = Field(default=None, primary_key=True)
    study_instance_uid: str = Field(max_length=64, index=True)
    for_study_id: int = Field(foreign_key="study.id", index=True)
    source: str
    asked_at: float
    ended_at: float | None = None
    images: int = 0
    used_at: float | None = None

    __table_args__ = (UniqueConstraint("study_instance_uid", "for_study_id"),)


def fetch_of(session: Session, study_instance_uid: str, for_study_id: int) -> FetchedPrior | None:
    """Return the row of one study that another asked for."""
    return session.exec(select(FetchedPrior).where(
        FetchedPrior.study_instance_uid == study_instance_uid, FetchedPrior.for_study_id == for_study_id)).first()


def is_wanted(session: Session, study_instance_uid: str, received_at: float) -> bool:
    """Tell whether an image of a study came because we asked for it: no later than the fetching ended."""
    rows = session.exec(select(FetchedPrior).where(FetchedPrior.study_instance_uid == study_instance_uid)).all()
    return any(r.ended_at is None or received_at <= r.ended_at for r in rows)


def askers_of(session: Session, study: Study) -> list[int]:
    """Return the studies to be compared anew once a study has its result: those that asked for it, or itself."""
    if not study.fetched:
        return [study.id or 0]
    return list(session.exec(select(FetchedPrior.for_study_id).where(
        FetchedPrior.study_instance_uid == study.study_instance_uid)).all())


def unused(session: Session, study_id: int) -> list[FetchedPrior]:
    """Return what a study asked for and was not compared with yet."""
    return list(session.exec(select(FetchedPrior).where(
        FetchedPrior.for_study_id == study_id, col(FetchedPrior.used_at).is_(None))).all())


def is_fetching(session: Session, study_id: int) -> bool:
    """Tell whether earlier studies are still being asked for, or fetched, for a study."""
    return session.exec(select(Job.id).where(
        Job.study_id == study_id, Job.kind == JobKind.FETCH.value,
        col(Job.state).in_((JobState.WAITING.value, JobState.LEASED.value)))).first() is not None
