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


def marks_are_kept(read: int, old: int) -> bool:
    """Tell whether marks of reading say what is read, so that a cap on the wait can go by them.

    old: studies that are past the cap; read: those of them that are marked read. At least half must be: where readers do
    not mark, or have only begun to, or are far behind, every old study would count as overdue and the order would be lost.
    """
    return read > 0 and 2 * read >= old


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
