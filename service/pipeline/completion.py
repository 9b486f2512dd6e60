"""What changes in a study's row when it is judged complete."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from service.domain.job import DeliveryState
from service.domain.order import deadline_at
from service.domain.urgency import Urgency
from service.store.tables import Study
from service.triage.rules import Decision


@dataclass(frozen=True)
class Completion:
    """A study is complete: with these images (digest), this urgency, and why, in words."""

    input_digest: str
    ordered_priority: str
    decision: Decision
    why: str

    def apply_to(self, study: Study, now: float, target_s: Callable[[Urgency], float]) -> None:
        """Begin a new revision of the study: nothing is known of it yet but how urgent it is."""
        urgency = self.decision.urgency
        study.revision, study.input_digest, study.completed_at = study.revision + 1, self.input_digest, now
        study.urgency, study.urgency_rank, study.urgency_reason = urgency.value, urgency.rank, self.decision.reason
        study.reading_urgency, study.reading_rank = urgency.value, urgency.rank
        study.ordered_priority = self.ordered_priority
        study.deadline_at = deadline_at(study.first_received_at, target_s(urgency))
        study.started_at = study.assessed_at = study.delivered_at = None
        study.delivery, study.delivery_detail = DeliveryState.NONE.value, ""
        study.flag, study.summary = "", {}

    def in_words(self, study: Study) -> str:
        """Return the line for the trace, once applied."""
        again = f"; revision {study.revision} because images came late" if study.revision > 1 else ""
        return f"{self.why}{again}"
