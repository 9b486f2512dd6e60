"""Past studies as the rules of urgency saw them. Only reads."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from sqlalchemy import func
from sqlmodel import Session, col, select

from service.domain.study import Header
from service.store.priors import flagged_before
from service.store.tables import Instance, Study

MOST_STUDIES = 5_000
_AT_ONCE = 500


@dataclass(frozen=True)
class PastStudy:
    """A study and the first image of each of its series. prior: what an earlier one was flagged for, "" where not asked."""

    study: Study
    headers: tuple[Header, ...]
    prior: str = ""


def past_studies(session: Session, since: float, most: int = MOST_STUDIES, with_priors: bool = False) -> list[PastStudy]:
    """Return the newest studies that began to come since a moment (Unix time, seconds), newest first."""
    studies = session.exec(select(Study).where(Study.first_received_at >= since)
                           .order_by(col(Study.first_received_at).desc()).limit(most)).all()
    headers: dict[int, list[Header]] = defaultdict(list)
    numbers = [study.id or 0 for study in studies]
    for at in range(0, len(numbers), _AT_ONCE):
        firsts = (select(func.min(Instance.id)).where(col(Instance.study_id).in_(numbers[at:at + _AT_ONCE]))
                  .group_by(col(Instance.study_id), col(Instance.series_instance_uid)))
        for study_id, header in session.exec(
                select(Instance.study_id, Instance.header).where(col(Instance.id).in_(firsts)).order_by(col(Instance.id))):
            if header:
                headers[study_id].append(Header.from_json(dict(header)))
    return [PastStudy(study, tuple(headers[study.id or 0]), flagged_before(session, study) if with_priors else "")
            for study in studies]
