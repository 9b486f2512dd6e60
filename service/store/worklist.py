"""Queries of the worklist and of the study page. They only read."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Subquery, and_, case, func
from sqlmodel import Session, col, select

from service.domain.job import JobKind, JobState, StudyState
from service.domain.order import NO_CAP, OVERDUE_AS, ReadingOrder
from service.store.arrivals import instances_held, notices_of
from service.store.tables import Delivery, Event, Instance, Job, Notice, ResultObject, Study


@dataclass(frozen=True)
class Entry:
    """One study of the reading list. place: its place in the queue of the models, 1 is next; None: not waiting.

    waited_s: seconds since its first image was received; overdue: it has passed others because it waited too long.
    """

    study: Study
    place: int | None
    waited_s: float
    overdue: bool = False


@dataclass(frozen=True)
class StudyPage:
    """One study and all that happened to it: events and jobs in order of time, results newest first.

    images: how many are kept, by Series Instance UID; notices: what others announced of it, oldest first; announced: those
    SOP Instance UIDs that they list and that are here.
    """

    study: Study
    place: int | None
    events: tuple[Event, ...]
    results: tuple[ResultObject, ...]
    deliveries: tuple[Delivery, ...]
    jobs: tuple[Job, ...]
    images: dict[str, int]
    notices: tuple[Notice, ...] = ()
    announced: frozenset[str] = frozenset()


def reading_list(
    session: Session, limit: int, now: float, window_s: float, order: ReadingOrder = NO_CAP,
) -> list[Entry]:
    """Return what to read next: by urgency, then by how long it has waited; one query.

    limit: most entries; now: Unix time, seconds; window_s: studies with no image since `now - window_s` are left out;
    order: the cap on the wait.
    """
    places = _places()
    query = (
        select(Study, places.c.place)
        .outerjoin(places, _waits(places))
        .where(col(Study.last_received_at) >= now - window_s)
        .order_by(_rank(order, now), col(Study.first_received_at), col(Study.id))
        .limit(limit)
    )
    return [_entry(study, place, max(0.0, now - study.first_received_at), order) for study, place in session.exec(query)]


def _entry(study: Study, place: int | None, waited_s: float, order: ReadingOrder) -> Entry:
    return Entry(study, place, waited_s, order.rank(study.reading_rank, waited_s) < study.reading_rank)


def _rank(order: ReadingOrder, now: float) -> ColumnElement[int]:
    """Return `ReadingOrder.rank` as an expression of the database."""
    rank: ColumnElement[int] = col(Study.reading_rank)  # type: ignore[assignment]
    if not order.longest_wait_s:
        return rank
    overdue = and_(col(Study.first_received_at) <= now - order.longest_wait_s, rank > OVERDUE_AS.rank)
    return case((overdue, OVERDUE_AS.rank), else_=rank)


def counts_by_state(session: Session, since: float) -> dict[StudyState, int]:
    """Return how many studies are in each state, of those with an image since `since` (Unix time, seconds)."""
    query = (
        select(Study.state, func.count())
        .where(col(Study.last_received_at) >= since)
        .group_by(Study.state)
    )
    found = dict(session.exec(query).all())
    return {state: found.get(state, 0) for state in StudyState}


def study_page(session: Session, study_instance_uid: str) -> StudyPage | None:
    """Return one study with its trace, results, deliveries and jobs; None when there is no such study."""
    places = _places()
    query = select(Study, places.c.place).outerjoin(places, _waits(places))
    found = session.exec(query.where(Study.study_instance_uid == study_instance_uid)).one_or_none()
    if found is None:
        return None
    study, place = found
    results = session.exec(
        select(ResultObject).where(ResultObject.study_id == study.id)
        .order_by(col(ResultObject.revision).desc(), col(ResultObject.id))
    ).all()
    sent = col(Delivery.result_object_id).in_([result.id for result in results])
    images = select(Instance.series_instance_uid, func.count()).where(Instance.study_id == study.id)
    events = select(Event).where(Event.study_id == study.id).order_by(col(Event.at), col(Event.id))
    jobs = select(Job).where(Job.study_id == study.id).order_by(col(Job.queued_at), col(Job.id))
    notices = notices_of(session, [study_instance_uid]).get(study_instance_uid, [])
    return StudyPage(
        study=study,
        place=place,
        events=tuple(session.exec(events)),
        results=tuple(results),
        deliveries=tuple(session.exec(select(Delivery).where(sent).order_by(col(Delivery.stored_at)))),
        jobs=tuple(session.exec(jobs)),
        images=dict(session.exec(images.group_by(Instance.series_instance_uid)).all()),
        notices=tuple(notices),
        announced=frozenset(instances_held(session, {uid for n in notices for uid in n.listed})),
    )


def result_object(session: Session, study_instance_uid: str, sop_instance_uid: str) -> ResultObject | None:
    """Return one result object of one study; None when there is no such object, or it is of another study."""
    query = select(ResultObject).join(Study, col(Study.id) == ResultObject.study_id)
    return session.exec(
        query.where(Study.study_instance_uid == study_instance_uid)
        .where(ResultObject.sop_instance_uid == sop_instance_uid)
    ).one_or_none()


def image_paths(session: Session, study_id: int) -> dict[str, str]:
    """Return the path of each image of a study, relative to the spool, by SOP Instance UID."""
    query = select(Instance.sop_instance_uid, Instance.path).where(Instance.study_id == study_id)
    return dict(session.exec(query).all())


def _places() -> Subquery:
    """Number the jobs that wait for a model, in the order in which they will be claimed."""
    order = func.row_number().over(order_by=(col(Job.deadline_at), col(Job.id)))
    return (
        select(Job.study_id, Job.revision, order.label("place"))
        .where(Job.kind == JobKind.INFER, Job.state == JobState.WAITING)
        .subquery()
    )


def _waits(places: Subquery) -> ColumnElement[bool]:
    return and_(places.c.study_id == col(Study.id), places.c.revision == col(Study.revision))
