"""Study and patient of a Study Instance UID, for the audit trail."""

from __future__ import annotations

from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import select

from service.audit.events import Known
from service.store.database import Database
from service.store.tables import Study


def known(study: Study) -> Known:
    """Return a study and its patient as the audit trail names them."""
    return Known(study.study_instance_uid, study.accession_number, study.patient_id, study.patient_name)


def look_up(database: Database, study_instance_uid: str) -> Known | None:
    """Return study and patient, None when there is no such study; without the patient when the database is away."""
    try:
        with database.reading() as session:
            study = session.exec(select(Study).where(Study.study_instance_uid == study_instance_uid)).one_or_none()
    except SQLAlchemyError:
        return Known(study_instance_uid)
    return known(study) if study is not None else None
