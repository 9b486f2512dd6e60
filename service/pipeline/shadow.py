"""A bundle looks at a study beside the active ones: what it says is kept to be compared, and goes nowhere else."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from sqlmodel import select

from service import logs
from service.assemble.choose import choose
from service.domain.finding import Assessment
from service.domain.job import JobState
from service.domain.manifest import Manifest
from service.domain.shadow import differs
from service.domain.study import Selection
from service.errors import Reason, UnusableStudy
from service.metrics import Metrics
from service.pipeline.line import Line
from service.pipeline.look import look
from service.store.studies import images_of
from service.store.tables import Job, ShadowLook, Study

_log = logs.get("shadow")
_SEGMENTATION = "ct-segmentation"


def look_beside(line: Line, job: Job) -> None:
    """Let the bundle that the job names look at a study, behind all other work. Raises: EngineUnavailable."""
    with line.database.reading() as session:
        study = session.get_one(Study, job.study_id)
        images = images_of(session, job.study_id)
    if study.revision != job.revision or not all(image.path for image in images):
        with line.database.transaction() as session:
            if line.queue.holds(session, job):
                line.queue.end(session, job, JobState.CANCELLED, detail="the images are gone, or others came")
        return
    line.spool_dir.bring(i.path for i in images)
    manifest = line.catalogue.get(job.target)
    began, reason = time.perf_counter(), ""
    summary: dict[str, Any] = {}
    try:
        with line.turns.taken(None) as turn:
            selection = choose([i.header for i in images], line.geometry, line.comparison.of(images), line.frames.of(images))
            apart = replace(line, metrics=Metrics())  # its stages are not those of the results
            said = look(apart, selection, images, _with_what_it_needs(line, manifest, selection)).assessment
        summary = _own(said, manifest.name)
        seconds = time.perf_counter() - began - turn.held_s
    except UnusableStudy as error:
        seconds, reason = time.perf_counter() - began, error.reason.value
    _keep(line, job, study, manifest, summary, reason, seconds)


def _keep(line: Line, job: Job, study: Study, manifest: Manifest, summary: dict[str, Any], reason: str,
          seconds: float) -> None:
    now = line.clock()
    with line.database.transaction() as session:
        if not line.queue.holds(session, job):
            return
        line.queue.end(session, job, JobState.DONE, reason)
        known = session.exec(select(ShadowLook.id).where(
            ShadowLook.study_id == job.study_id, ShadowLook.revision == job.revision,
            ShadowLook.bundle == manifest.name)).first()
        if known is None:
            session.add(ShadowLook(
                study_id=job.study_id, revision=job.revision, bundle=manifest.name, version=manifest.version,
                digest=line.engine.identity(manifest.name).digest, reason=reason, seconds=seconds, looked_at=now,
                summary=summary))
    outcome = "refused" if reason else "differed" if differs(study.summary, summary) else "agreed"
    line.metrics.shadow_looks.labels(manifest.name, outcome).inc()
    line.metrics.jobs.labels(job.kind, "refused" if reason else "done").inc()
    _log.info("looked beside", extra={"study": study.study_instance_uid, "bundle": manifest.name, "outcome": outcome})


def _with_what_it_needs(line: Line, manifest: Manifest, selection: Selection) -> list[Manifest]:
    """Return the bundle, after the active segmentations where it is no segmentation: classifiers use their lungs."""
    if manifest.task == _SEGMENTATION:
        return [manifest]
    drawing = [m for m in line.bundles_for(selection.kind) if m.task == _SEGMENTATION and m.name != manifest.name]
    return [*drawing, manifest]


def _own(said: Assessment, name: str) -> dict[str, Any]:
    """Return what this bundle alone said.  Raises: UnusableStudy when others read the study and it did not."""
    whole = said.summary()
    findings = [f for f in whole["findings"] if f["bundle"] == name]
    measurements = whole["measurements"] if said.drawer.name == name else []
    if not findings and not measurements:
        raise UnusableStudy(Reason.NO_MODEL, f"{name} did not read this study")
    return {"findings": findings, "measurements": measurements}
