"""One job: look at a study, send its result, or prove that the result is kept."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from service import logs
from service.assemble.choose import choose
from service.domain.finding import Assessment
from service.domain.flag import Look
from service.domain.job import BEHIND, DeliveryState, JobKind, JobState, StudyState
from service.domain.study import Kind, Selection
from service.domain.urgency import Urgency
from service.errors import FirstlookError, Rejected, UnusableStudy
from service.pipeline.beside import Beside
from service.pipeline.completion import chosen_digest
from service.pipeline.drifting import count
from service.pipeline.fetching import fetch
from service.pipeline.first_look import tell_first, withdraw
from service.pipeline.line import Line
from service.pipeline.look import Looked, bundles_here, look
from service.pipeline.look_ct import Course, Part
from service.pipeline.outcome import now_of, previous_reports, record, refuse
from service.pipeline.priors import compared_with_prior
from service.pipeline.prove import prove
from service.pipeline.revising import follow_up
from service.pipeline.sending import send
from service.pipeline.shadow import look_beside
from service.pipeline.timing import timed
from service.report.build import build
from service.store.arrivals import locked
from service.store.studies import StoredImage, add_event, images_of
from service.store.tables import Job, Study
from service.triage.turns import Pace, PassedOver, Turn

_log = logs.get("run")
_WORTH_SAYING_S = 0.05
_LATER_S = 30.0  # a look that stands behind all others is tried again after this
_LOOK_S = 60.0  # a look at images that still arrived is waited for so long


def run(line: Line, job: Job, study: Study) -> None:
    """Do one leased job to its end. study: its row, read since the job was leased.

    Raises: Unavailable, to be tried again; Rejected, when a peer refuses for good.
    """
    if job.kind == JobKind.INFER.value and job.target != BEHIND:
        with line.turns.taken(Urgency(job.urgency), due_in_s=job.deadline_at - line.clock(),
                              pace=Pace.MOMENT if study.kind == Kind.CXR.value else Pace.FIRST) as turn:
            _infer(line, job, turn)
        follow_up(line, job.study_id)
    elif job.kind in (JobKind.INFER.value, JobKind.REVISE.value):
        _infer_behind(line, job)
    elif job.kind == JobKind.FETCH.value:
        fetch(line, job)
    elif job.kind == JobKind.PROVE.value:
        prove(line, job)
    elif job.kind == JobKind.SHADOW.value:
        look_beside(line, job)
    else:
        send(line, job)


def _infer_behind(line: Line, job: Job) -> None:
    """Look behind all other work: stand still for it, and let go when that takes long, to begin anew another time."""
    try:
        with line.turns.taken(None, lets_go=True) as turn:
            _infer(line, job, turn)
    except PassedOver:
        with line.database.transaction() as session:
            if line.queue.holds(session, job):
                line.queue.defer(session, job, line.clock() + _LATER_S, "passed over: other studies wait")
        return
    follow_up(line, job.study_id)


def _infer(line: Line, job: Job, turn: Turn) -> None:
    with line.database.reading() as session:
        study = session.get_one(Study, job.study_id)
        images = images_of(session, job.study_id)
    line.spool_dir.bring(i.path for i in images if i.path)
    try:
        selection = choose([i.header for i in images], line.geometry, line.comparison.of(images), line.frames.of(images))
    except UnusableStudy as error:
        if study.state == StudyState.RECEIVING.value or study.revision != job.revision:
            _overtaken(line, job)
        else:
            _refuse(line, study, job, error)
        return
    again = job.kind == JobKind.REVISE.value
    moved_on = study.revision != job.revision or (again and study.state != StudyState.ASSESSED.value)
    if moved_on or chosen_digest(selection, images) != study.input_digest:
        _overtaken(line, job)
        return
    revision = study.revision + again
    if not again:
        _begin(line, job)
    line.turns.give_way()
    try:
        with line.engine.watching(job.study_id) as seen:
            looked = _look(line, job, study, selection, images)
        if not again and not study.fetched:
            _tell(line, job, study, looked.assessment, len(selection.headers))
        line.turns.give_way()
        with (Beside(partial(compared_with_prior, line, study, selection, looked.assessment)).begin() as compared,
              timed(line.metrics, "report", selection.kind.value)):
            made = build(
                selection=selection, sources=looked.sources, assessment=looked.assessment, style=line.style,
                input_digest=study.input_digest, revision=revision, previous=previous_reports(line, study, revision),
                now=now_of(line), pictures=looked.pictures, compared=compared.result,
                give_way=line.turns.give_way)
        assessment, comparison = compared.result()
        line.turns.give_way()
        _say_held(line, job, turn)
    except UnusableStudy as error:
        _refuse(line, study, job, error)
        return
    if record(line, job, study, assessment, made, comparison):
        line.metrics.jobs.labels(job.kind, "done").inc()
        if not again and not study.fetched:
            count(line, selection.headers, study.calling_aet, seen)


def _look(line: Line, job: Job, study: Study, selection: Selection, images: Sequence[StoredImage]) -> Looked:
    """Look at the images, or take the look that was had while they arrived; one that is under way is waited for."""
    line.shelf.wait_for_look(job.study_id, study.input_digest, _LOOK_S)
    known: Looked | None = line.shelf.take_look(job.study_id, study.input_digest)
    if known is not None and known.bundles == bundles_here(line, selection.kind):
        line.metrics.slices_ahead.labels("used").inc(len(selection.headers))
        return known
    slices = line.shelf.take(job.study_id)
    line.metrics.slices_ahead.labels("used").inc(len(slices))

    def first(said: Assessment, part: Part) -> None:
        if part.step > 1:  # else it is the full look, which is told with what every bundle says
            tell_first(line, study, study.input_digest, Urgency(job.urgency), job, said, part)
            line.turns.has_told()

    return look(line, selection, images, course=Course(slices, first=first))


def _tell(line: Line, job: Job, study: Study, said: Assessment, images: int) -> None:
    """Put what was found onto the worklist before its documents are made, unless a first look at the same has told of it."""
    tell_first(line, study, study.input_digest, Urgency(job.urgency), job, said, Part(images, images, 1), Look.FULL)
    line.turns.has_told()


def _say_held(line: Line, job: Job, turn: Turn) -> None:
    """Write down how long a look stood still for those that go before it, where it did."""
    if turn.held_s < _WORTH_SAYING_S:
        return
    line.metrics.held_seconds.labels(job.urgency).inc(turn.held_s)
    with line.database.transaction() as session:
        add_event(session, job.study_id, line.clock(), "held",
                  f"stood still {turn.held_s:.1f} s for studies that go before it")


def _refuse(line: Line, study: Study, job: Job, error: UnusableStudy) -> None:
    line.metrics.jobs.labels(job.kind, "refused").inc()
    if job.kind == JobKind.REVISE.value:  # the result that is there stands
        with line.database.transaction() as session:
            if line.queue.holds(session, job):
                line.queue.end(session, job, JobState.DONE, error.reason.value, error.detail)
        return
    if not _put_off(line, job, error):
        refuse(line, study, error.reason, error.detail, job)


def _put_off(line: Line, job: Job, error: UnusableStudy) -> bool:
    """Keep a refusal out of the PACS while images may come that can be read; False when the study is complete."""
    now = line.clock()
    with line.database.transaction() as session:
        row = locked(session, job.study_id)
        if row.completed_at is not None or row.revision != job.revision or not line.queue.holds(session, job):
            return False
        line.queue.end(session, job, JobState.DONE, error.reason.value, error.detail)
        if row.state != StudyState.RECEIVING.value:
            row.state, row.state_reason, row.state_detail = (
                StudyState.NOT_ASSESSED.value, error.reason.value, error.detail)
            withdraw(row)
            session.add(row)
        add_event(session, job.study_id, now, "put_off",
                  f"{error.reason.value}: {error.reason.sentence} {error.detail}; decided when the study is complete")
    return True


def _overtaken(line: Line, job: Job) -> None:
    """More images came since this job was queued: the study is judged again, and a job of the next revision follows."""
    with line.database.transaction() as session:
        row = locked(session, job.study_id)
        if not line.queue.holds(session, job):
            return
        line.queue.end(session, job, JobState.CANCELLED, detail="images came late; a newer revision follows")
        if row.revision == job.revision and row.state in (StudyState.QUEUED.value, StudyState.INFERRING.value):
            row.state, row.completed_at = StudyState.RECEIVING.value, None
            session.add(row)


_UNSEEN = (JobKind.SHADOW.value, JobKind.FETCH.value, JobKind.REVISE.value)
"""Kinds of jobs whose failure is no matter of the study's result."""


