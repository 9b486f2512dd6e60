"""How soon a study should be looked at."""

from __future__ import annotations

from enum import StrEnum


class Urgency(StrEnum):
    """Urgency of a study; `rank` 0 is the most urgent, so sorting by rank puts urgent first."""

    STAT = "stat"
    URGENT = "urgent"
    ROUTINE = "routine"
    LOW = "low"

    @property
    def rank(self) -> int:
        """Place in the order: stat 0, urgent 1, routine 2, low 3."""
        return list(Urgency).index(self)

    def raised_to(self, other: Urgency) -> Urgency:
        """Return the more urgent of the two: AI may raise what was ordered, never lower it."""
        return min(self, other, key=lambda u: u.rank)
