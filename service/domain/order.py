"""Who is next: the order of the models' queue and of the reading list. The service and its simulation both use it."""

from __future__ import annotations

from dataclasses import dataclass

from service.domain.urgency import Urgency

OVERDUE_AS = Urgency.URGENT
"""What a study counts as that has waited for longer than the cap: being older, it passes what is urgent, never what is
stat."""


def deadline_at(first_received_at: float, target_s: float) -> float:
    """Return when a result is due: the first image's time and the target turnaround; the models take the earliest first."""
    return first_received_at + target_s


@dataclass(frozen=True)
class ReadingOrder:
    """The order of the reading list: by rank of urgency, within a rank by arrival, with a cap on the wait.

    longest_wait_s: a study unread for this long counts as urgent, seconds; 0: no cap. Nothing ever loses rank.
    """

    longest_wait_s: float = 0.0

    def rank(self, reading_rank: int, waited_s: float) -> int:
        """Return the rank (`Urgency.rank`) that a study has after waiting for waited_s seconds."""
        if self.longest_wait_s and waited_s >= self.longest_wait_s:
            return min(reading_rank, OVERDUE_AS.rank)
        return reading_rank


NO_CAP = ReadingOrder()
