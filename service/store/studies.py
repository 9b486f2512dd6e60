"""Queries on studies and their images that the pipeline needs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session, col, select

from service.domain.study import Header
from service.store.tables import Event, Instance, ResultObject

TOO_LARGE = "too_large"
"""The stage of the trace where a study reached its quota: images are missing, whoever looks at the others."""


@dataclass(frozen=True)
class StoredImage:
    """One received image: its header, where its file lies (relative to the spool) and the sha256 of its data set.

    received_at: Unix time, seconds; calling_aet: who sent it, "" when that was lost in a crash.
    """

    header: Header
    path: str
    sha256: str
    received_at: float = 0.0
    calling_aet: str = ""


def images_of(session: Session, study_id: int) -> list[StoredImage]:
    """Return the images of a study in the order of their SOP Instance UIDs."""
    rows = session.exec(
        select(Instance).where(Instance.study_id == study_id).order_by(col(Instance.sop_instance_uid))).all()
    return [StoredImage(Header.from_json(r.header), r.path, r.sha256, r.received_at, r.calling_aet) for r in rows]


def input_digest(images: Sequence[StoredImage]) -> str:
    """Return the sha256 over UIDs and contents of all images: the same input always gives the same digest."""
    digest = hashlib.sha256()
    for image in sorted(images, key=lambda i: i.header.sop_instance_uid):
        digest.update(f"{image.header.sop_instance_uid}:{image.sha256}\n".encode("ascii"))
    return digest.hexdigest()


def too_large(session: Session, study_id: int) -> str:
    """Return what the trace says of images that were refused because the study was too large; "" when none was."""
    said = session.exec(select(Event.text).where(Event.study_id == study_id, Event.stage == TOO_LARGE)).first()
    return said or ""


def results_of(session: Session, study_id: int, revision: int) -> list[ResultObject]:
    """Return the objects of one revision, in the order they were made: SEG before the SR that refers to it."""
    return list(session.exec(
        select(ResultObject).where(ResultObject.study_id == study_id, ResultObject.revision == revision)
        .order_by(col(ResultObject.id))).all())


def latest_before(session: Session, study_id: int, revision: int, kind: str) -> list[ResultObject]:
    """Return the objects of a kind from the newest revision before this one; empty when there is none."""
    rows = session.exec(
        select(ResultObject).where(
            ResultObject.study_id == study_id, ResultObject.kind == kind, col(ResultObject.revision) < revision)
        .order_by(col(ResultObject.revision).desc())).all()
    return [r for r in rows if r.revision == rows[0].revision]


def add_event(session: Session, study_id: int, at: float, stage: str, text: str,
              data: dict[str, Any] | None = None) -> None:
    """Write one line of a study's trace; text and data (JSON types) must be free of patient data."""
    session.add(Event(study_id=study_id, at=at, stage=stage, text=text, data=data or {}))
