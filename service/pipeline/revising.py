"""A result is made anew once earlier studies have been looked at that it was not compared with."""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel import Session, col, select

from service.domain.job import JobKind, StudyState
from service.domain.urgency import Urgency
from service.pipeline.line import Line
from service.store.arrivals import locked
from service.store.fetched import FetchedPrior, askers_of, is_fetching, unused
from service.store.priors import earlier_of, others_of_this_id
from service.store.studies import add_event
from service.store.tables import Job, Study

_ENDED = (StudyState.ASSESSED.value, StudyState.NOT_ASSESSED.value, StudyState.FAILED.value)


def follow_up(line: Line, study_id: int) -> None:
    """Have those studies compared anew that waited for this one, once nothing more is to be waited for."""
    if not line.archives:
        return
    with line.database.reading() as session:
        askers = askers_of(session, session.get_one(Study, study_id))
    for asker in askers:
        revise_if_due(line, asker)


def revise_if_due(line: Line, study_id: int) -> None:
    """Queue a new look at a study behind all other work, when earlier studies came that it was not compared with.

    Its present result stands until the new one is there. The images of a CT are needed once more, for lesions are followed
    voxel by voxel.
    """
    now = line.clock()
    with line.database.transaction() as session:
        study = locked(session, study_id)
        rows = unused(session, study_id)
        waits = is_fetching(session, study_id) or _under_way(session, rows)
        if not rows or waits or study.state != StudyState.ASSESSED.value:
            return
        for row in rows:
            row.used_at = now
            session.add(row)
        if not _differs(session, study):
            doubtful = 0 if earlier_of(session, study, 1) else others_of_this_id(session, study)
            if doubtful:
                add_event(session, study_id, now, "no_comparison", f"{doubtful} earlier studies carry this Patient ID, but "
                          "another issuer or birth date")
            return
        if study.images_deleted_at is not None:
            add_event(session, study_id, now, "prior", "earlier studies came, but the images of this one are deleted")
            return
        line.queue.insert(session, Job(
            key=f"revise:{study.study_instance_uid}:{study.revision}", kind=JobKind.REVISE.value, study_id=study_id,
            revision=study.revision, urgency=Urgency.LOW.value, queued_at=now, deadline_at=now))
        add_event(session, study_id, now, "prior", "earlier studies have been looked at: the result is compared with them")


def _under_way(session: Session, rows: Sequence[FetchedPrior]) -> bool:
    """Tell whether one of the studies asked for is still on its way to a result."""
    if any(row.ended_at is None for row in rows):
        return True
    uids = [row.study_instance_uid for row in rows]
    return session.exec(select(Study.id).where(
        col(Study.study_instance_uid).in_(uids), col(Study.state).not_in(_ENDED))).first() is not None


def _differs(session: Session, study: Study) -> bool:
    """Tell whether a comparison would say something else now."""
    earlier = earlier_of(session, study)
    said = study.summary.get("prior") or {}
    if not earlier:
        return False
    return said.get("study_instance_uid") != earlier[0].study_instance_uid or len(said.get("course", ())) < len(earlier)
