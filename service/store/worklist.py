"""Queries of the worklist and of the study page. They only read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Subquery, and_, case, func
from sqlmodel import Session, col, select

from service.domain.job import JobKind, JobState, StudyState
from service.domain.order import NO_CAP, OVERDUE_AS, ReadingOrder, marks_are_kept
from service.store.arrivals import instances_held, notices_of
from service.store.corrections import corrections_of
from service.store.filters import Filter, Shown, conditions, ended_since, in_window
from service.store.marks import is_read, reopened
from service.store.tables import Correction, Delivery, Event, Instance, Job, Notice, Opinion, ResultObject, Study
from service.store.verdicts import verdicts_of
from service.store.workitems import WorkItem, items_of

_ALL_OPEN = Filter()


@dataclass(frozen=True)
class Census:
    """How many studies there are. by_state: on the open list; read: marked; old: past the cap, old_read: of them marked."""

    by_state: dict[StudyState, int]
    read: int = 0
    old: int = 0
    old_read: int = 0

    @property
    def open(self) -> int:
        """How many studies are on the open list."""
        return sum(self.by_state.values())

    def order(self, wanted: ReadingOrder) -> ReadingOrder:
        """Return the order in force: that of the settings where marks of reading are kept, else without the cap."""
        return wanted if marks_are_kept(self.old_read, self.old) else NO_CAP


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
    SOP Instance UIDs that they list and that are here; opinions: what readers said of the findings; corrections: what
    others sent back.
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
    opinions: tuple[Opinion, ...] = ()
    corrections: tuple[Correction, ...] = ()
    work_items: tuple[WorkItem, ...] = ()


def reading_list(
    session: Session, limit: int, now: float, window_s: float, order: ReadingOrder = NO_CAP, chosen: Filter = _ALL_OPEN,
) -> list[Entry]:
    """Return what to read next: by urgency, then by how long it has waited; one query.

    limit: most entries; now: Unix time, seconds; window_s: studies with no image since `now - window_s` are left out;
    order: the cap on the wait; chosen: what to show; what is read comes last read first.
    """
    places = _places()
    query = (
        select(Study, places.c.place)
        .outerjoin(places, _waits(places))
        .where(in_window(now - window_s), *conditions(chosen, now))
        .order_by(*_sorted(chosen.shown, order, now))
        .limit(limit)
    )
    return [entry_of(study, place, now, order) for study, place in session.exec(query)]


def entry_of(study: Study, place: int | None, now: float, order: ReadingOrder) -> Entry:
    """Return one study as an entry of the list; one that is read waits no longer."""
    read_at = study.read_at if study.read_at is not None and not reopened(study) else None
    waited_s = max(0.0, (now if read_at is None else read_at) - study.first_received_at)
    return Entry(study, place, waited_s, read_at is None and order.rank(study.reading_rank, waited_s) < study.reading_rank)


def _sorted(shown: Shown, order: ReadingOrder, now: float) -> list[Any]:
    if shown is Shown.READ:
        return [col(Study.read_at).desc(), col(Study.id).desc()]
    return [_rank(order, now) + 0, col(Study.first_received_at), col(Study.id)]  # + 0: the index of the window, not of this


def _rank(order: ReadingOrder, now: float) -> ColumnElement[int]:
    """Return `ReadingOrder.rank` as an expression of the database."""
    rank: ColumnElement[int] = col(Study.reading_rank)  # type: ignore[assignment]
    if not order.longest_wait_s:
        return rank
    overdue = and_(col(Study.first_received_at) <= now - order.longest_wait_s, rank > OVERDUE_AS.rank)
    return case((overdue, OVERDUE_AS.rank), else_=rank)


def how_many(session: Session, now: float, window_s: float, chosen: Filter) -> int:
    """Return how many studies a filter lets through; see `reading_list`."""
    query = select(func.count()).select_from(Study).where(in_window(now - window_s), *conditions(chosen, now))
    return session.exec(query).one()


def findings_seen(session: Session, now: float, window_s: float) -> list[str]:
    """Return the names of the findings that studies of the window have, in order of the alphabet."""
    query = select(Study.found).where(ended_since(now - window_s), col(Study.found).is_not(None)).distinct()
    return sorted({name for found in session.exec(query).all() for name in (found or "").strip("|").split("|")})


def census(session: Session, now: float, window_s: float, longest_wait_s: float = 0.0) -> Census:
    """Count the studies with an image since `now - window_s` (Unix time, seconds); one query.

    longest_wait_s: of the cap, seconds; 0: none, and no study is old.
    """
    old = col(Study.first_received_at) <= (now - longest_wait_s if longest_wait_s else -1.0)
    state = func.coalesce(col(Study.state), "")  # else SQLite walks through all studies by the index of their states
    parts = [state, is_read(), old]
    query = select(*parts, func.count()).where(in_window(now - window_s)).group_by(*parts)  # type: ignore[call-overload]
    by_state, read, olds = dict.fromkeys(StudyState, 0), 0, {True: 0, False: 0}
    for state, marked, past, count in session.exec(query).all():
        if marked:
            read += count
        else:
            by_state[StudyState(state)] += count
        if past:
            olds[bool(marked)] += count
    return Census(by_state, read, olds[True] + olds[False], olds[True])


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
        opinions=tuple(verdicts_of(session, study.id or 0)),
        corrections=tuple(corrections_of(session, study.id or 0)),
        work_items=tuple(items_of(session, study_instance_uid)),
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
