"""How long images are kept: deleted some time after their result is in the PACS; results, trace and headers stay."""

from __future__ import annotations

from sqlmodel import Session, col, or_, select
from sqlmodel.sql.expression import SelectOfScalar

from service import logs
from service.domain.job import DeliveryState, JobState, StudyState
from service.errors import Reason
from service.pipeline.line import Line
from service.store.arrivals import locked
from service.store.studies import add_event
from service.store.tables import Instance, Job, ResultObject, Study

_AT_ONCE = 20
_ENDED = (StudyState.ASSESSED.value, StudyState.NOT_ASSESSED.value)
_OPEN = (JobState.WAITING.value, JobState.LEASED.value)
_log = logs.get("retain")


def delete_images(line: Line, keep_s: float) -> int:
    """Delete the images of studies that are done with for so long; return of how many studies, at most a few at a time.

    keep_s: seconds since the result was delivered (proven, where a target proves it), and since the last image came.
    Never touched: what is not delivered, what failed, what is under way, and what waits for a person (patient_mismatch). A
    study that was refused without any report, or that was fetched, has nothing to deliver; there the time begins when it
    was complete.
    First the rows say so, then the files go: killed between, the files are found at the next start and go then.
    """
    before = line.clock() - keep_s
    with line.database.reading() as session:
        found = [study.id or 0 for study in session.exec(_done(before)).all()]
    for study_id in found:
        paths = _mark(line, study_id, before)
        for path in paths:
            line.spool_dir.remove(path)
        if paths:
            line.metrics.images_deleted.inc(len(paths))
            _log.info("images deleted", extra={"study": study_id, "images": len(paths)})
    return len(found)


def _done(before: float) -> SelectOfScalar[Study]:
    """Return the query of studies that were done with before a time, with images that are still there."""
    delivered = (col(Study.delivery) == DeliveryState.DELIVERED.value) & (col(Study.delivered_at) <= before)
    unsaid = (
        (col(Study.state) == StudyState.NOT_ASSESSED.value) & (col(Study.delivery) == DeliveryState.NONE.value)
        & (col(Study.completed_at) <= before) & col(Study.id).not_in(select(ResultObject.study_id)))
    compared = col(Study.fetched).is_(True) & (col(Study.completed_at) <= before)
    return (
        select(Study).where(
            col(Study.images_deleted_at).is_(None), col(Study.state).in_(_ENDED), col(Study.completed_at).is_not(None),
            col(Study.last_received_at) <= before, Study.state_reason != Reason.PATIENT_MISMATCH.value,
            or_(delivered, unsaid, compared), col(Study.id).not_in(select(Job.study_id).where(col(Job.state).in_(_OPEN))))
        .order_by(col(Study.id)).limit(_AT_ONCE))


def _mark(line: Line, study_id: int, before: float) -> list[str]:
    """Write down that the images of a study are gone; return their paths. None when it is no longer done with."""
    now = line.clock()
    with line.database.transaction() as session:
        study = locked(session, study_id)
        if session.exec(_done(before).where(Study.id == study_id)).first() is None:
            return []
        paths, size_bytes = _taken(session, study_id)
        study.images_deleted_at = now
        session.add(study)
        if paths:
            add_event(session, study_id, now, "deleted",
                      f"{len(paths)} images ({size_bytes / 1e6:.1f} MB) deleted; results and trace stay. To have the study "
                      "looked at again, send it again")
    return paths


def _taken(session: Session, study_id: int) -> tuple[list[str], int]:
    """Take the paths out of the rows of a study's images; return them, and the bytes of the files."""
    rows = session.exec(select(Instance).where(Instance.study_id == study_id, Instance.path != "")).all()
    paths = [row.path for row in rows]
    for row in rows:
        row.path = ""
        session.add(row)
    return paths, sum(row.size_bytes for row in rows)
