"""A result goes to its targets: jobs that send it, the sending itself, and sending it again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from sqlmodel import Session, col, select, update

from service.audit.lookup import known
from service.deliver.target import Parcel
from service.domain.job import DeliveryState, JobKind, JobState
from service.pipeline.line import Line
from service.pipeline.timing import timed
from service.store.commitments import give_up
from service.store.deliveries import kinds_of, sent, settle_delivery, times_sent, undelivered
from service.store.studies import add_event, results_of
from service.store.tables import Delivery, Job, ResultObject, Study
from service.triage.queue import OPEN, Queue


def send(line: Line, job: Job) -> None:
    """Send what a target has not stored yet. Raises: Unavailable or Rejected, as the target does."""
    outlet = line.targets.get(job.target)
    rows: list[ResultObject] = []
    if outlet is not None:
        with line.database.reading() as session:
            rows = undelivered(session, job.study_id, job.revision, job.target, outlet.kinds)
            parcel = _parcel(line, session, job, rows)
        if rows:
            with timed(line.metrics, "deliver", "all"):
                outlet.target.deliver(parcel)
    now = line.clock()
    with line.database.transaction() as session:
        if not line.queue.holds(session, job):
            return
        line.queue.end(session, job, JobState.DONE, detail="" if outlet else "the target is no longer configured")
        if outlet is None:
            return
        at_once = outlet.prover is None
        for row in rows:
            session.add(Delivery(
                result_object_id=row.id or 0, target=job.target, stored_at=now, proven_at=now if at_once else None,
                proof="stored" if at_once else ""))
            line.metrics.deliveries.labels(job.target, "stored").inc()
        session.flush()
        study = session.get_one(Study, job.study_id)
        add_event(session, job.study_id, now, "stored", f"{kinds_of(rows) or 'nothing new'} stored in {job.target}")
        if rows and outlet.prover:
            queue_proof(line.queue, session, study, job, now)
        if study.revision == job.revision:
            settle_delivery(session, study, wanted(line), now)
    line.metrics.jobs.labels(job.kind, "done").inc()
    if rows:
        line.trail.delivered(job.target, known(study), list(Counter(r.sop_class_uid for r in rows).items()))


def _parcel(line: Line, session: Session, job: Job, rows: Sequence[ResultObject]) -> Parcel:
    study = session.get_one(Study, job.study_id)
    report = next((r for r in results_of(session, job.study_id, job.revision) if r.kind == "sr"), None)
    return Parcel(
        paths=tuple(line.results_dir / r.path for r in rows), report=line.results_dir / report.path if report else None,
        urgency=study.reading_urgency, revision=job.revision)


def wanted(line: Line) -> dict[str, frozenset[str]]:
    """Return the kinds of objects that each target takes."""
    return {name: outlet.kinds for name, outlet in line.targets.items()}


def queue_sending(line: Line, session: Session, study: Study, revision: int, made: Collection[str], last_uid: str) -> None:
    """Queue one job for each target that takes any of these kinds; the study then says that it is being sent.

    made: the kinds of objects there are; last_uid: SOP Instance UID of the last of them, which makes the jobs unique.
    """
    names = [name for name, kinds in wanted(line).items() if kinds & set(made)]
    if not names:
        return
    study.delivery, study.delivery_detail = DeliveryState.PENDING.value, ""
    session.add(study)
    for name in names:
        line.queue.insert(session, _job(study, revision, name, f"deliver:{last_uid}:{revision}:{name}", line.clock()))


def queue_proof(queue: Queue, session: Session, study: Study, job: Job, now: float) -> None:
    """Queue the job that asks for proof of what a job has sent."""
    proof = _job(study, job.revision, job.target, f"prove:{job.key}", now)
    proof.kind = JobKind.PROVE.value
    queue.insert(session, proof)


def send_again(session: Session, study: Study, revision: int, target: str, rows: Sequence[Delivery], now: float,
               wait_s: float | None = 0.0) -> None:
    """Forget that these objects were stored, and queue a job that sends them once more; wait_s None parks it."""
    for row in rows:
        session.delete(row)
    give_up(session, study.id or 0, revision, target, now)
    number = times_sent(session, study.id or 0, revision, target)
    job = _job(study, revision, target, f"deliver:{study.study_instance_uid}:{revision}:{target}#{number}", now)
    if wait_s is None:
        job.state, job.ended_at = JobState.PARKED.value, now
    else:
        job.not_before_at = now + wait_s
    session.add(job)
    session.flush()


def resend(session: Session, study: Study, targets: Mapping[str, Collection[str]], now: float) -> list[str]:
    """Send all of a study's present result once more, because a person says so; return the targets it goes to.

    targets: the kinds of objects that each takes; one that takes none of this result is left out. Jobs that already wait
    to send it are done at once instead; what waited for proof is asked for after the sending.
    """
    going = []
    number = study.id or 0
    made = {r.kind for r in results_of(session, number, study.revision)}
    for name, kinds in targets.items():
        if not made & set(kinds):
            continue
        mine = (col(Job.study_id) == number, col(Job.revision) == study.revision, col(Job.target) == name)
        session.exec(update(Job).where(
            *mine, col(Job.kind) == JobKind.PROVE.value, col(Job.state).in_((JobState.WAITING, JobState.PARKED)),
        ).values(state=JobState.CANCELLED.value, ended_at=now, detail="sent again instead"))
        if session.exec(select(Job.id).where(*mine, Job.kind == JobKind.DELIVER.value, col(Job.state).in_(OPEN))).first():
            session.exec(update(Job).where(
                *mine, col(Job.kind) == JobKind.DELIVER.value, col(Job.state) == JobState.WAITING.value,
            ).values(not_before_at=0.0))
        else:
            session.exec(update(Job).where(
                *mine, col(Job.kind) == JobKind.DELIVER.value, col(Job.state) == JobState.PARKED.value,
            ).values(state=JobState.CANCELLED.value, ended_at=now, detail="sent again instead"))
            send_again(session, study, study.revision, name, sent(session, number, study.revision, name), now)
        going.append(name)
    if going:
        study.delivery, study.delivery_detail = DeliveryState.PENDING.value, ""
        session.add(study)
        add_event(session, number, now, "resent", f"a person asked for it: to {', '.join(going)}")
    return going


def _job(study: Study, revision: int, target: str, key: str, now: float) -> Job:
    return Job(key=key, kind=JobKind.DELIVER.value, study_id=study.id or 0, revision=revision, target=target,
               urgency=study.reading_urgency, queued_at=now, deadline_at=study.deadline_at or now)
