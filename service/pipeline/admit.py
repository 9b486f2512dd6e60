"""A complete study is put in order of urgency, or refused with a reason."""

from __future__ import annotations

from service import logs
from service.assemble.choose import choose
from service.domain.job import JobKind, StudyState
from service.domain.study import Header, Selection
from service.errors import FirstlookError, Unavailable, UnusableStudy
from service.pipeline.accept import accepting
from service.pipeline.completion import Completion
from service.pipeline.line import Line
from service.pipeline.outcome import refuse
from service.store.studies import StoredImage, add_event, images_of, input_digest
from service.store.tables import Job, Study
from service.triage.rules import Facts, decide

_log = logs.get("admit")
_PRIORITIES = ("STAT", "HIGH", "ROUTINE", "MEDIUM", "LOW")


def admit(line: Line, study_id: int, why_complete: str) -> None:
    """Judge a complete study: choose its images, decide its urgency, and queue it; or refuse it with a reason.

    why_complete: in words, for the trace. One transaction writes all of it: killed before, the study is judged again.
    """
    with line.database.reading() as session:
        study = session.get_one(Study, study_id)
        images = images_of(session, study_id)
    facts = _facts(study, images)
    decision = decide(facts, line.emergency_ae_titles)
    completion = Completion(input_digest(images), facts.ordered_priority, decision, why_complete)
    try:
        selection = choose([i.header for i in images], line.geometry, line.comparison.of(images))
        accepting(line.bundles_for(selection.kind), selection)
    except UnusableStudy as error:
        line.metrics.studies_complete.labels(study.modality.split("/")[0] or "none", "not_assessed").inc()
        refuse(line, study, error.reason, error.detail, completion=completion)
        return
    _enqueue(line, study_id, selection, completion)


def give_up(line: Line, study_id: int, error: FirstlookError) -> None:
    """Say on the worklist that a complete study could not be admitted. Raises the error again when it may pass."""
    if isinstance(error, Unavailable):
        raise error
    line.metrics.jobs.labels("admit", "parked").inc()
    with line.database.transaction() as session:
        study = session.get_one(Study, study_id)
        study.state, study.state_reason, study.state_detail = StudyState.FAILED.value, error.reason.value, error.detail
        session.add(study)
        add_event(session, study_id, line.clock(), "failed", f"{error.reason.value}: {error.reason.sentence}")


def _facts(study: Study, images: list[StoredImage]) -> Facts:
    headers: list[Header] = [i.header for i in images]
    ordered = {h.requested_procedure_priority.upper() for h in headers}
    priority = next((p for p in _PRIORITIES if p in ordered), "")
    texts = {t for h in headers for t in (h.study_description, h.series_description, h.protocol_name) if t}
    return Facts(priority, study.modality, " ".join(sorted(texts)), study.calling_aet)


def _enqueue(line: Line, study_id: int, selection: Selection, completion: Completion) -> None:
    now, decision = line.clock(), completion.decision
    with line.database.transaction() as session:
        study = session.get_one(Study, study_id)
        completion.apply_to(study, now, line.target_s)
        add_event(session, study_id, now, "complete", completion.in_words(study))
        job = Job(
            key=f"infer:{study.study_instance_uid}:{study.revision}", kind=JobKind.INFER.value, study_id=study_id,
            revision=study.revision, urgency=decision.urgency.value, queued_at=now, deadline_at=study.deadline_at or now)
        line.queue.cancel_older(session, study_id, job.revision)
        line.queue.insert(session, job)
        place = line.queue.place(session, job)
        study.state, study.kind = StudyState.QUEUED.value, selection.kind.value
        study.state_reason = study.state_detail = ""
        session.add(study)
        add_event(session, study_id, now, "chosen", selection.reason)
        for aside in selection.set_aside:
            add_event(session, study_id, now, "set_aside",
                      f"series {aside.series_instance_uid}: {aside.reason} {aside.detail}".strip())
        add_event(session, study_id, now, "queued",
                  f"place {place.position} of {place.waiting}; {decision.urgency.value}: {decision.reason}")
    line.metrics.studies_complete.labels(selection.kind.value, "queued").inc()
    _log.info("queued", extra={"study": study.study_instance_uid, "urgency": decision.urgency.value,
                               "place": place.position, "kind": selection.kind.value})
