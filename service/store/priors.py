"""Queries on the earlier studies of a patient. They only read."""

from __future__ import annotations

from typing import Any

from sqlalchemy import and_, func, or_
from sqlmodel import Session, col, select

from service.domain.job import StudyState
from service.store.tables import ResultObject, Study

MOST_EARLIER = 12
"""Earlier studies that the course is told of."""


def prior_of(session: Session, study: Study) -> Study | None:
    """Return the latest study of the same patient and kind with a result, made before this one; None when there is none.

    The same patient: Patient ID, its issuer and the birth date agree, and there is an ID. Made before: by Study Date and
    Time; where this study has no date, by arrival.
    """
    return next(iter(earlier_of(session, study, 1)), None)


def earlier_of(session: Session, study: Study, most: int = MOST_EARLIER) -> list[Study]:
    """Return the studies of which `prior_of` names the latest, newest first."""
    if not study.patient_id:
        return []
    return list(session.exec(
        select(Study).where(*_same_patient(study), Study.kind == study.kind, _before(study),
                            Study.state == StudyState.ASSESSED.value)
        .order_by(col(Study.study_date).desc(), col(Study.study_time).desc(), col(Study.first_received_at).desc())
        .limit(most)).all())


def segmentation_of(session: Session, study: Study) -> ResultObject | None:
    """Return the Segmentation of a study's present result; None when it has none."""
    return session.exec(
        select(ResultObject).where(ResultObject.study_id == study.id, ResultObject.kind == "seg",
                                   ResultObject.revision == study.revision)).first()


def others_of_this_id(session: Session, study: Study) -> int:
    """Return how many earlier studies carry the same Patient ID, but another issuer or birth date."""
    if not study.patient_id:
        return 0
    return session.exec(
        select(func.count()).select_from(Study).where(
            Study.patient_id == study.patient_id, Study.id != study.id, _before(study),
            or_(col(Study.issuer_of_patient_id) != study.issuer_of_patient_id,
                col(Study.patient_birth_date) != study.patient_birth_date))).one()


def flagged_before(session: Session, study: Study) -> str:
    """Return the findings for which the latest earlier study of the same patient was flagged, "" for none."""
    if not study.patient_id:
        return ""
    found = session.exec(
        select(Study.flag).where(*_same_patient(study), _before(study), col(Study.assessed_at).is_not(None))
        .order_by(col(Study.first_received_at).desc()).limit(1)).first()
    return found or ""


def _same_patient(study: Study) -> tuple[Any, ...]:
    return (Study.patient_id == study.patient_id, Study.issuer_of_patient_id == study.issuer_of_patient_id,
            Study.patient_birth_date == study.patient_birth_date, Study.id != study.id)


def _before(study: Study) -> Any:
    """Return the condition that a study was made before this one; of one without a date its arrival decides."""
    arrived = col(Study.first_received_at) < study.first_received_at
    if not study.study_date:
        return arrived
    dated = or_(col(Study.study_date) < study.study_date,
                and_(col(Study.study_date) == study.study_date, col(Study.study_time) < study.study_time))
    return or_(and_(col(Study.study_date) != "", dated), and_(col(Study.study_date) == "", arrived))
