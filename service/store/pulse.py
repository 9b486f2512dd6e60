"""One small query that tells whether anything on the pages has changed."""

from __future__ import annotations

from sqlalchemy import func
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session, col, select

from service.errors import Reason, Unavailable
from service.store.filters import in_window
from service.store.tables import Delivery, Event, Job, Opinion, Study


def pulse(session: Session, since: float) -> tuple[object, ...]:
    """Return values that change when a study with an image since a moment (Unix time) changes, or a new one comes.

    Raises: Unavailable when the database cannot be reached.
    """
    try:
        return _read(session, since)
    except SQLAlchemyError as error:
        raise Unavailable(Reason.INTERNAL_ERROR, f"the database: {type(error).__name__}") from error


def _read(session: Session, since: float) -> tuple[object, ...]:
    studies = session.exec(
        select(  # type: ignore[call-overload]
            func.count(), func.max(Study.last_received_at), func.max(Study.started_at), func.max(Study.assessed_at),
            func.max(Study.delivered_at), func.max(Study.read_at), func.count(col(Study.read_at)), func.sum(Study.revision),
            func.sum(Study.reading_rank), func.count(col(Study.completed_at))).where(in_window(since))).one()
    states = session.exec(select(Study.state, Study.delivery, func.count()).where(in_window(since))
                          .group_by(func.coalesce(col(Study.state), ""), col(Study.delivery))).all()
    newest = [session.exec(select(func.max(table.id))).one() for table in (Event, Job, Delivery, Opinion)]
    judged = session.exec(select(func.max(Opinion.at))).one()
    return (tuple(studies), tuple(sorted(map(tuple, states))), *newest, judged)