def _begin(line: Line, job: Job) -> None:
    now = line.clock()
    line.metrics.queue_wait_seconds.labels(job.urgency).observe(max(0.0, now - job.queued_at))
    with line.database.transaction() as session:
        row = locked(session, job.study_id)
        if row.revision == job.revision and row.state != StudyState.RECEIVING.value:
            row.state, row.started_at = StudyState.INFERRING.value, now
            session.add(row)
        passed = line.queue.passed(session, job) if not job.failures else 0
        add_event(session, job.study_id, now, "inferring", f"waited {now - job.queued_at:.1f} s in the queue"
                  + (f"; passed {passed} less urgent" if passed else ""))
    line.metrics.overtakes.labels(job.urgency).inc(passed)


def fail(line: Line, job: Job, error: FirstlookError) -> None:
    """Write down a failure: try later, or park the job and say so on the worklist."""
    final = isinstance(error, Rejected)
    now = line.clock()
    with line.database.transaction() as session:
        study = locked(session, job.study_id)
        if not line.queue.holds(session, job):
            return
        if final:
            line.queue.end(session, job, JobState.PARKED, error.reason.value, error.detail)
        wait_s = None if final else line.queue.fail(session, job, error.reason, error.detail)
        what = "parked" if wait_s is None else f"tried again in {wait_s:.0f} s"
        add_event(session, job.study_id, now, "failed", f"{job.kind} {job.target}: {error.reason.value} "
                  f"{error.detail}; {what}".replace(" :", ":"))
        shown = job.kind not in _UNSEEN and (job.target or study.state != StudyState.RECEIVING.value)
        if shown and study.revision == job.revision:
            _show_failure(study, job, error, parked=wait_s is None)
            session.add(study)
    line.metrics.jobs.labels(job.kind, "parked" if wait_s is None else "retried").inc()
    if job.kind == JobKind.DELIVER.value:
        line.metrics.deliveries.labels(job.target, "refused" if final else "failed").inc()
    _log.warning("job failed", extra={"job": job.id, "kind": job.kind, "reason": error.reason.value, "next": what})
    if wait_s is None and job.kind == JobKind.INFER.value and study.revision == job.revision:
        refuse(line, study, error.reason, error.detail, state=StudyState.FAILED)


def _show_failure(study: Study, job: Job, error: FirstlookError, parked: bool) -> None:
    """Put a failure onto the worklist: of the delivery, or of the assessment once it will not be tried again."""
    if job.kind == JobKind.DELIVER.value:
        study.delivery = DeliveryState.PARKED.value if parked else DeliveryState.PENDING.value
        study.delivery_detail = f"{error.reason.value}: {error.detail}"
    elif job.kind == JobKind.PROVE.value:
        if parked and study.delivery != DeliveryState.PARKED.value:
            study.delivery = DeliveryState.UNPROVEN.value
        if study.delivery in (DeliveryState.SENT.value, DeliveryState.UNPROVEN.value):
            study.delivery_detail = f"{error.reason.value}: {error.detail}"
    elif parked:
        study.state, study.state_reason, study.state_detail = StudyState.FAILED.value, error.reason.value, error.detail
    else:
        study.state = StudyState.QUEUED.value
