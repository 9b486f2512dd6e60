"""The images and result objects of a study that its page draws. It only reads."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import func
from sqlmodel import Session, col, select

from service.domain.study import Header
from service.store.tables import Instance, ResultObject, Study


@dataclass(frozen=True)
class Kept:
    """What is kept of a study. state: changes when an image or a result comes or goes.

    images: path, relative to the spool, and header; results: kind and path, relative to the results, of this revision.
    """

    state: tuple[object, ...]
    images: list[tuple[str, Header]] = field(default_factory=list)
    results: list[tuple[str, str]] = field(default_factory=list)


def state_of(session: Session, study_instance_uid: str) -> Kept | None:
    """Return what stands for the images and results of a study, without them; None when there is no such study."""
    study = session.exec(select(Study).where(Study.study_instance_uid == study_instance_uid)).one_or_none()
    if study is None:
        return None
    held = session.exec(select(func.count(), func.max(Instance.id)).where(Instance.study_id == study.id)).one()
    made = session.exec(select(func.max(ResultObject.id)).where(ResultObject.study_id == study.id)).one()
    return Kept((study.id, study.study_instance_uid, study.revision, *held, made, study.images_deleted_at))


def kept_of(session: Session, study_instance_uid: str) -> Kept | None:
    """Return the images that are kept of a study and its results; None when there is no such study."""
    kept = state_of(session, study_instance_uid)
    if kept is None:
        return None
    study_id, _, revision, *_ = kept.state
    images = select(Instance.path, Instance.header).where(Instance.study_id == study_id, Instance.path != "")
    results = select(ResultObject.kind, ResultObject.path).where(
        ResultObject.study_id == study_id, ResultObject.revision == revision)
    return Kept(kept.state,
                [(path, Header.from_json(dict(header))) for path, header in session.exec(images.order_by(col(Instance.id)))
                 if header],
                [(kind, path) for kind, path in session.exec(results.order_by(col(ResultObject.id)))])
