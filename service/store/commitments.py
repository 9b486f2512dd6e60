"""The transactions of storage commitment. A report may come to another process, and before the request is answered."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import update
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session, col, select

from service.domain.commitment import Answer
from service.domain.job import JobKind, JobState
from service.errors import Reason, Unavailable
from service.store.database import Database
from service.store.studies import add_event
from service.store.tables import Commitment, Job


def commitments_of(session: Session, study_id: int, revision: int, target: str) -> Sequence[Commitment]:
    """Return the transactions of a revision at a target, oldest first, and keep them as they are until the commit."""
    return session.exec(
        select(Commitment).where(
            Commitment.study_id == study_id, Commitment.revision == revision, Commitment.target == target)
        .order_by(col(Commitment.id)).with_for_update()).all()


def mark(database: Database, transaction_uid: str, **at: float) -> None:
    """Write down a moment of a transaction: taken_at or given_up_at (Unix time)."""
    with database.transaction() as session:
        session.exec(update(Commitment).where(col(Commitment.transaction_uid) == transaction_uid).values(**at))


def give_up(session: Session, study_id: int, revision: int, target: str, now: float) -> None:
    """Wait no longer for the reports of a revision at a target: it is sent anew, and asked for anew."""
    session.exec(
        update(Commitment).where(
            col(Commitment.study_id) == study_id, col(Commitment.revision) == revision, col(Commitment.target) == target,
            col(Commitment.answered_at).is_(None), col(Commitment.given_up_at).is_(None),
        ).values(given_up_at=now))


def is_answered(database: Database, transaction_uid: str) -> bool:
    """Tell whether the report of a transaction has come."""
    with database.reading() as session:
        found = session.exec(
            select(Commitment.answered_at).where(Commitment.transaction_uid == transaction_uid)).one_or_none()
    return found is not None


def record_answer(database: Database, now: float, answer: Answer) -> bool:
    """Write down a report and wake the job that waits for it; False when no such transaction waits for an answer.

    Of the objects named only those that were asked for are kept. The first report of a transaction counts.
    Raises: Unavailable when the database cannot be reached.
    """
    try:
        with database.transaction() as session:
            row = session.exec(
                select(Commitment).where(Commitment.transaction_uid == answer.transaction_uid).with_for_update()).first()
            if row is None or row.answered_at is not None:
                return False
            row.answered_at = now
            row.kept = sorted(answer.kept & row.objects.keys())
            row.failed = {uid: reason for uid, reason in sorted(answer.failed.items()) if uid in row.objects}
            session.add(row)
            add_event(session, row.study_id, now, "commitment", f"{row.target} reports: {len(row.kept)} of "
                      f"{len(row.objects)} objects kept, {len(row.failed)} not")
            session.exec(
                update(Job).where(
                    col(Job.study_id) == row.study_id, col(Job.revision) == row.revision,
                    col(Job.target) == row.target, col(Job.kind) == JobKind.PROVE.value,
                    col(Job.state) == JobState.WAITING.value,
                ).values(not_before_at=0.0))
            return True
    except SQLAlchemyError as error:
        raise Unavailable(Reason.INTERNAL_ERROR, f"the database: {type(error).__name__}") from error
