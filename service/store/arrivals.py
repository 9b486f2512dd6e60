"""Queries on how studies arrive: which are open, from whom their images came, what was announced, how senders pause."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import delete, func
from sqlmodel import Session, col, select

from service.domain.job import JobKind, StudyState
from service.store.tables import Instance, Job, Notice, Rhythm, Study


@dataclass(frozen=True)
class Sender:
    """Who sent a part of a study: calling AE title ("" found after a crash) and modality."""

    calling_aet: str
    modality: str


def open_studies(session: Session) -> list[Study]:
    """Return the studies that are not complete, oldest first."""
    return list(session.exec(
        select(Study).where(col(Study.completed_at).is_(None)).order_by(col(Study.first_received_at))).all())


def images_since(session: Session, newest: Mapping[int, int]) -> list[tuple[Study, Sequence[Instance]]]:
    """Return the CT studies that wait for a look, oldest first, each with the images that came since.

    newest: the number of the last image that is known, by the number of its study; of others all are returned, and of
    those that arrive no longer none.
    """
    waiting = (StudyState.RECEIVING.value, StudyState.QUEUED.value, StudyState.INFERRING.value)
    studies = session.exec(
        select(Study).where(col(Study.state).in_(waiting), col(Study.modality).contains("CT"))
        .order_by(col(Study.first_received_at))).all()
    found: list[tuple[Study, Sequence[Instance]]] = []
    for study in studies:
        rows: Sequence[Instance] = ()
        if study.state == StudyState.RECEIVING.value:
            rows = session.exec(
                select(Instance).where(Instance.study_id == study.id, col(Instance.id) > newest.get(study.id or 0, 0),
                                       Instance.path != "").order_by(col(Instance.id))).all()
        found.append((study, rows))
    return found


def locked(session: Session, study_id: int) -> Study:
    """Return the row of a study that nobody else may change until the transaction ends."""
    return session.exec(
        select(Study).where(Study.id == study_id).with_for_update().execution_options(populate_existing=True)).one()


def images_held(session: Session, study_id: int) -> int:
    """Return how many images of a study are here."""
    return session.exec(select(func.count()).select_from(Instance).where(Instance.study_id == study_id)).one()


def instances_held(session: Session, sop_instance_uids: Collection[str]) -> set[str]:
    """Return those of these SOP Instance UIDs that are here."""
    wanted, found = sorted(sop_instance_uids), set[str]()
    for start in range(0, len(wanted), _AT_ONCE):
        some = col(Instance.sop_instance_uid).in_(wanted[start:start + _AT_ONCE])
        found |= set(session.exec(select(Instance.sop_instance_uid).where(some)).all())
    return found


def images_by_series(session: Session, study_id: int) -> dict[str, int]:
    """Return how many images of a study are here, by Series Instance UID."""
    series = col(Instance.series_instance_uid)
    return dict(session.exec(
        select(Instance.series_instance_uid, func.count()).where(Instance.study_id == study_id).group_by(series)).all())


def senders_of(session: Session, study_id: int) -> list[Sender]:
    """Return from whom the images of a study came."""
    modality = col(Instance.header)["modality"].as_string()
    rows = session.execute(
        select(col(Instance.calling_aet), modality).where(col(Instance.study_id) == study_id).distinct()).all()
    return sorted((Sender(aet, of or "") for aet, of in rows), key=lambda s: (s.calling_aet, s.modality))


def notices_of(session: Session, studies: Collection[str]) -> dict[str, list[Notice]]:
    """Return the notices of studies by Study Instance UID, oldest first; studies without one are left out."""
    found: dict[str, list[Notice]] = {}
    if studies:
        rows = select(Notice).where(col(Notice.study_instance_uid).in_(studies)).order_by(col(Notice.id))
        for notice in session.exec(rows).all():
            found.setdefault(notice.study_instance_uid, []).append(notice)
    return found


def forget_notices(session: Session, before: float) -> int:
    """Delete the notices received before a time (Unix, seconds) whose studies are not open; return how many."""
    open_now = select(Study.study_instance_uid).where(col(Study.completed_at).is_(None))
    done = session.execute(delete(Notice).where(
        col(Notice.received_at) < before, col(Notice.study_instance_uid).not_in(open_now)))
    return int(getattr(done, "rowcount", 0))


def rhythms_of(session: Session, sender: Sender, most: int) -> Sequence[Rhythm]:
    """Return how a sender sent its latest studies, newest first."""
    return session.exec(
        select(Rhythm).where(Rhythm.calling_aet == sender.calling_aet, Rhythm.modality == sender.modality)
        .order_by(col(Rhythm.at).desc(), col(Rhythm.id).desc()).limit(most)).all()


def note_rhythm(session: Session, rhythm: Rhythm) -> None:
    """Write down how a sender sent its part of a study, in place of what was written when fewer images were here."""
    known = session.exec(select(Rhythm).where(
        Rhythm.study_id == rhythm.study_id, Rhythm.calling_aet == rhythm.calling_aet,
        Rhythm.modality == rhythm.modality)).first()
    row = known or rhythm
    row.images, row.at = rhythm.images, rhythm.at
    row.study_pause_s, row.series_pause_s = rhythm.study_pause_s, rhythm.series_pause_s
    session.add(row)


def look_at(session: Session, study_id: int, revision: int) -> Job | None:
    """Return the job that runs the models for a revision of a study, None when that was refused before."""
    return session.exec(select(Job).where(
        Job.study_id == study_id, Job.revision == revision, Job.kind == JobKind.INFER.value)).first()


_AT_ONCE = 500  # UIDs in one query
