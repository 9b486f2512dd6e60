"""What bundles said beside the active ones. It only reads."""

from __future__ import annotations

from sqlmodel import Session, col, select

from service.domain.shadow import Look
from service.store.tables import ShadowLook, Study


def looks_beside(session: Session, since: float = 0.0) -> list[Look]:
    """Return the looks since a moment (Unix time, seconds) at revisions that still stand, oldest first."""
    rows = session.exec(
        select(ShadowLook, Study.summary).join(Study, col(Study.id) == col(ShadowLook.study_id))
        .where(col(ShadowLook.looked_at) >= since, col(ShadowLook.revision) == col(Study.revision))
        .order_by(col(ShadowLook.looked_at), col(ShadowLook.id))).all()
    return [Look(row.bundle, row.version, row.digest, row.reason, row.seconds, active, row.summary) for row, active in rows]
