"""A study is put in order of urgency, or refused with a reason: when it is complete, or early for what can be read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from sqlmodel import Session

from service import logs
from service.assemble.choose import choose
from service.assemble.complete import Complete
from service.assemble.early import why_early
from service.assemble.quiet import Arrival, in_words, pauses
from service.domain.job import BEHIND, JobKind, JobState, StudyState
from service.domain.manifest import Manifest
from service.domain.order import deadline_at
from service.domain.study import Kind, Selection
from service.domain.urgency import Urgency
from service.errors import FirstlookError, Reason, Unavailable, UnusableStudy
from service.pipeline.accept import accepting
from service.pipeline.completion import Completion, chosen_digest, revised, standing
from service.pipeline.facts import facts_here
from service.pipeline.line import Line
from service.pipeline.outcome import refuse
from service.pipeline.sending import queue_sending
from service.pipeline.wanting import queue_fetching
from service.store.arrivals import locked, look_at
from service.store.studies import StoredImage, add_event, images_of, input_digest, results_of, too_large
from service.store.tables import Job, Study
from service.triage.rules import Decision, decide

_log = logs.get("admit")
_BEHIND_S = 365 * 86400.0  # later than any deadline
_FETCHED = Decision(Urgency.LOW, "fetched to be compared with another study")
_LINES = 20  # of the trace, at most, for what was set aside


@dataclass(frozen=True)
class _Chosen:
    """What shall be read, by which bundles, and why by no others."""

    selection: Selection
    manifests: list[Manifest]
    notes: list[str]


def admit(line: Line, study_id: int, complete: Complete) -> bool:
    """Judge a complete study: choose its images, decide its urgency, and queue it; or refuse it with a reason.

    A result of these very images that is there already, or under way, stands. One transaction writes all of it: killed
    before, the study is judged again. Returns False when more images came, or the models refused these, meanwhile.
    """
    study, images, look = _read(line, study_id)
    with line.tracing.span("admit", study.study_instance_uid, images=len(images), because=complete.because.value):
        return _judged(line, study, images, look, complete)


def _judged(line: Line, study: Study, images: list[StoredImage], look: Job | None, complete: Complete) -> bool:
    study_id = study.id or 0
    facts, arrivals = facts_here(line, study, images), [_arrival(i) for i in images]
    completion = Completion(
        input_digest(images), len(images), study.revision, facts.ordered_priority,
        _FETCHED if study.fetched else decide(facts, line.rules), complete, pauses=pauses(arrivals, line.longest_wait_s),
        arrived=in_words(arrivals))
    kind, outcome = _kind_label(study.modality), "not_assessed"
    try:
        _require_whole(line, study_id)
        chosen = _choose(line, images)
    except UnusableStudy as error:
        done = refuse(line, study, error.reason, error.detail, completion=completion)
    else:
        completion = replace(completion, input_digest=chosen_digest(chosen.selection, images))
        if _was_refused(look) and completion.input_digest == study.input_digest:
            assert look is not None
            done = refuse(line, study, Reason(look.reason), look.detail, completion=replace(completion, anew=False))
        else:
            kind, outcome = chosen.selection.kind.value, "queued"
            done = _enqueue(line, study_id, chosen, completion)
    if done:
        line.metrics.studies_complete.labels(kind, outcome).inc()
        line.metrics.completions.labels(complete.because.value).inc()
    return done


def start_early(line: Line, study_id: int) -> bool:
    """Queue what a model may read already, before the study is complete; return whether there was such a thing.

    Nothing is refused here: what cannot be read yet may be readable when the rest has come.
    """
    study, images, _ = _read(line, study_id)
    try:
        chosen = _choose(line, images)
    except UnusableStudy:
        return False
    why = why_early(chosen.selection)
    if why is None:
        return False
    facts = facts_here(line, study, images)
    completion = Completion(
        chosen_digest(chosen.selection, images), len(images), study.revision, facts.ordered_priority,
        _FETCHED if study.fetched else decide(facts, line.rules), None, early=why)
    return _enqueue(line, study_id, chosen, completion)


def give_up(line: Line, study_id: int, error: FirstlookError) -> None:
    """Say on the worklist that a study could not be admitted. Raises the error again when it may pass."""
    if isinstance(error, Unavailable):
        raise error
    line.metrics.jobs.labels("admit", "parked").inc()
    now = line.clock()
    with line.database.transaction() as session:
        study = locked(session, study_id)
        study.state, study.state_reason, study.state_detail = StudyState.FAILED.value, error.reason.value, error.detail
        study.completed_at = now
        session.add(study)
        add_event(session, study_id, now, "failed", f"{error.reason.value}: {error.reason.sentence}")


def _read(line: Line, study_id: int) -> tuple[Study, list[StoredImage], Job | None]:
    """Return a study, its images, and the job of its present revision."""
    with line.database.reading() as session:
        study = session.get_one(Study, study_id)
        return study, images_of(session, study_id), look_at(session, study_id, study.revision)


def _require_whole(line: Line, study_id: int) -> None:
    """Refuse a study of which images were not taken.  Raises: UnusableStudy (study_too_large)."""
    with line.database.reading() as session:
        lacking = too_large(session, study_id)
    if lacking:
        raise UnusableStudy(Reason.STUDY_TOO_LARGE, lacking.removeprefix(Reason.STUDY_TOO_LARGE.sentence).strip())


def _choose(line: Line, images: list[StoredImage]) -> _Chosen:
    """Choose the images and the bundles that may read them. Raises: UnusableStudy."""
    gone = sum(not image.path for image in images)
    if gone:
        raise UnusableStudy(Reason.IMAGES_DELETED, f"{gone} of {len(images)} images are gone")
    selection = choose([i.header for i in images], line.geometry, line.comparison.of(images), line.frames.of(images))
    return _Chosen(selection, *accepting(line.bundles_for(selection.kind), selection))


def _was_refused(look: Job | None) -> bool:
    """Tell whether the models refused these images; early, that is kept out of the PACS."""
    return look is not None and look.state == JobState.DONE.value and bool(look.reason)


def _arrival(image: StoredImage) -> Arrival:
    header = image.header
    return Arrival(image.received_at, image.calling_aet, header.modality, header.series_instance_uid)


def _kind_label(modalities: str) -> str:
    """Return ct, cxr or other: what a sender wrote must not become a label."""
    known = {"CT": Kind.CT.value, "CR": Kind.CXR.value, "DX": Kind.CXR.value}
    return next((known[one] for one in modalities.split("/") if one in known), "other")


def _enqueue(line: Line, study_id: int, chosen: _Chosen, completion: Completion) -> bool:
    """Queue a look at the chosen images, unless one at these very images stands. False: judge it again."""
    now, decision = line.clock(), completion.decision
    with line.database.transaction() as session:
        study = locked(session, study_id)
        if not completion.still_holds(session, study):
            return False
        if completion.complete is not None and _refused_meanwhile(session, study, completion):
            return False
        if _stands(line, session, study, completion, now):
            return True
        completion.apply_to(study, now, line.target_s)
        completion.write_down(session, study, now, revised(study))
        job = Job(
            key=f"infer:{study.study_instance_uid}:{study.revision}", kind=JobKind.INFER.value, study_id=study_id,
            revision=study.revision, urgency=decision.urgency.value, queued_at=now, deadline_at=study.deadline_at or now)
        if study.fetched:
            study.deadline_at, job.target, job.deadline_at = None, BEHIND, now + _BEHIND_S
        line.queue.cancel_older(session, study_id, job.revision)
        line.queue.insert(session, job)
        place = line.queue.place(session, job)
        study.state, study.kind = StudyState.QUEUED.value, chosen.selection.kind.value
        study.state_reason = study.state_detail = ""
        session.add(study)
        if completion.complete is not None:
            queue_fetching(line, session, study)
        _explain(session, study_id, now, chosen)
        add_event(session, study_id, now, "queued",
                  f"place {place.position} of {place.waiting}; {decision.urgency.value}: {decision.reason}")
    if completion.complete is None:
        line.metrics.early_starts.labels(chosen.selection.kind.value).inc()
    _log.info("queued", extra={"study": study.study_instance_uid, "urgency": decision.urgency.value,
                               "place": place.position, "kind": chosen.selection.kind.value,
                               "early": completion.complete is None})
    return True


def _refused_meanwhile(session: Session, study: Study, completion: Completion) -> bool:
    """Tell whether the models refused these very images after the study was read: then it is judged again."""
    return study.input_digest == completion.input_digest and _was_refused(look_at(session, study.id or 0, study.revision))


def _stands(line: Line, session: Session, study: Study, completion: Completion, now: float) -> bool:
    """Let a look at the same images stand, with its state; only the urgency may have been raised. Tell whether it does."""
    look = look_at(session, study.id or 0, study.revision)
    stood = standing(look, completion.complete is not None) if study.input_digest == completion.input_digest else None
    if stood is None or look is None:
        return False
    study.state, study.state_reason, study.state_detail = stood
    _raise(line, session, study, look, completion.decision)
    if look.target == BEHIND and not study.fetched:
        _no_longer_behind(line, session, study, look)
    if completion.complete is not None:
        study.completed_at = now
        queue_fetching(line, session, study)
        completion.write_down(session, study, now, f"the look at revision {study.revision} stands: its images are the same")
    session.add(study)
    return True


def raise_urgency(line: Line, study_id: int) -> None:
    """Judge the urgency of a study again, because more is known of it: it can only rise, of what waits too."""
    study, images, look = _read(line, study_id)
    decision = decide(facts_here(line, study, images), line.rules)
    if look is None or study.fetched:
        return  # it is judged when it is complete
    with line.database.transaction() as session:
        row = locked(session, study_id)
        job = look_at(session, study_id, row.revision)
        if job is not None and _raise(line, session, row, job, decision):
            session.add(row)
            add_event(session, study_id, line.clock(), "raised", f"{decision.urgency.value}: {decision.reason}")


def _raise(line: Line, session: Session, study: Study, look: Job, decision: Decision) -> bool:
    """Raise the urgency of a study, and of the look at it while that waits; tell whether it rose."""
    urgency = decision.urgency
    if urgency.rank >= study.urgency_rank:
        return False
    study.urgency, study.urgency_rank, study.urgency_reason = urgency.value, urgency.rank, decision.reason
    reading = Urgency(study.reading_urgency).raised_to(urgency)
    study.reading_urgency, study.reading_rank = reading.value, reading.rank
    study.deadline_at = deadline_at(study.first_received_at, line.target_s(urgency))
    if look.state == JobState.WAITING.value:
        look.urgency, look.deadline_at = urgency.value, study.deadline_at
        session.add(look)
    return True


def _no_longer_behind(line: Line, session: Session, study: Study, look: Job) -> None:
    """Treat a study that was fetched, and has now been sent, like any other: it is due, and its result is sent."""
    if look.state == JobState.WAITING.value:
        study.deadline_at = deadline_at(study.first_received_at, line.target_s(Urgency(study.urgency)))
        look.target, look.deadline_at, look.urgency = "", study.deadline_at, study.urgency
        session.add(look)
    made = results_of(session, study.id or 0, study.revision)
    if made and look.state == JobState.DONE.value:
        queue_sending(line, session, study, study.revision, [r.kind for r in made], made[-1].sop_instance_uid)


def _explain(session: Session, study_id: int, now: float, chosen: _Chosen) -> None:
    """Write down which images and models were chosen, which were not, and why; a line for each series and reason."""
    selection = chosen.selection
    add_event(session, study_id, now, "chosen", selection.reason)
    aside = Counter((a.series_instance_uid, a.reason) for a in selection.set_aside)
    details = {(a.series_instance_uid, a.reason): a.detail for a in selection.set_aside}
    for (series, reason), count in list(aside.items())[:_LINES]:
        what = details[series, reason] if count == 1 else f"{count} images"
        add_event(session, study_id, now, "set_aside", f"series {series}: {reason} {what}".strip())
    if len(aside) > _LINES:
        add_event(session, study_id, now, "set_aside", f"and {len(aside) - _LINES} more series")
    read_by = ", ".join(f"{m.name} {m.version}" for m in chosen.manifests)
    add_event(session, study_id, now, "models", "; ".join((f"to be read by {read_by}", *chosen.notes)))

