"""Bundles that look beside the active ones get a job each, once a study has its result."""

from __future__ import annotations

from sqlmodel import Session

from service import logs
from service.domain.job import JobKind
from service.domain.manifest import InvalidManifest
from service.domain.study import Kind
from service.domain.urgency import Urgency
from service.errors import UnusableStudy
from service.pipeline.line import Line
from service.store.tables import Job, Study

_log = logs.get("shadow")


def queue_shadows(line: Line, session: Session, study: Study, now: float) -> None:
    """Queue a look by each of the bundles that are beside the active ones and are for this kind of study."""
    names = line.beside(session)
    active = line.active(session, Kind(study.kind)) if names else ()
    for name in names:
        if name in active or not _is_for(line, name, study.kind):
            continue
        line.queue.insert(session, Job(
            key=f"shadow:{name}:{study.study_instance_uid}:{study.revision}", kind=JobKind.SHADOW.value,
            study_id=study.id or 0, revision=study.revision, target=name, urgency=Urgency.LOW.value, queued_at=now,
            deadline_at=now + line.target_s(Urgency.LOW)))


def _is_for(line: Line, name: str, kind: str) -> bool:
    """Tell whether a bundle looks at this kind of study; one that is gone, or no longer whole, looks at nothing."""
    try:
        return line.catalogue.get(name).kind.value == kind
    except (UnusableStudy, InvalidManifest) as error:
        _log.warning("a bundle that is to look beside cannot be used", extra={"bundle": name, "because": str(error)})
        return False
