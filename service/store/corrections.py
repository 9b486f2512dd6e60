"""Rows of what others sent back for our studies: written when it comes, judged later."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlmodel import Session, col, select

from service.domain.job import StudyState
from service.errors import Reason, Unavailable
from service.store.database import Database
from service.store.studies import add_event
from service.store.tables import Correction, Study

WAITING, ATTACHED, SET_ASIDE = "waiting", "attached", "set_aside"
_ENDED = (StudyState.ASSESSED.value, StudyState.NOT_ASSESSED.value, StudyState.FAILED.value)
_NAMES = {"seg": "segmentation", "sr": "report"}


class Known(Enum):
    """What is known of an object that came."""

    NO_STUDY = auto()
    NEW = auto()
    HERE = auto()


@dataclass(frozen=True)
class Arrived:
    """An object that is safe on the disk. kind: seg, sr; path: relative to the folder of the corrections."""

    study_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    kind: str
    sha256: str
    path: str
    calling_aet: str


class Corrections:
    """Safe to share between threads. clock: Unix time, seconds."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database, self._clock = database, clock

    def known(self, study_instance_uid: str, sop_instance_uid: str) -> Known:
        """Tell whether its study is here, and whether it is. The first object of a UID stays.  Raises: Unavailable."""
        try:
            with self._database.reading() as session:
                study = session.exec(select(Study.id).where(Study.study_instance_uid == study_instance_uid)).first()
                if study is None:
                    return Known.NO_STUDY
                here = session.exec(select(Correction.id).where(Correction.sop_instance_uid == sop_instance_uid)).first()
                return Known.NEW if here is None else Known.HERE
        except SQLAlchemyError as error:
            raise Unavailable(Reason.INTERNAL_ERROR, type(error).__name__) from error

    def add(self, arrived: Arrived) -> bool:
        """Write the row of an object, committed on return; False when another one was first.  Raises: Unavailable."""
        now = self._clock()
        try:
            with self._database.transaction() as session:
                number = session.exec(select(Study.id).where(
                    Study.study_instance_uid == arrived.study_instance_uid)).one()
                assert number is not None
                session.add(Correction(
                    study_id=number, sop_class_uid=arrived.sop_class_uid, sop_instance_uid=arrived.sop_instance_uid,
                    sha256=arrived.sha256, kind=arrived.kind, path=arrived.path, calling_aet=arrived.calling_aet,
                    received_at=now))
                add_event(session, number, now, "returned",
                          f"a {_NAMES[arrived.kind]} of another system came from {arrived.calling_aet}; to be compared")
            return True
        except IntegrityError:
            return False
        except SQLAlchemyError as error:
            raise Unavailable(Reason.INTERNAL_ERROR, type(error).__name__) from error


def next_waiting(session: Session) -> tuple[Correction, Study] | None:
    """Return the oldest object that was not judged and whose study has its result, with the study."""
    found = session.exec(
        select(Correction, Study).join(Study, col(Study.id) == Correction.study_id)
        .where(Correction.state == WAITING, col(Study.state).in_(_ENDED)).order_by(col(Correction.id)).limit(1)).first()
    return (found[0], found[1]) if found else None


def still_waiting(session: Session, number: int) -> Correction | None:
    """Return an object, locked, if nobody judged it meanwhile."""
    return session.exec(select(Correction).where(
        Correction.id == number, Correction.state == WAITING).with_for_update()).first()


def corrections_of(session: Session, study_id: int) -> list[Correction]:
    """Return what came back for a study, oldest first."""
    return list(session.exec(select(Correction).where(Correction.study_id == study_id).order_by(col(Correction.id))).all())
