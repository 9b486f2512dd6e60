"""What changes in a study's row when a model shall look at it: because it is complete, or early."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlmodel import Session

from service.assemble.complete import Complete
from service.assemble.quiet import Pause
from service.domain.flag import flags_in, of_fewer, pending, read_as
from service.domain.job import DeliveryState, JobState, StudyState
from service.domain.order import deadline_at
from service.domain.study import Selection
from service.domain.urgency import Urgency
from service.store.arrivals import images_held, note_rhythm
from service.store.studies import StoredImage, add_event, input_digest
from service.store.tables import Job, Rhythm, Study
from service.triage.rules import Decision


@dataclass(frozen=True)
class Completion:
    """These images shall be looked at: of what contents (digest), with which urgency, and why, in words.

    images, revision: how many were here, and of which revision, when it was decided. complete: why the study is
    complete, None when the look is early. pauses: of its senders, by (calling AE title, modality). arrived: what came from
    whom, in words. anew: a new revision begins; False: what was said of the present one is final.
    """

    input_digest: str
    images: int
    revision: int
    ordered_priority: str
    decision: Decision
    complete: Complete | None
    early: str = ""
    pauses: Mapping[tuple[str, str], Pause] = field(default_factory=dict)
    arrived: str = ""
    anew: bool = True

    def apply_to(self, study: Study, now: float, target_s: Callable[[Urgency], float]) -> None:
        """Begin a new revision of the study: nothing is known of it yet but how urgent it is, and what a first look said."""
        if not self.anew:
            study.completed_at = now
            return
        urgency = self.decision.urgency
        study.revision, study.input_digest = study.revision + 1, self.input_digest
        study.completed_at = now if self.complete else None
        study.urgency, study.urgency_rank, study.urgency_reason = urgency.value, urgency.rank, self.decision.reason
        said = of_fewer(study.summary) if pending(study.summary) else {}
        reading = read_as(urgency, flags_in(said))
        study.reading_urgency, study.reading_rank = reading.value, reading.rank
        study.ordered_priority = self.ordered_priority
        study.deadline_at = deadline_at(study.first_received_at, target_s(urgency))
        study.started_at = study.assessed_at = study.delivered_at = None
        study.delivery, study.delivery_detail = DeliveryState.NONE.value, ""
        study.flag, study.summary = study.flag if said else "", said

    def still_holds(self, session: Session, study: Study) -> bool:
        """Tell whether no image has come since it was decided, nor another process decided it. The row is locked."""
        return (images_held(session, study.id or 0) == self.images and study.revision == self.revision
                and study.completed_at is None)

    def write_down(self, session: Session, study: Study, now: float, follows: str) -> None:
        """Add the line of the trace, once applied, and what is learned of the senders. follows: what comes of it."""
        words = self.complete.text if self.complete else f"before the study is complete: {self.early}"
        stage = "complete" if self.complete else "early"
        data = self.complete.data if self.complete else {}
        if self.arrived:
            add_event(session, study.id or 0, now, "arrived", self.arrived)
        add_event(session, study.id or 0, now, stage, "; ".join(filter(None, (words, follows))), data)
        if self.complete is None:
            return
        for (calling_aet, modality), pause in self.pauses.items():
            note_rhythm(session, Rhythm(
                study_id=study.id or 0, calling_aet=calling_aet, modality=modality, images=pause.images,
                study_pause_s=pause.study_s, series_pause_s=pause.series_s, at=now))


def revised(study: Study) -> str:
    """Say that this is not the first revision; "" when it is."""
    return f"revision {study.revision} because images came late" if study.revision > 1 else ""


def chosen_digest(selection: Selection, images: Sequence[StoredImage]) -> str:
    """Return the digest of the images that were chosen: what is not read changes no result."""
    chosen = {h.stored_uid for h in selection.headers}
    return input_digest([i for i in images if i.header.sop_instance_uid in chosen])


def standing(look: Job | None, final: bool) -> tuple[StudyState, str, str] | None:
    """Return the state, reason and detail that the look at a revision has led to; None: it must be looked at anew.

    look: its job. final: the study is complete: what was refused is to be said in the PACS, what failed is tried again.
    """
    if look is None or look.state == JobState.CANCELLED.value:
        return None
    if look.state == JobState.WAITING.value:
        return StudyState.QUEUED, "", ""
    if look.state == JobState.LEASED.value:
        return StudyState.INFERRING, "", ""
    if look.state == JobState.DONE.value and not look.reason:
        return StudyState.ASSESSED, "", ""
    if final:
        return None
    return (StudyState.FAILED if look.state == JobState.PARKED.value else StudyState.NOT_ASSESSED), look.reason, look.detail
