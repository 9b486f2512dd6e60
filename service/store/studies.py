"""Queries on studies and their images that the pipeline needs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from sqlmodel import Session, col, select

from service.domain.job import DeliveryState, StudyState
from service.domain.study import Header
from service.store.tables import Delivery, Event, Instance, ResultObject, Study


@dataclass(frozen=True)
class StoredImage:
    """One received image: its header, where its file lies (relative to the spool) and the sha256 of its data set."""

    header: Header
    path: str
    sha256: str


def images_of(session: Session, study_id: int) -> list[StoredImage]:
    """Return the images of a study in the order of their SOP Instance UIDs."""
    rows = session.exec(
        select(Instance).where(Instance.study_id == study_id).order_by(col(Instance.sop_instance_uid))).all()
    return [StoredImage(Header.from_json(r.header), r.path, r.sha256) for r in rows]


def input_digest(images: Sequence[StoredImage]) -> str:
    """Return the sha256 over UIDs and contents of all images: the same input always gives the same digest."""
    digest = hashlib.sha256()
    for image in sorted(images, key=lambda i: i.header.sop_instance_uid):
        digest.update(f"{image.header.sop_instance_uid}:{image.sha256}\n".encode("ascii"))
    return digest.hexdigest()


def receiving(session: Session) -> list[Study]:
    """Return the studies whose images still arrive, oldest first."""
    return list(session.exec(
        select(Study).where(Study.state == StudyState.RECEIVING.value).order_by(col(Study.first_received_at))).all())


def results_of(session: Session, study_id: int, revision: int) -> list[ResultObject]:
    """Return the objects of one revision, in the order they were made: SEG before the SR that refers to it."""
    return list(session.exec(
        select(ResultObject).where(ResultObject.study_id == study_id, ResultObject.revision == revision)
        .order_by(col(ResultObject.id))).all())


def latest_before(session: Session, study_id: int, revision: int, kind: str) -> list[ResultObject]:
    """Return the objects of a kind from the newest revision before this one; empty when there is none."""
    rows = session.exec(
        select(ResultObject).where(
            ResultObject.study_id == study_id, ResultObject.kind == kind, col(ResultObject.revision) < revision)
        .order_by(col(ResultObject.revision).desc())).all()
    return [r for r in rows if r.revision == rows[0].revision]


def undelivered(session: Session, study_id: int, revision: int, target: str) -> list[ResultObject]:
    """Return the objects of a revision that this target has not stored yet."""
    rows = results_of(session, study_id, revision)
    stored = set(session.exec(
        select(Delivery.result_object_id)
        .where(Delivery.target == target, col(Delivery.result_object_id).in_([r.id for r in rows]))).all())
    return [r for r in rows if r.id not in stored]


def add_event(session: Session, study_id: int, at: float, stage: str, text: str) -> None:
    """Write one line of a study's trace; the text must be free of patient data."""
    session.add(Event(study_id=study_id, at=at, stage=stage, text=text))


def delivered_everywhere(session: Session, study: Study, targets: Sequence[str]) -> bool:
    """Tell whether every target has stored every object of the study's present revision."""
    return all(not undelivered(session, study.id or 0, study.revision, t) for t in targets)


def settle_delivery(session: Session, study: Study, targets: Sequence[str], now: float) -> None:
    """Mark the study as delivered when every target has everything."""
    if delivered_everywhere(session, study, targets):
        study.delivery, study.delivery_detail, study.delivered_at = DeliveryState.DELIVERED.value, "", now
        session.add(study)
