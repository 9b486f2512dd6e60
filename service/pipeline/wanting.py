"""Each archive is asked for earlier studies, once a study is complete."""

from __future__ import annotations

from sqlmodel import Session

from service.domain.job import JobKind
from service.domain.urgency import Urgency
from service.pipeline.line import Line
from service.store.tables import Job, Study


def queue_fetching(line: Line, session: Session, study: Study) -> None:
    """Queue a job for each archive, once for each study; those that were fetched themselves ask for none."""
    if study.fetched or not study.kind:
        return
    now = line.clock()
    for name in line.archives:
        line.queue.insert(session, Job(
            key=f"fetch:{study.study_instance_uid}:{name}", kind=JobKind.FETCH.value, study_id=study.id or 0,
            revision=study.revision, target=name, urgency=Urgency.LOW.value, queued_at=now, deadline_at=now))
