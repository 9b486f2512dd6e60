"""Queries on what was sent where, and whether it is proven. Wanted: the kinds of objects (seg, sr, ...) a target takes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from sqlmodel import Session, col, func, select

from service.domain.job import DeliveryState, JobKind
from service.store.studies import results_of
from service.store.tables import Delivery, Job, ResultObject, Study


def undelivered(session: Session, study_id: int, revision: int, target: str, wanted: Collection[str]) -> list[ResultObject]:
    """Return the wanted objects of a revision that this target has not stored yet."""
    rows = [r for r in results_of(session, study_id, revision) if r.kind in wanted]
    stored = set(session.exec(
        select(Delivery.result_object_id)
        .where(Delivery.target == target, col(Delivery.result_object_id).in_([r.id for r in rows]))).all())
    return [r for r in rows if r.id not in stored]


def unproven(session: Session, study_id: int, revision: int, target: str) -> list[tuple[Delivery, ResultObject]]:
    """Return what this target has stored of a revision, but not proven yet, in the order it was made."""
    query = (
        select(Delivery, ResultObject).join(ResultObject, col(ResultObject.id) == Delivery.result_object_id)
        .where(ResultObject.study_id == study_id, ResultObject.revision == revision, Delivery.target == target,
               col(Delivery.proven_at).is_(None))
        .order_by(col(ResultObject.id)))
    return list(session.exec(query).all())


def sent(session: Session, study_id: int, revision: int, target: str) -> list[Delivery]:
    """Return everything that this target has stored of a revision."""
    query = (
        select(Delivery).join(ResultObject, col(ResultObject.id) == Delivery.result_object_id)
        .where(ResultObject.study_id == study_id, ResultObject.revision == revision, Delivery.target == target))
    return list(session.exec(query).all())


def times_sent(session: Session, study_id: int, revision: int, target: str) -> int:
    """Return how many jobs were made so far to send this revision to this target."""
    return session.exec(
        select(func.count()).select_from(Job).where(
            Job.study_id == study_id, Job.revision == revision, Job.target == target,
            Job.kind == JobKind.DELIVER.value)).one()


def settle_delivery(session: Session, study: Study, wanted: Mapping[str, Collection[str]], now: float) -> None:
    """Mark the study's present revision as sent once every target has everything, as delivered once all is proven.

    wanted: the kinds that each target takes.
    """
    number = study.id or 0
    if any(undelivered(session, number, study.revision, name, kinds) for name, kinds in wanted.items()):
        return
    waiting = [name for name in wanted if unproven(session, number, study.revision, name)]
    if not waiting:
        study.delivery, study.delivery_detail, study.delivered_at = DeliveryState.DELIVERED.value, "", now
    elif study.delivery != DeliveryState.UNPROVEN.value:
        study.delivery, study.delivery_detail = DeliveryState.SENT.value, f"waiting for proof by {', '.join(waiting)}"
    session.add(study)


def kinds_of(rows: Sequence[ResultObject]) -> str:
    """Return the kinds of objects in words: "SEG, SR"."""
    return ", ".join(r.kind.upper() for r in rows)
