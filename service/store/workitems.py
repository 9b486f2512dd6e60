"""Work items that were claimed: written down before the manager is asked, so that a restart goes on with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlmodel import Field, Session, SQLModel, col, select

from service.domain.workitem import OPEN_ITEMS, PRIORITIES


class WorkItem(SQLModel, table=True):
    """One work item of a Unified Procedure Step manager.

    transaction_uid: of our claim; priority: HIGH, MEDIUM or LOW; cancel_at: somebody asked for it to be canceled;
    told: the progress that the manager was last told of; subscribed: it sends us reports.
    """

    id: int | None = Field(default=None, primary_key=True)
    uid: str = Field(unique=True, max_length=64)
    manager: str
    transaction_uid: str = Field(max_length=64)
    study_instance_uid: str = Field(max_length=64, index=True)
    priority: str
    state: str = Field(index=True)
    found_at: float
    claimed_at: float | None = None
    cancel_at: float | None = None
    ended_at: float | None = None
    told: str = ""
    detail: str = ""


def open_items(session: Session, manager: str) -> list[WorkItem]:
    """Return the work items of a manager that we have claimed, or may have, oldest first."""
    return list(session.exec(select(WorkItem).where(
        WorkItem.manager == manager, col(WorkItem.state).in_(OPEN_ITEMS)).order_by(col(WorkItem.id))).all())


def known_items(session: Session, uids: Sequence[str]) -> dict[str, WorkItem]:
    """Return those of these work items that we know, by UID."""
    return {row.uid: row for row in session.exec(select(WorkItem).where(col(WorkItem.uid).in_(uids))).all()}


def items_of(session: Session, study_instance_uid: str) -> list[WorkItem]:
    """Return the work items on a study, oldest first."""
    return list(session.exec(select(WorkItem).where(
        WorkItem.study_instance_uid == study_instance_uid).order_by(col(WorkItem.id))).all())


def priority_of(session: Session, study_instance_uid: str) -> str:
    """Return the highest priority that open work items give a study; "" when there is none."""
    given = {i.priority for i in items_of(session, study_instance_uid) if i.state in OPEN_ITEMS}
    return next((p for p in PRIORITIES if p in given), "")


def ask_to_cancel(session: Session, uid: str, ae_titles: Mapping[str, str], calling: str, now: float) -> bool:
    """Note that a manager reports that somebody wants a work item canceled; False when it is not an open one of its own.

    ae_titles: AE title of each manager by its name; calling: who reports.
    """
    item = known_items(session, [uid]).get(uid)
    if item is None or item.state not in OPEN_ITEMS or ae_titles.get(item.manager, "").strip() != calling.strip():
        return False
    item.cancel_at = item.cancel_at or now
    session.add(item)
    return True
