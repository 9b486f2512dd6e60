"""What happened to a study, from the first image to the PACS: for `firstlook explain`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from service.errors import Reason
from service.pipeline.announcements import announcement
from service.store.database import Database
from service.store.worklist import StudyPage, study_page


def explain(database: Database, study_instance_uid: str) -> list[str] | None:
    """Return the story of a study in lines, free of patient data; None when no such study is here.

    What it is and how it stands, then its trace, its jobs and its objects, with times in UTC.
    """
    with database.reading() as session:
        page = study_page(session, study_instance_uid)
    return None if page is None else [*_standing(page), "", *_trace(page), "", *_jobs(page), *_objects(page)]


def _standing(page: StudyPage) -> list[str]:
    study = page.study
    images = sum(page.images.values())
    place = f", place {page.place} in the queue" if page.place else ""
    lines = [
        f"study      {study.study_instance_uid}",
        f"images     {images} in {len(page.images)} series, sent by {study.calling_aet}",
        f"state      {study.state}, revision {study.revision}{place}",
        f"urgency    {study.urgency} ({study.urgency_reason or 'not judged yet'}), read as {study.reading_urgency}",
        f"delivery   {study.delivery} {study.delivery_detail}".rstrip(),
    ]
    lines += [f"{name:<10} {text}" for name, text in _arrival(page)]
    if study.images_deleted_at is not None:
        lines.append(f"pixels     deleted {_time(study.images_deleted_at)}. {Reason.IMAGES_DELETED.sentence}")
    if study.state_reason:
        lines.append(f"reason     {study.state_reason}: {Reason(study.state_reason).sentence} {study.state_detail}".rstrip())
    if study.summary:
        lines += [f"model      {b['name']} {b['version']}: {_found(study.summary['findings'], b['name'])}"
                  for b in study.summary["bundles"]]
    return lines


def _arrival(page: StudyPage) -> list[tuple[str, str]]:
    """Say whether the study is complete, and what of it others have announced."""
    at = page.study.completed_at
    ends = [e.text for e in page.events if e.stage == "complete"]
    said = [("complete", f"{_time(at)} {ends[-1] if ends else ''}".rstrip() if at else "not yet, images may come")]
    told = announcement(page.notices, page.announced)
    if told is not None:
        here = told.listed - len(told.missing)
        said.append(("announced", f"{told.told}: {here} of {told.listed} announced images are here"))
        said += [("missing", uid) for uid in told.missing[:_NAMED]]
        if len(told.missing) > _NAMED:
            said.append(("missing", f"and {len(told.missing) - _NAMED} more"))
    return said


def _found(findings: list[dict[str, Any]], bundle: str) -> str:
    said = [f"{f['place']} {f['name']} {f['presence']} ({f['probability']:.2f}, threshold {f['threshold']:g})".strip()
            for f in findings if f["bundle"] == bundle]
    return "; ".join(said) or "no findings of its own"


def _trace(page: StudyPage) -> list[str]:
    return [f"{_time(e.at)}  {e.stage:<13} {e.text}" for e in page.events] or ["no trace"]


def _jobs(page: StudyPage) -> list[str]:
    return [
        f"job        {job.kind} {job.target} revision {job.revision}: {job.state}, {job.failures} failures "
        f"{job.reason} {job.detail}".rstrip()
        for job in page.jobs
    ]


def _objects(page: StudyPage) -> list[str]:
    stored: dict[int | None, list[str]] = {}
    for sent in page.deliveries:
        stored.setdefault(sent.result_object_id, []).append(sent.target)
    return [
        f"object     {made.kind.upper()} {made.sop_instance_uid} revision {made.revision}, stored in "
        f"{', '.join(stored.get(made.id, [])) or 'no target yet'}"
        for made in page.results
    ]


_NAMED = 20  # missing images named


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
