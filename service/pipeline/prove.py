"""A result counts as delivered only when its target has proven that it keeps it: ask, wait, judge, send again."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from enum import Enum, auto
from functools import partial

from sqlmodel import Session

from service import logs
from service.deliver.target import Prover
from service.domain.commitment import Proof, Verdict, judge
from service.domain.job import DeliveryState, JobState
from service.errors import PeerUnavailable, Reason, RefusedByPeer
from service.pipeline.line import Line
from service.pipeline.sending import send_again, wanted
from service.store.commitments import commitments_of, is_answered, mark
from service.store.deliveries import kinds_of, settle_delivery, times_sent, unproven
from service.store.studies import add_event
from service.store.tables import Commitment, Delivery, Job, ResultObject, Study

_log = logs.get("prove")

Row = tuple[Delivery, ResultObject]


class _Next(Enum):
    """What is left to do: nothing (ended, or waiting for a report), ask for a commitment, or look with a query."""

    NOTHING = auto()
    ASK = auto()
    LOOK = auto()


def prove(line: Line, job: Job) -> None:
    """Bring the proof of one result at one target a step further; the job waits where a report is awaited.

    Raises: PeerUnavailable, to be tried again; RefusedByPeer when the target can prove nothing.
    """
    outlet = line.targets.get(job.target)
    prover = outlet.prover if outlet else None
    following = _judge(line, job, prover)
    if prover is None or following is _Next.NOTHING:
        return
    if following is _Next.ASK and prover.proof is Proof.COMMIT and _ask(line, job, prover):
        following = _judge(line, job, prover)
    if following is not _Next.NOTHING:
        _look(line, job, prover, overdue=following is _Next.LOOK)


def _judge(line: Line, job: Job, prover: Prover | None) -> _Next:
    """Act upon the reports that have come, in one transaction, and say what is left to do."""
    now = line.clock()
    with line.database.transaction() as session:
        commitments = commitments_of(session, job.study_id, job.revision, job.target)
        if not line.queue.holds(session, job):
            return _Next.NOTHING
        silent = False
        for one in commitments:
            if one.answered_at is not None and one.judged_at is None:
                silent = _apply(line, session, job, one, now) or silent
        left = unproven(session, job.study_id, job.revision, job.target)
        if prover is None:
            _proven(line, session, job, left, "stored", now)
            left = []
        if not left:
            _end(line, session, job, now)
            return _Next.NOTHING
        open_ = [c for c in commitments if c.taken_at and c.answered_at is None and c.given_up_at is None]
        due = min((c.due_at for c in open_), default=0.0)
        if due > now:
            line.queue.defer(session, job, due, f"waits for the report of {job.target}")
            return _Next.NOTHING
        for one in open_:
            one.given_up_at = now
            session.add(one)
            line.metrics.commitments.labels(job.target, "late").inc()
            add_event(session, job.study_id, now, "commitment", f"{job.target} sent no report within "
                      f"{one.due_at - one.asked_at:.0f} s; it is asked by a query")
    return _Next.LOOK if open_ or silent else _Next.ASK


def _apply(line: Line, session: Session, job: Job, one: Commitment, now: float) -> bool:
    """Act upon one report: mark what is kept, send again what is not; tell whether it was silent about anything."""
    verdict = judge(one.objects, one.kept, one.failed)
    one.judged_at = now
    session.add(one)
    rows = unproven(session, job.study_id, job.revision, job.target)
    _proven(line, session, job, [r for r in rows if r[1].sop_instance_uid in verdict.kept], "commit", now)
    lost = [r for r in rows if r[1].sop_instance_uid in verdict.failed]
    if lost:
        line.metrics.commitments.labels(job.target, "failed").inc(len(lost))
        _again(line, session, job, lost, _reasons(verdict), verdict.is_final, now)
    return bool(verdict.unnamed)


def _ask(line: Line, job: Job, prover: Prover) -> bool:
    """Request a commitment; False when the target offers none. The transaction is written down first."""
    now = line.clock()
    with line.database.transaction() as session:
        rows = unproven(session, job.study_id, job.revision, job.target)
        asked = Commitment(
            transaction_uid=f"2.25.{uuid.uuid4().int}", study_id=job.study_id, revision=job.revision, target=job.target,
            objects={o.sop_instance_uid: o.sop_class_uid for _, o in rows}, asked_at=now, due_at=now + prover.within_s)
        session.add(asked)
    database, uid = line.database, asked.transaction_uid
    try:
        prover.request(uid, asked.objects, partial(is_answered, database, uid))
    except PeerUnavailable:
        mark(database, uid, given_up_at=line.clock())
        raise
    except RefusedByPeer as error:
        mark(database, uid, given_up_at=line.clock())
        with database.transaction() as session:
            add_event(session, job.study_id, line.clock(), "commitment",
                      f"{error.detail}: no storage commitment; it is asked by a query")
        return False
    mark(database, uid, taken_at=line.clock())
    line.metrics.commitments.labels(job.target, "asked").inc(len(asked.objects))
    return True


def _look(line: Line, job: Job, prover: Prover, overdue: bool) -> None:
    """Ask by a query what the target lists; what it does not list after the time limit is sent again."""
    with line.database.reading() as session:
        rows = unproven(session, job.study_id, job.revision, job.target)
    try:
        listed = prover.find({o.sop_instance_uid: line.results_dir / o.path for _, o in rows})
    except RefusedByPeer:
        if not overdue:
            raise
        listed = set()
    now = line.clock()
    with line.database.transaction() as session:
        if not line.queue.holds(session, job):
            return
        rows = unproven(session, job.study_id, job.revision, job.target)
        _proven(line, session, job, [r for r in rows if r[1].sop_instance_uid in listed], "cfind", now)
        lost = [r for r in rows if r[1].sop_instance_uid not in listed]
        fresh = not overdue and lost and now - min(d.stored_at for d, _ in lost) < prover.within_s
        if lost and not fresh:
            line.metrics.commitments.labels(job.target, "failed").inc(len(lost))
            _again(line, session, job, lost, "not listed", False, now)
        if not fresh:
            _end(line, session, job, now)
    if fresh:
        raise PeerUnavailable(Reason.NOT_COMMITTED, f"{job.target} does not list {len(lost)} of {len(rows)} objects yet")


def _proven(line: Line, session: Session, job: Job, rows: Sequence[Row], proof: str, now: float) -> None:
    if not rows:
        return
    for delivery, _ in rows:
        delivery.proven_at, delivery.proof = now, proof
        session.add(delivery)
        line.metrics.proof_seconds.labels(job.target).observe(max(0.0, now - delivery.stored_at))
    session.flush()
    line.metrics.commitments.labels(job.target, proof).inc(len(rows))
    how = {"commit": "by storage commitment", "cfind": "by a query", "stored": "by its answer to the sending"}[proof]
    add_event(session, job.study_id, now, "proven", f"{kinds_of([o for _, o in rows])} kept by {job.target}, {how}")


def _again(line: Line, session: Session, job: Job, rows: Sequence[Row], why: str, final: bool, now: float) -> None:
    """Queue what the target does not keep once more, later each time; park it when that is pointless by now."""
    study = session.get_one(Study, job.study_id)
    rounds = times_sent(session, job.study_id, job.revision, job.target)
    wait_s = None if final else line.queue.send_again_s(rounds)
    told = f"{job.target} does not keep {kinds_of([o for _, o in rows])}: {why}"
    send_again(session, study, job.revision, job.target, [d for d, _ in rows], now, wait_s)
    following = "parked" if wait_s is None else f"sent again in {wait_s:.0f} s"
    add_event(session, job.study_id, now, "failed", f"{Reason.NOT_COMMITTED.value} {told}; {following}")
    if study.revision == job.revision:
        study.delivery = (DeliveryState.PARKED if wait_s is None else DeliveryState.PENDING).value
        study.delivery_detail = f"{Reason.NOT_COMMITTED.value}: {told}"
        session.add(study)
    _log.warning("not kept by the target", extra={
        "target": job.target, "study": study.study_instance_uid, "objects": len(rows), "next": following})


def _end(line: Line, session: Session, job: Job, now: float) -> None:
    line.queue.end(session, job, JobState.DONE)
    line.metrics.jobs.labels(job.kind, "done").inc()
    study = session.get_one(Study, job.study_id)
    if study.revision == job.revision:
        settle_delivery(session, study, wanted(line), now)


_WORDS = {0x0110: "processing failure", 0x0112: "no such object", 0x0213: "out of resources", 0x0122: "class not supported",
          0x0119: "class and instance in conflict", 0x0131: "duplicate transaction"}


def _reasons(verdict: Verdict) -> str:
    codes = sorted(set(verdict.failed.values()))
    return ", ".join(f"0x{code & 0xFFFF:04X} {_WORDS.get(code, 'failure')}" for code in codes)
