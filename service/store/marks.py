"""Marks of reading: a person says that a study is read. It leaves the open list until it has something new."""

from __future__ import annotations

from sqlalchemy import ColumnElement, and_
from sqlmodel import Session, col, select

from service.store.arrivals import locked
from service.store.studies import add_event
from service.store.tables import Study


def is_read() -> ColumnElement[bool]:
    """Return, for the database, whether a study is read: marked, no image came since, and no model raised it since."""
    return and_(col(Study.read_at).is_not(None), col(Study.last_received_at) <= col(Study.read_at),
                col(Study.reading_rank) >= col(Study.read_rank))


def reopened(study: Study) -> str:
    """Say why a study that was marked as read is on the open list again; "" when it is not."""
    if study.read_at is None:
        return ""
    if study.last_received_at > study.read_at:
        return "images came after it was read"
    return "raised after it was read" if study.reading_rank < (study.read_rank or 0) else ""


def mark_read(session: Session, study_instance_uid: str, now: float, who: str) -> tuple[Study, bool] | None:
    """Mark a study as read; return it and whether it had not been read; None: there is no such study.

    who: the user's name. The first mark stays when two readers mark the same study, or one twice.
    """
    study = _found(session, study_instance_uid)
    if study is None:
        return None
    if study.read_at is not None and not reopened(study):
        return study, False
    study.read_at, study.read_by, study.read_rank = now, who, study.reading_rank
    session.add(study)
    add_event(session, study.id or 0, now, "read", "marked as read", {"by": who})
    return study, True


def mark_unread(session: Session, study_instance_uid: str, now: float, who: str) -> Study | None:
    """Take the mark of a study back; None: there is no such study."""
    study = _found(session, study_instance_uid)
    if study is not None and study.read_at is not None:
        study.read_at = study.read_by = study.read_rank = None
        session.add(study)
        add_event(session, study.id or 0, now, "unread", "mark taken back", {"by": who})
    return study


def _found(session: Session, study_instance_uid: str) -> Study | None:
    number = session.exec(select(Study.id).where(Study.study_instance_uid == study_instance_uid)).one_or_none()
    return None if number is None else locked(session, number)
