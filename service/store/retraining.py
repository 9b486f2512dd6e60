"""What readers judged, with the images and results it was said of. Only reads."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from sqlmodel import Session, col, select

from service.domain.verdict import Judged
from service.store.corrections import corrections_of
from service.store.studies import StoredImage, images_of, results_of
from service.store.tables import Correction, ResultObject, Study
from service.store.verdicts import judged_since


@dataclass(frozen=True)
class Material:
    """A study that was judged. judged: verdicts on its present result; corrections: what was sent back for it."""

    study: Study
    images: list[StoredImage]
    results: list[ResultObject]
    judged: list[Judged]
    corrections: list[Correction]


def judged_material(session: Session, since: float) -> list[Material]:
    """Return the studies that a reader judged, or that something was sent back for, since a moment, oldest first."""
    judged: dict[str, list[Judged]] = defaultdict(list)
    for one in judged_since(session, since):
        judged[one.study_instance_uid].append(one)
    numbers = set(session.exec(select(Correction.study_id).where(Correction.received_at >= since)).all())
    studies = session.exec(select(Study).where(
        col(Study.study_instance_uid).in_(judged) | col(Study.id).in_(numbers)).order_by(col(Study.id))).all()
    return [Material(study, images_of(session, study.id or 0), results_of(session, study.id or 0, study.revision),
                     [j for j in judged[study.study_instance_uid] if j.revision == study.revision],
                     corrections_of(session, study.id or 0)) for study in studies]
