"""Bundles that look beside the active ones get a job each, once a study has its result."""

from __future__ import annotations

from sqlmodel import Session

from service.domain.job import JobKind
from service.domain.urgency import Urgency
from service.pipeline.line import Line
from service.store.tables import Job, Study


def queue_shadows(line: Line, session: Session, study: Study, now: float) -> None:
    """Queue a look by each of the bundles that are beside the active ones and are for this kind of study."""
    for name in line.shadows:
        if line.catalogue.get(name).kind.value != study.kind:
            continue
        line.queue.insert(session, Job(
            key=f"shadow:{name}:{study.study_instance_uid}:{study.revision}", kind=JobKind.SHADOW.value,
            study_id=study.id or 0, revision=study.revision, target=name, urgency=Urgency.LOW.value, queued_at=now,
            deadline_at=now + line.target_s(Urgency.LOW)))
