"""The states of a job and of a study, and which may follow which."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class JobKind(StrEnum):
    """What is to be done. FETCH: get earlier studies from an archive; REVISE: look again, to compare with them."""

    INFER = "infer"
    DELIVER = "deliver"
    PROVE = "prove"
    SHADOW = "shadow"
    FETCH = "fetch"
    REVISE = "revise"


BEHIND = "behind"
"""Target of the looks that stand behind all others: at studies that were fetched."""


class JobState(StrEnum):
    """Where a job stands.

    WAITING may be claimed once `not_before` has passed. LEASED is being done by one worker until its lease ends; then
    it may be claimed again. DONE is finished. PARKED needs a person: every try failed, or trying again is pointless.
    CANCELLED was overtaken by a newer revision of the study.
    """

    WAITING = "waiting"
    LEASED = "leased"
    DONE = "done"
    PARKED = "parked"
    CANCELLED = "cancelled"


MAY_FOLLOW: dict[JobState, frozenset[JobState]] = {
    JobState.WAITING: frozenset({JobState.LEASED, JobState.CANCELLED}),
    JobState.LEASED: frozenset(JobState),
    JobState.PARKED: frozenset({JobState.WAITING, JobState.CANCELLED}),
    JobState.DONE: frozenset(),
    JobState.CANCELLED: frozenset(),
}


class StudyState(StrEnum):
    """What the worklist says of a study's assessment.

    RECEIVING: images still arrive. QUEUED: complete, in the queue. INFERRING: a model is looking at it. ASSESSED: a
    result exists. NOT_ASSESSED: refused, with a reason code. FAILED: every try failed, with a reason code.
    """

    RECEIVING = "receiving"
    QUEUED = "queued"
    INFERRING = "inferring"
    ASSESSED = "assessed"
    NOT_ASSESSED = "not_assessed"
    FAILED = "failed"


class DeliveryState(StrEnum):
    """Whether the result is in the PACS.

    NONE: nothing to send yet. PENDING: being sent. SENT: every target has taken it, not all have proven that they keep
    it. DELIVERED: every target has proven it, in the way its settings ask for. PARKED: not sent, needs a person.
    UNPROVEN: sent, but no proof came; needs a person.
    """

    NONE = "none"
    PENDING = "pending"
    SENT = "sent"
    DELIVERED = "delivered"
    PARKED = "parked"
    UNPROVEN = "unproven"


@dataclass(frozen=True)
class RetryPolicy:
    """When to try again. After `tries` failures the job is parked; a delivery only once it is older than deliver_for_s.

    The n-th wait is first_wait_s * factor**(n - 1), at most longest_wait_s.
    """

    tries: int
    first_wait_s: float
    factor: float
    longest_wait_s: float
    deliver_for_s: float

    def wait_s(self, kind: JobKind, failures: int, age_s: float) -> float | None:
        """Return the seconds to wait after the given number of failures (from 1), or None: park it.

        age_s: since the job was queued. A PACS that is away for a night must not cost a result.
        """
        by_age = kind in (JobKind.DELIVER, JobKind.PROVE)
        if age_s >= self.deliver_for_s if by_age else failures >= self.tries:
            return None
        return self._backed_off_s(failures)

    def send_again_s(self, rounds: int) -> float | None:
        """Return the seconds to wait before something is sent once more that a target took but does not keep.

        rounds: how often it was sent so far, from 1. None: park it.
        """
        return None if rounds >= self.tries else self._backed_off_s(rounds)

    def _backed_off_s(self, failures: int) -> float:
        steps = min(failures - 1, 64)  # more would overflow, and the longest wait is long reached
        return float(min(self.first_wait_s * self.factor**steps, self.longest_wait_s))
