"""Take up again what was parked or failed, because a person says so."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sqlmodel import Session, col, or_, select

from service.domain.job import DeliveryState, JobKind, JobState, StudyState
from service.errors import Reason
from service.pipeline.sending import resend
from service.store.database import Database
from service.store.studies import add_event
from service.store.tables import Job, Study
from service.triage.queue import Queue

_STUCK = (DeliveryState.PARKED.value, DeliveryState.UNPROVEN.value)


class NothingToSend(ValueError):
    """There is no such study, or nothing of it that could be sent. The text says which."""


def send_once_more(
    database: Database, now: float, study_instance_uid: str, targets: Mapping[str, Collection[str]],
) -> list[str]:
    """Queue the present result of a study for sending, as if it had never been sent; return the names of the targets.

    targets: the kinds of objects that each target takes. Running workers take the jobs up by themselves.
    Raises: NothingToSend.
    """
    with database.transaction() as session:
        study = session.exec(select(Study).where(Study.study_instance_uid == study_instance_uid)).one_or_none()
        if study is None:
            raise NothingToSend("there is no such study here")
        going = resend(session, study, targets, now)
        if not going:
            raise NothingToSend("there is no result that could be sent to these targets")
        return going


def _without_images(session: Session, study_instance_uid: str) -> list[str]:
    """Say that the images of a study that was asked for are gone."""
    study = session.exec(select(Study).where(Study.study_instance_uid == study_instance_uid)).first()
    if study is None or study.images_deleted_at is None:
        return []
    return [f"{study_instance_uid}: {Reason.IMAGES_DELETED.sentence}"]


def take_up_again(database: Database, queue: Queue, now: float, study_instance_uid: str = "") -> list[str]:
    """Queue parked jobs anew, and let failed studies be judged again; return a line for each study.

    study_instance_uid: only this one; "" for all. Running workers take the jobs up by themselves.
    """
    stuck = select(Study).where(
        or_(col(Study.state) == StudyState.FAILED.value, col(Study.delivery).in_(_STUCK)))
    if study_instance_uid:
        stuck = stuck.where(Study.study_instance_uid == study_instance_uid)
    lines = []
    with database.transaction() as session:
        for study in session.exec(stuck.order_by(col(Study.id))).all():
            number = study.id or 0
            looks = session.exec(select(Job.id).where(
                Job.study_id == number, Job.revision == study.revision, Job.kind == JobKind.INFER.value,
                Job.state == JobState.PARKED.value)).first()
            jobs = queue.retry_parked(session, number)
            if study.state == StudyState.FAILED.value:
                study.state = StudyState.QUEUED.value if looks else StudyState.RECEIVING.value
                study.state_reason = study.state_detail = ""
                study.completed_at = study.completed_at if looks else None
            if study.delivery in _STUCK and jobs:  # none where a person dismissed them
                sent = study.delivery == DeliveryState.UNPROVEN.value
                study.delivery = (DeliveryState.SENT if sent else DeliveryState.PENDING).value
                study.delivery_detail = ""
            session.add(study)
            add_event(session, number, now, "retried", f"a person asked for it: {jobs} jobs queued again")
            lines.append(f"{study.study_instance_uid}: {jobs} jobs queued again, now {study.state}")
        lines += _without_images(session, study_instance_uid)
    return lines
