"""What the rules of urgency may look at, gathered from the images of a study and from what is known of the patient."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from service.domain.study import Header
from service.pipeline.line import Line
from service.store.priors import flagged_before
from service.store.studies import StoredImage
from service.store.tables import Study
from service.store.workitems import priority_of
from service.triage.rules import Facts

_PRIORITIES = ("STAT", "HIGH", "ROUTINE", "MEDIUM", "LOW")


def facts_of(headers: Sequence[Header], calling_aet: str, hour: int | None = None, prior: str = "") -> Facts:
    """Return the facts of a study. hour: of its arrival, local time; prior: what an earlier study was flagged for."""
    ordered = {h.requested_procedure_priority.upper() for h in headers}
    texts = {t for h in headers for t in (h.study_description, h.series_description, h.protocol_name,
                                          h.requested_procedure_description) if t}
    places = {t for h in headers for t in (h.current_patient_location, h.institutional_department_name,
                                           h.requesting_service) if t}
    modality = "/".join(sorted({h.modality for h in headers if h.modality}))
    return Facts(next((p for p in _PRIORITIES if p in ordered), ""), modality, " ".join(sorted(texts)), calling_aet,
                 " ".join(sorted(places)), hour, prior)


def facts_here(line: Line, study: Study, images: Sequence[StoredImage]) -> Facts:
    """Return the facts of a study that was received; what nobody asks for is not looked up."""
    hour = time.localtime(study.first_received_at).tm_hour
    prior = ""
    if any("prior" in rule.patterns for rule in line.rules):
        with line.database.reading() as session:
            prior = flagged_before(session, study)
    with line.database.reading() as session:
        asked = priority_of(session, study.study_instance_uid)
    facts = facts_of([image.header for image in images], study.calling_aet, hour, prior)
    given = {p for p in (facts.ordered_priority, asked) if p}
    return replace(facts, ordered_priority=next((p for p in _PRIORITIES if p in given), facts.ordered_priority))
