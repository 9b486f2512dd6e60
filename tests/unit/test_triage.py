"""Urgency on arrival, and whose turn it is."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlmodel import select

from service.domain.job import JobKind, JobState, RetryPolicy, StudyState
from service.domain.order import NO_CAP, ReadingOrder
from service.domain.study import Kind
from service.domain.urgency import Urgency
from service.errors import Reason
from service.store.database import Database
from service.store.process import began, this_process
from service.store.tables import Job, Study
from service.triage.queue import Queue
from service.triage.rules import Facts, decide, emergency_sender, table_of


def test_emergency_sender_is_urgent_and_only_that_sender() -> None:
    rule = emergency_sender(["ER_CT", "ICU.DX"])
    assert rule is not None and rule.matches(Facts(calling_aet="ICU.DX")) and not rule.matches(Facts(calling_aet="ICUXDX"))
    assert emergency_sender([]) is None
    assert decide(Facts(calling_aet="ER_CT"), table_of(["ER_CT"])).urgency is Urgency.URGENT


def test_the_most_urgent_rule_wins_and_nothing_falls_below_what_was_ordered() -> None:
    assert decide(Facts(ordered_priority="LOW", text="trauma")).urgency is Urgency.STAT
    assert decide(Facts(ordered_priority="ROUTINE", text="screening")).urgency is Urgency.ROUTINE
    assert decide(Facts(ordered_priority="STAT", text="follow-up")) .reason == "ordered STAT"
    assert decide(Facts(text="screening")).urgency is Urgency.LOW
    assert decide(Facts()).urgency is Urgency.ROUTINE


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path / 'queue.db'}")
    made.migrate()
    with made.transaction() as session:
        session.add(Study(id=1, study_instance_uid="1.2", state=StudyState.QUEUED.value, first_received_at=0,
                          last_received_at=0))
    yield made
    made.close()


def queue_of(database: Database, clock: Clock, owner: str = "here:1", tries: int = 3) -> Queue:
    return Queue(database, clock, RetryPolicy(tries, 10, 3, 60, deliver_for_s=1000), lease_s=100, owner=owner)


def put(database: Database, queue: Queue, key: str, deadline_at: float, revision: int = 1) -> Job:
    job = Job(key=key, kind=JobKind.INFER.value, study_id=1, revision=revision, urgency="routine", queued_at=0,
              deadline_at=deadline_at)
    with database.transaction() as session:
        queue.insert(session, job)
    return job


def test_earliest_deadline_is_claimed_first_whatever_came_first(database: Database) -> None:
    queue = queue_of(database, Clock())
    for key, deadline_at in (("routine", 4600.0), ("stat", 1120.0), ("old low", 1100.0)):
        put(database, queue, key, deadline_at)
    claimed = [queue.claim(JobKind.INFER) for _ in range(4)]
    assert [j.key if j else None for j in claimed] == ["old low", "stat", "routine", None]


def test_what_passes_a_look_under_way_is_more_urgent_than_it(database: Database) -> None:
    queue = queue_of(database, Clock())
    with database.transaction() as session:
        for deadline_at, urgency in enumerate(("low", "routine", "urgent", "stat")):
            queue.insert(session, Job(key=urgency, kind=JobKind.INFER.value, study_id=1, revision=1, urgency=urgency,
                                      queued_at=0, deadline_at=deadline_at))
    claimed = [queue.claim(JobKind.INFER, above=above) for above in (Urgency.STAT, Urgency.ROUTINE, Urgency.ROUTINE,
                                                                     Urgency.ROUTINE, Urgency.LOW)]
    assert [j.key if j else None for j in claimed] == [None, "urgent", "stat", None, "routine"]
    last = queue.claim(JobKind.INFER)
    assert last is not None and last.key == "low"


def test_a_radiograph_is_claimed_before_its_equals(database: Database) -> None:
    queue = queue_of(database, Clock())
    with database.transaction() as session:
        for number, (kind, urgency) in enumerate((("ct", "stat"), ("cxr", "routine"), ("cxr", "stat")), 101):
            session.add(Study(id=number, study_instance_uid=f"1.{number}", kind=kind, state="queued", first_received_at=0,
                              last_received_at=0))
            session.flush()
            queue.insert(session, Job(key=f"{kind} {urgency}", kind=JobKind.INFER.value, study_id=number, revision=1,
                                      urgency=urgency, queued_at=0, deadline_at=number))
    claimed = [queue.claim(JobKind.INFER, of=Urgency.STAT, kinds=[Kind.CXR]) for _ in range(2)]
    assert [j.key if j else None for j in claimed] == ["cxr stat", None]


def test_a_key_is_queued_once(database: Database) -> None:
    queue = queue_of(database, Clock())
    put(database, queue, "same", 1)
    put(database, queue, "same", 2)
    with database.reading() as session:
        assert len(session.exec(select(Job)).all()) == 1


def test_place_counts_the_jobs_with_earlier_deadlines(database: Database) -> None:
    queue = queue_of(database, Clock())
    put(database, queue, "a", 10)
    later = put(database, queue, "b", 30)
    put(database, queue, "c", 20)
    with database.reading() as session:
        assert (queue.place(session, later).position, queue.place(session, later).waiting) == (3, 3)


def test_overtakes_are_the_less_urgent_jobs_that_were_queued_before(database: Database) -> None:
    queue = queue_of(database, Clock())
    jobs = [("low, before", "low", 1.0), ("routine, before", "routine", 2.0), ("stat, before", "stat", 3.0),
            ("urgent", "urgent", 4.0), ("low, after", "low", 5.0)]
    with database.transaction() as session:
        for deadline_at, (key, urgency, queued_at) in enumerate(jobs):
            queue.insert(session, Job(key=key, kind=JobKind.INFER.value, study_id=1, revision=1, urgency=urgency,
                                      queued_at=queued_at, deadline_at=10.0 - (urgency == "urgent") * 9 + deadline_at))
    claimed = queue.claim(JobKind.INFER)
    assert claimed is not None and claimed.key == "urgent"
    with database.reading() as session:
        assert queue.passed(session, claimed) == 2
    last = [queue.claim(JobKind.INFER) for _ in range(4)][-1]
    with database.reading() as session:
        assert last is not None and queue.passed(session, last) == 0


def test_failures_wait_longer_each_time_and_then_park(database: Database) -> None:
    clock = Clock()
    queue = queue_of(database, clock)
    put(database, queue, "a", 10)
    for expected in (10.0, 30.0, None):
        job = queue.claim(JobKind.INFER)
        assert job is not None
        with database.transaction() as session:
            assert queue.fail(session, job, Reason.ENGINE_FAILED, "why") == expected
        assert queue.claim(JobKind.INFER) is None
        clock.now += expected or 1000
    assert queue.claim(JobKind.INFER) is None
    with database.reading() as session:
        job = session.exec(select(Job)).one()
        assert (job.state, job.reason, job.failures) == (JobState.PARKED.value, "engine_failed", 3)


def test_a_delivery_is_tried_until_it_is_too_old_however_often_it_failed(database: Database) -> None:
    policy = RetryPolicy(tries=3, first_wait_s=10, factor=3, longest_wait_s=60, deliver_for_s=1000)
    assert [policy.wait_s(JobKind.DELIVER, n, age_s=999) for n in (1, 2, 3, 5000)] == [10, 30, 60, 60]
    assert policy.wait_s(JobKind.DELIVER, 1, age_s=1000) is None
    assert policy.wait_s(JobKind.INFER, 3, age_s=0) is None


def test_a_parked_job_put_back_begins_anew(database: Database) -> None:
    clock = Clock()
    queue = queue_of(database, clock, tries=1)
    put(database, queue, "a", 10)
    job = queue.claim(JobKind.INFER)
    assert job is not None
    with database.transaction() as session:
        assert queue.fail(session, job, Reason.ENGINE_FAILED, "why") is None
        assert queue.retry_parked(session, 1) == 1 and queue.retry_parked(session, 2) == 0
    again = queue.claim(JobKind.INFER)
    assert again is not None and (again.failures, again.reason) == (0, "")


def test_a_lease_that_ended_is_taken_by_another_and_the_first_loses_its_hold(database: Database) -> None:
    clock = Clock()
    first, second = queue_of(database, clock, "here:1"), queue_of(database, clock, "there:2")
    put(database, first, "a", 10)
    job = first.claim(JobKind.INFER)
    assert job is not None and second.claim(JobKind.INFER) is None
    clock.now += 101
    assert second.claim(JobKind.INFER) is not None
    with database.reading() as session:
        assert not first.holds(session, job) and second.holds(session, job)


def test_a_sign_of_life_keeps_the_lease_until_a_job_takes_too_long(database: Database) -> None:
    clock = Clock()
    first = Queue(database, clock, RetryPolicy(3, 10, 3, 60, deliver_for_s=1000), 100, "here:1", longest_job_s=250)
    second = queue_of(database, clock, "there:2")
    put(database, first, "a", 10)
    assert first.renew() == 0 and first.claim(JobKind.INFER) is not None
    for _ in range(3):
        clock.now += 80
        assert (first.renew(), second.renew()) == (1, 0) and second.claim(JobKind.INFER) is None
    clock.now += 80
    assert first.renew() == 0 and second.claim(JobKind.INFER) is None
    clock.now += 21
    assert second.claim(JobKind.INFER) is not None


def test_a_job_that_was_put_down_without_an_end_is_taken_again_when_its_lease_ends(database: Database) -> None:
    """A full disk may keep a worker from writing down how its job ended."""
    clock = Clock()
    queue = queue_of(database, clock, "here:1")
    put(database, queue, "a", 10)
    job = queue.claim(JobKind.INFER)
    assert job is not None and queue.renew() == 1
    queue.put_down(job)
    assert queue.renew() == 0 and queue.claim(JobKind.INFER) is None
    clock.now += 101
    assert queue.claim(JobKind.INFER) is not None


def test_a_clock_put_back_holds_no_job_up(database: Database) -> None:
    clock = Clock()
    clock.now += 86400
    ahead, queue = queue_of(database, clock, "dead:1"), queue_of(database, clock, "there:2")
    for key in ("leased", "failed", "asking"):
        put(database, queue, key, 10)
    with database.transaction() as session:
        session.get_one(Job, 3).kind = JobKind.PROVE
    taken = [ahead.claim(JobKind.INFER) for _ in range(2)]
    prove = ahead.claim(JobKind.PROVE)
    assert taken[1] is not None and prove is not None
    with database.transaction() as session:
        assert ahead.fail(session, taken[1], Reason.ENGINE_FAILED, "why") == 10
        ahead.defer(session, prove, clock.now + 3600, "waits")
    clock.now -= 200  # as two machines may differ: nothing is taken away
    assert queue.claim(JobKind.INFER) is None
    clock.now -= 86200
    assert [j.key if j else "" for j in (queue.claim(JobKind.INFER) for _ in range(3))] == ["leased", "failed", ""]
    assert queue.claim(JobKind.PROVE) is None


def test_leases_of_a_dead_process_of_this_host_are_given_back_at_start(database: Database) -> None:
    host, pid, when = this_process().split(":")
    parent = os.getppid()
    owners = [f"{host}:999999999:1", f"{host}:{pid}:{when}1", "elsewhere:7:7", f"{host}:{parent}:{began(parent)}"]
    for key in owners:
        put(database, queue_of(database, Clock()), key, 10)
        assert queue_of(database, Clock(), key).claim(JobKind.INFER) is not None
    assert queue_of(database, Clock(), this_process()).release_dead_leases() == 2
    freed = [queue_of(database, Clock()).claim(JobKind.INFER) for _ in range(3)]
    assert [j.key if j else "" for j in freed] == [*owners[:2], ""]


def test_older_revisions_that_wait_are_cancelled(database: Database) -> None:
    queue = queue_of(database, Clock())
    put(database, queue, "r1", 10, revision=1)
    put(database, queue, "r2", 20, revision=2)
    with database.transaction() as session:
        queue.cancel_older(session, 1, 2)
    claimed = queue.claim(JobKind.INFER)
    assert claimed is not None and claimed.key == "r2" and queue.claim(JobKind.INFER) is None


def test_a_finished_job_cannot_move_again(database: Database) -> None:
    queue = queue_of(database, Clock())
    put(database, queue, "a", 10)
    job = queue.claim(JobKind.INFER)
    assert job is not None
    with database.transaction() as session:
        queue.end(session, job, JobState.DONE)
    with pytest.raises(ValueError, match="done job cannot become"), database.transaction() as session:
        queue.end(session, job, JobState.PARKED)


def test_two_threads_never_claim_the_same_job(database: Database) -> None:
    queue = queue_of(database, Clock())
    for number in range(40):
        put(database, queue, str(number), number)
    claimed: list[str] = []

    def take() -> None:
        while (job := queue.claim(JobKind.INFER)) is not None:
            claimed.append(job.key)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(claimed, key=int) == [str(n) for n in range(40)]


@pytest.mark.parametrize(("urgency", "waited_s", "counts_as"), [
    (Urgency.LOW, 99.9, Urgency.LOW), (Urgency.LOW, 100.0, Urgency.URGENT), (Urgency.ROUTINE, 1e9, Urgency.URGENT),
    (Urgency.URGENT, 1e9, Urgency.URGENT), (Urgency.STAT, 1e9, Urgency.STAT), (Urgency.STAT, 0.0, Urgency.STAT)])
def test_a_long_wait_counts_as_urgent_and_lowers_nothing(urgency: Urgency, waited_s: float, counts_as: Urgency) -> None:
    assert ReadingOrder(100.0).rank(urgency.rank, waited_s) == counts_as.rank
    assert NO_CAP.rank(urgency.rank, waited_s) == urgency.rank


def test_ai_raises_but_never_lowers() -> None:
    assert Urgency.ROUTINE.raised_to(Urgency.URGENT) is Urgency.URGENT
    assert Urgency.STAT.raised_to(Urgency.URGENT) is Urgency.STAT
