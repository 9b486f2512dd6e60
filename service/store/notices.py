"""Write down what others announce of studies, which may not have begun to arrive."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlmodel import Session, col, select

from service.domain.notice import NoticeKind, NoticeState, Notified
from service.errors import Reason, Unavailable
from service.store.database import Database
from service.store.studies import add_event
from service.store.tables import Notice, Study

_ENDED = (NoticeState.COMPLETED.value, NoticeState.DISCONTINUED.value)


class Written(StrEnum):
    """What became of a notice. UNKNOWN: a step of which nobody told the beginning. ENDED: a step that may not change."""

    NEW = "new"
    DUPLICATE = "duplicate"
    UNKNOWN = "unknown"
    ENDED = "ended"


class Notices:
    """The rows of notices. clock: seconds since 1970, UTC. Every method raises Unavailable when the database is away."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database, self._clock = database, clock

    def available(self, notified: Notified, calling_aet: str) -> Written:
        """Keep a notification of available instances; the same one again changes nothing."""
        self.begun(notified, calling_aet)
        return Written.NEW

    def begun(self, notified: Notified, calling_aet: str) -> Written:
        """Keep a new notice, a row for each study that it names: NEW or DUPLICATE."""
        try:
            with self._database.transaction() as session:
                for study in notified.study_instance_uids or ("",):  # a step without a study is known all the same
                    session.add(Notice(
                        kind=notified.kind.value, uid=notified.uid, study_instance_uid=study, calling_aet=calling_aet,
                        state=(notified.state or NoticeState.IN_PROGRESS).value, received_at=self._clock(),
                        listed=dict(notified.listed)))
                    self._tell(session, study, notified, calling_aet)
        except IntegrityError:
            return Written.DUPLICATE
        except SQLAlchemyError as error:
            raise _away(error) from error
        return Written.NEW

    def changed(self, notified: Notified, calling_aet: str) -> Written:
        """Change a procedure step: NEW, UNKNOWN or ENDED."""
        try:
            with self._database.transaction() as session:
                rows = session.exec(select(Notice).where(
                    Notice.kind == NoticeKind.PROCEDURE_STEP.value, Notice.uid == notified.uid)
                    .order_by(col(Notice.id)).with_for_update()).all()
                if not rows:
                    return Written.UNKNOWN
                if any(row.state in _ENDED for row in rows):
                    return Written.ENDED
                for row in rows:
                    row.listed = row.listed | dict(notified.listed)
                    row.state = (notified.state or NoticeState(row.state)).value
                    session.add(row)
                    self._tell(session, row.study_instance_uid, notified, calling_aet)
        except SQLAlchemyError as error:
            raise _away(error) from error
        return Written.NEW

    def _tell(self, session: Session, study_instance_uid: str, notified: Notified, calling_aet: str) -> None:
        """Add a line to the trace of a study that has begun to arrive."""
        number = session.exec(select(Study.id).where(Study.study_instance_uid == study_instance_uid)).first()
        if number is None:
            return
        what = ("instances are available" if notified.kind is NoticeKind.AVAILABILITY
                else f"procedure step {(notified.state or NoticeState.IN_PROGRESS).value}")
        add_event(session, number, self._clock(), "announced",
                  f"{what}, told by {calling_aet}: {len(notified.listed)} objects listed",
                  {"calling_aet": calling_aet, "listed": len(notified.listed)})


def _away(error: SQLAlchemyError) -> Unavailable:
    return Unavailable(Reason.INTERNAL_ERROR, f"the database does not answer as it should ({type(error).__name__})")
