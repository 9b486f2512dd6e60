"""Write down what was received: one image or many in a transaction, idempotent, safe for several threads and processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, String, bindparam, insert, or_, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlmodel import Session, col, select

from service.domain.job import StudyState
from service.domain.study import Header
from service.errors import Reason, Unavailable
from service.store.database import Database, unavailable
from service.store.fetched import is_wanted
from service.store.studies import TOO_LARGE
from service.store.tables import Event, Instance, ResultObject, Study

_TRIES = 5
_COPIED = ("patient_id", "issuer_of_patient_id", "patient_name", "patient_birth_date", "patient_sex",
           "accession_number", "study_date", "study_time", "study_description")

_StudyKey = tuple[str, str, str]
_INSTANCE = insert(Instance)
_TOUCHED = (
    update(Study).values(last_received_at=bindparam("now")).returning(col(Study.id)).where(
        col(Study.study_instance_uid) == bindparam("uid"), col(Study.state) == StudyState.RECEIVING,
        col(Study.modality) == bindparam("mod"), col(Study.last_received_at) <= bindparam("now"),
        col(Study.fetched).is_(False),
        or_(col(Study.ordered_priority) != "", bindparam("priority", type_=String()) == "")))


class Outcome(StrEnum):
    """What became of a received instance.

    STORED: new. DUPLICATE: the same UID and the same bytes were here; nothing changed. CHANGED_DUPLICATE: the same UID
    with other bytes; the first stays, the second belongs into quarantine.
    """

    STORED = "stored"
    DUPLICATE = "duplicate"
    CHANGED_DUPLICATE = "changed_duplicate"


@dataclass(frozen=True)
class Arrival:
    """An image that is safe on the disk. sha256: of the data set as received; path: relative to the spool.

    received_at: Unix time, seconds; calling_aet: "" when nobody knows any more who sent it.
    """

    header: Header
    sha256: str
    size_bytes: int
    path: str
    calling_aet: str
    received_at: float

    def row(self, study_id: int) -> dict[str, Any]:
        """Return the columns of its row."""
        return {"study_id": study_id, "sop_instance_uid": self.header.sop_instance_uid,
                "series_instance_uid": self.header.series_instance_uid, "sha256": self.sha256,
                "size_bytes": self.size_bytes, "path": self.path, "received_at": self.received_at,
                "calling_aet": self.calling_aet, "header": self.header.to_json()}


class Intake:
    """The rows of received instances and of the trace. clock: seconds since 1970, UTC."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def now(self) -> float:
        """Return the time, seconds since 1970, UTC."""
        return self._clock()

    def record(self, header: Header, sha256: str, size_bytes: int, path: str, calling_aet: str) -> Outcome:
        """Write the row of an image that has just arrived, and its study's when it is the first; committed on return.

        A study that was already complete goes back to `receiving`; a duplicate changes nothing, so that a second copy
        of a study makes no second result, but for giving back a file that was deleted.
        The file must be on the disk for good: a power cut can take the row of an image that is not its study's first,
        and the file is what it is made from again at the next start.
        Raises: Unavailable when the database cannot be reached; then the row may or may not be there.
        """
        return self.record_all([Arrival(header, sha256, size_bytes, path, calling_aet, self._clock())])[0]

    def record_all(self, arrivals: Sequence[Arrival]) -> list[Outcome]:
        """Write the rows of several images, in order, as `record` does; return what became of each.

        Raises: Unavailable; then the rows of the first of them may be there, and trying again changes nothing for these.
        """
        if self._added(arrivals):
            return [Outcome.STORED] * len(arrivals)
        if len(arrivals) == 1:
            return [self._recorded(arrivals[0])]
        half = len(arrivals) // 2
        return self.record_all(arrivals[:half]) + self.record_all(arrivals[half:])

    def trace(self, study_instance_uid: str, stage: str, text: str, data: dict[str, Any] | None = None) -> bool:
        """Add one line to the trace of a study; False when there is no such study.

        text: free of patient data; data: JSON types.  Raises: Unavailable.
        """
        try:
            with self._database.transaction() as session:
                study = session.exec(select(Study).where(Study.study_instance_uid == study_instance_uid)).first()
                if study is None or study.id is None:
                    return False
                session.add(Event(study_id=study.id, at=self._clock(), stage=stage, text=text, data=data or {}))
                return True
        except SQLAlchemyError as error:
            raise unavailable(error) from error

    def sizes_of(self, study_instance_uid: str) -> dict[str, int]:
        """Return the bytes of each image of a study by its SOP Instance UID; empty for an unknown one.

        Raises: Unavailable.
        """
        try:
            with self._database.reading() as session:
                return dict(session.exec(
                    select(Instance.sop_instance_uid, Instance.size_bytes).join(Study)
                    .where(Study.study_instance_uid == study_instance_uid)).all())
        except SQLAlchemyError as error:
            raise unavailable(error) from error

    def study_too_large(self, study_instance_uid: str, text: str) -> bool:
        """Write on the trace of a study that it has reached its limit; it is then not assessed.  Raises: Unavailable."""
        return self.trace(study_instance_uid, TOO_LARGE, f"{Reason.STUDY_TOO_LARGE.sentence} {text}")

    def is_ours(self, sop_instance_uid: str) -> bool:
        """Tell whether this service made the object with this UID.  Raises: Unavailable."""
        try:
            with self._database.reading() as session:
                made = select(ResultObject.id).where(ResultObject.sop_instance_uid == sop_instance_uid)
                return session.exec(made).first() is not None
        except SQLAlchemyError as error:
            raise unavailable(error) from error

    def known_paths(self) -> set[str]:
        """Return the path, relative to the spool, of every instance that has a row and a file.  Raises: Unavailable."""
        try:
            with self._database.reading() as session:
                return set(session.exec(select(Instance.path).where(Instance.path != "")))
        except SQLAlchemyError as error:
            raise unavailable(error) from error

    def _added(self, arrivals: Sequence[Arrival]) -> bool:
        """Write the rows of more images of studies that are being received; tell whether that was all there was to do.

        Two statements, for a CT brings hundreds. False, and nothing changed: a new study, one that must be reopened,
        an image that is known, a modality that is new to its study.
        Raises: Unavailable.
        """
        try:
            with self._database.rebuildable() as connection:
                studies = self._touched(connection, {_study_key(a.header) for a in arrivals})
                if studies is None:
                    connection.rollback()
                    return False
                connection.execute(_INSTANCE, [a.row(studies[_study_key(a.header)]) for a in arrivals])
                return True
        except IntegrityError:
            return False
        except SQLAlchemyError as error:
            raise unavailable(error) from error

    def _touched(self, connection: Connection, keys: set[_StudyKey]) -> dict[_StudyKey, int] | None:
        """Note the time on the studies and return their ids; None when one is not just to be added to."""
        studies = {}
        for uid, modality, priority in sorted(keys):
            found = connection.execute(
                _TOUCHED, {"uid": uid, "mod": modality, "now": self._clock(), "priority": priority}).scalar()
            if found is None:
                return None
            studies[uid, modality, priority] = int(found)
        return studies

    def _recorded(self, arrival: Arrival) -> Outcome:
        for _ in range(_TRIES):
            try:
                with self._database.transaction() as session:
                    return self._record(session, arrival)
            except IntegrityError:
                continue  # another thread or process was first with this instance or study: read what it wrote
            except SQLAlchemyError as error:
                raise unavailable(error) from error
        raise Unavailable(Reason.INTERNAL_ERROR, "others kept writing the same row")

    def _record(self, session: Session, arrival: Arrival) -> Outcome:
        header = arrival.header
        known = session.exec(select(Instance).where(Instance.sop_instance_uid == header.sop_instance_uid)).first()
        if known is not None:
            if known.path == arrival.path:
                return Outcome.STORED  # another process has found the file and written it down before us
            if known.sha256 == arrival.sha256:
                self._becomes_work(session, session.get_one(Study, known.study_id), arrival)
                return Outcome.DUPLICATE if known.path else self._restored(session, known, arrival.path)
            session.add(self._changed(known, header, arrival.calling_aet))
            return Outcome.CHANGED_DUPLICATE
        study = self._study(session, arrival)
        assert study.id is not None
        session.add(Instance(**arrival.row(study.id)))
        return Outcome.STORED

    def _study(self, session: Session, arrival: Arrival) -> Study:
        """Return the study's row, locked and touched; made from this header when it is the first image."""
        header = arrival.header
        wanted = select(Study).where(col(Study.study_instance_uid) == header.study_instance_uid).with_for_update()
        study = session.exec(wanted).first()
        now = self._clock()
        if study is None:
            study = Study(
                study_instance_uid=header.study_instance_uid, modality=header.modality, calling_aet=arrival.calling_aet,
                state=StudyState.RECEIVING, ordered_priority=header.requested_procedure_priority,
                first_received_at=min(arrival.received_at, now), last_received_at=now, receiving_since_at=now,
                fetched=is_wanted(session, header.study_instance_uid, arrival.received_at),
                **{name: getattr(header, name) for name in _COPIED})
        else:
            self._becomes_work(session, study, arrival)
            study.modality = _joined(study.modality, header.modality)
            study.ordered_priority = study.ordered_priority or header.requested_procedure_priority
            if study.completed_at is not None:
                study.receiving_since_at, study.completed_at, study.images_deleted_at = now, None, None
            study.state, study.state_reason, study.state_detail = StudyState.RECEIVING, "", ""
            study.last_received_at = max(now, study.last_received_at)
        session.add(study)
        session.flush()
        return study

    def _becomes_work(self, session: Session, study: Study, arrival: Arrival) -> None:
        """Make a study that was fetched to be compared one like any other when somebody sends it: it is judged anew."""
        if not study.fetched or is_wanted(session, study.study_instance_uid, arrival.received_at):
            return
        study.fetched, study.state, study.completed_at = False, StudyState.RECEIVING, None
        study.receiving_since_at = study.last_received_at = study.first_received_at = self._clock()
        study.calling_aet = arrival.calling_aet
        session.add_all((study, Event(study_id=study.id or 0, at=self._clock(), stage="receive", text=(
            f"sent by {arrival.calling_aet}: fetched for a comparison before, from now on work like any other"))))

    def _restored(self, session: Session, known: Instance, path: str) -> Outcome:
        """Take an image back whose file was deleted after delivery: the study stays as it is, but can be looked at again."""
        known.path, known.received_at = path, self._clock()
        study = session.get_one(Study, known.study_id)
        if study.images_deleted_at is not None:
            session.add(Event(study_id=known.study_id, at=known.received_at, stage="receive",
                              text="images that were deleted come again; the result stands"))
        study.images_deleted_at, study.last_received_at = None, known.received_at
        session.add_all((known, study))
        return Outcome.STORED

    def _changed(self, known: Instance, header: Header, calling_aet: str) -> Event:
        return Event(
            study_id=known.study_id, at=self._clock(), stage="receive", text=Reason.CHANGED_DUPLICATE.sentence,
            data={"reason": Reason.CHANGED_DUPLICATE, "sop_instance_uid": header.sop_instance_uid,
                  "calling_aet": calling_aet})


def _study_key(header: Header) -> _StudyKey:
    """Return what of an image its study must agree with for a row just to be added."""
    return header.study_instance_uid, header.modality, header.requested_procedure_priority


def _joined(modalities: str, modality: str) -> str:
    """Return "CT" and "CR" as "CR/CT", each once, in order of the alphabet."""
    return "/".join(sorted({*modalities.split("/"), modality} - {""}))
