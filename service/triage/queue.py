"""The queue: a table of jobs, earliest deadline first, with leases and retries. Nothing is kept in memory only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, func, or_, update
from sqlmodel import Session, col, select

from service.domain.job import MAY_FOLLOW, JobKind, JobState, RetryPolicy
from service.domain.study import Kind
from service.domain.urgency import Urgency
from service.errors import Reason
from service.store.database import Database
from service.store.process import is_dead
from service.store.tables import Job, Study

OPEN = (JobState.WAITING.value, JobState.LEASED.value)
_SKEW_S = 300.0  # clocks of two machines may differ by this much


@dataclass(frozen=True)
class Place:
    """Where a job stands in the queue: 1 is next."""

    position: int
    waiting: int


class Queue:
    """Jobs in the database. Every method that takes a session runs inside the caller's transaction.

    owner: the name of this process (`store.process.this_process`). lease_s: a job whose process has not said for so long
    that it works on it is taken by another; longest_job_s: and so is one that is under way for longer than this.
    """

    def __init__(self, database: Database, clock: Callable[[], float], retry: RetryPolicy, lease_s: float,
                 owner: str, longest_job_s: float = 600.0) -> None:
        self._database = database
        self._clock = clock
        self._retry = retry
        self._lease_s = lease_s
        self._owner = owner
        self._longest_job_s = longest_job_s
        self._in_hand: set[int] = set()

    def insert(self, session: Session, job: Job) -> bool:
        """Queue a job; return False when a job with this key is there already."""
        if session.exec(select(Job.id).where(Job.key == job.key)).first() is not None:
            return False
        session.add(job)
        session.flush()
        return True

    def claim(self, kind: JobKind, target: str = "", above: Urgency | None = None,
              of: Urgency | None = None, kinds: Sequence[Kind] = ()) -> Job | None:
        """Lease the job with the earliest deadline and return it, or None when none is due.

        above: only what is more urgent than this; of, kinds: only these kinds of studies of this urgency. A leased job whose
        lease has ended counts as due: its worker died. Two workers never get the same job.
        """
        now = self._clock()
        urgencies = [u.value for u in Urgency if above is None or u.rank < above.rank]
        mine: list[Any] = [Job.kind == kind.value, Job.target == target]
        if of is None:
            mine.append(col(Job.urgency).in_(urgencies))
        else:
            studies = select(Study.id).where(Study.id == Job.study_id, col(Study.kind).in_([k.value for k in kinds]))
            mine += [Job.urgency == of.value, studies.exists()]
        waiting, leased = self._due(kind, now)
        if not self._anything_due(mine, waiting, leased):
            return None
        oldest = (
            select(Job).where(*mine, or_(waiting, leased), col(Job.state).in_(OPEN))
            .order_by(col(Job.deadline_at), col(Job.id)).limit(1).with_for_update(skip_locked=True)
        )
        with self._database.transaction() as session:
            job = session.exec(oldest).first()
            if job is None:
                return None
            job.state, job.lease_owner = JobState.LEASED.value, self._owner
            job.lease_until_at, job.started_at = now + self._lease_s, now
            session.add(job)
        self._in_hand.add(job.id or 0)
        return job

    def put_down(self, job: Job) -> None:
        """Say that nobody here works on a job any more, whether its end could be written down or not."""
        self._in_hand.discard(job.id or 0)

    def _due(self, kind: JobKind, now: float) -> tuple[Any, Any]:
        """Return the conditions of a waiting and of a leased job that may be taken.

        A moment that only a clock put back can have left is over.
        """
        wait_until, lease_until = col(Job.not_before_at), col(Job.lease_until_at)
        waited = wait_until <= now
        if kind is not JobKind.PROVE:  # that one waits as long as its target may take
            waited = or_(waited, wait_until > now + self._retry.longest_wait_s + _SKEW_S)
        ended = or_(lease_until <= now, lease_until > now + self._lease_s + _SKEW_S)
        return and_(col(Job.state) == JobState.WAITING.value, waited), and_(col(Job.state) == JobState.LEASED.value, ended)

    def renew(self) -> int:
        """Say of the jobs in hand that this process still works on them; return of how many.

        Not of one that is under way for longest_job_s: another process may take it when the lease ends.
        """
        now, in_hand = self._clock(), tuple(self._in_hand)
        if not in_hand:
            return 0
        with self._database.transaction() as session:
            done = session.exec(update(Job).where(
                col(Job.id).in_(in_hand), col(Job.state) == JobState.LEASED.value, col(Job.lease_owner) == self._owner,
                col(Job.started_at) > now - self._longest_job_s).values(lease_until_at=now + self._lease_s))
        return int(getattr(done, "rowcount", 0))

    def is_due(self, kind: JobKind, target: str = "") -> bool:
        """Tell whether a job of this kind could be claimed now."""
        of_any = col(Job.urgency).in_([u.value for u in Urgency])
        return self._anything_due([Job.kind == kind.value, Job.target == target, of_any], *self._due(kind, self._clock()))

    def _anything_due(self, mine: list[Any], waiting: Any, leased: Any) -> bool:
        """Look without a write lock, so that an idle worker never holds up a writer; two looks, each into its own index."""
        with self._database.reading() as session:
            return any(session.exec(select(Job.id).where(*mine, due).limit(1)).first() is not None
                       for due in (waiting, leased))

    def passed(self, session: Session, job: Job) -> int:
        """Count the less urgent jobs of this kind that were queued before it and still wait."""
        less = [u.value for u in Urgency if u.rank > Urgency(job.urgency).rank]
        return session.exec(select(func.count()).select_from(Job).where(
            Job.kind == job.kind, Job.state == JobState.WAITING.value, col(Job.queued_at) < job.queued_at,
            col(Job.urgency).in_(less))).one()

    def holds(self, session: Session, job: Job) -> bool:
        """Tell whether this process still has the lease; a result of a lost lease must not be written."""
        found = session.get(Job, job.id)
        return found is not None and found.state == JobState.LEASED.value and found.lease_owner == self._owner

    def end(self, session: Session, job: Job, state: JobState, reason: str = "", detail: str = "") -> None:
        """Move a leased job to DONE, CANCELLED or PARKED."""
        found = session.get_one(Job, job.id)
        if state not in MAY_FOLLOW[JobState(found.state)]:
            raise ValueError(f"a {found.state} job cannot become {state}")
        found.state, found.reason, found.detail = state.value, reason, detail
        found.ended_at, found.lease_owner = self._clock(), ""
        session.add(found)

    def fail(self, session: Session, job: Job, reason: Reason, detail: str) -> float | None:
        """Count a failure: put the job back for later and return the wait in seconds, or park it and return None."""
        found = session.get_one(Job, job.id)
        found.failures += 1
        found.reason, found.detail = str(reason), detail
        kind = JobKind.DELIVER if reason is Reason.OUT_OF_SPACE else JobKind(found.kind)  # a full disk is waited for as long
        wait_s = self._retry.wait_s(kind, found.failures, self._clock() - found.queued_at)
        found.lease_owner = ""
        if wait_s is None:
            found.state, found.ended_at = JobState.PARKED.value, self._clock()
        else:
            found.state, found.not_before_at = JobState.WAITING.value, self._clock() + wait_s
        session.add(found)
        return wait_s

    def defer(self, session: Session, job: Job, until: float, detail: str) -> None:
        """Put a leased job back until a moment (Unix time); nothing failed, it waits for an answer."""
        found = session.get_one(Job, job.id)
        found.state, found.lease_owner, found.not_before_at = JobState.WAITING.value, "", until
        found.reason, found.detail = "", detail
        session.add(found)

    def send_again_s(self, rounds: int) -> float | None:
        """Return the wait before sending once more what was sent so many times and not kept; None: park it."""
        return self._retry.send_again_s(rounds)

    def retry_parked(self, session: Session, study_id: int) -> int:
        """Put the parked jobs of a study back into the queue as if new; return how many."""
        parked = session.exec(select(Job).where(Job.study_id == study_id, Job.state == JobState.PARKED.value)).all()
        for job in parked:
            job.state, job.failures, job.not_before_at, job.ended_at = JobState.WAITING.value, 0, 0.0, None
            job.queued_at, job.reason, job.detail = self._clock(), "", ""
            session.add(job)
        return len(parked)

    def cancel_older(self, session: Session, study_id: int, revision: int) -> None:
        """Cancel inference of earlier revisions of a study that has not begun: a newer one replaces it."""
        session.exec(
            update(Job).where(
                col(Job.study_id) == study_id, col(Job.kind) == JobKind.INFER.value, col(Job.revision) < revision,
                col(Job.state) == JobState.WAITING.value,
            ).values(state=JobState.CANCELLED.value, ended_at=self._clock(), detail="a newer revision replaces it")
        )

    def place(self, session: Session, job: Job) -> Place:
        """Return the place of a waiting job of its kind in the order of deadlines."""
        waiting = select(func.count()).select_from(Job).where(
            Job.kind == job.kind, Job.target == job.target, Job.state == JobState.WAITING.value)
        before = waiting.where(
            or_(col(Job.deadline_at) < job.deadline_at,
                and_(col(Job.deadline_at) == job.deadline_at, col(Job.id) < job.id)))
        return Place(session.exec(before).one() + 1, session.exec(waiting).one())

    def release_dead_leases(self) -> int:
        """Give back the leases of processes of this host that no longer live; return how many."""
        freed = 0
        with self._database.transaction() as session:
            leased = select(Job).where(Job.state == JobState.LEASED.value)
            for job in session.exec(leased).all():
                if job.lease_owner == self._owner or is_dead(job.lease_owner):
                    job.state, job.lease_owner = JobState.WAITING.value, ""
                    session.add(job)
                    freed += 1
        return freed
