"""Saved views of the list: each reader's own, by name."""

from __future__ import annotations

from sqlmodel import Session, col, select

from service.store.tables import SavedView

MOST_NAME = 40
"""Characters of a name."""

MOST_VIEWS = 20
"""Of one reader."""


class TooManyViews(ValueError):
    """A reader who has MOST_VIEWS already."""


def views_of(session: Session, reader: str) -> list[SavedView]:
    """Return a reader's views by name."""
    query = select(SavedView).where(SavedView.reader == reader).order_by(col(SavedView.name))
    return list(session.exec(query))


def save_view(session: Session, reader: str, name: str, query: str, now: float) -> SavedView:
    """Keep a view in place of one of that name. now: Unix time, seconds. Raises: TooManyViews."""
    kept = {view.name: view for view in views_of(session, reader)}
    if name not in kept and len(kept) >= MOST_VIEWS:
        raise TooManyViews(f"at most {MOST_VIEWS} views; delete one first")
    view = kept.get(name) or SavedView(reader=reader, name=name, query=query, at=now)
    view.query, view.at = query, now
    session.add(view)
    return view


def delete_view(session: Session, reader: str, number: int) -> bool:
    """Delete a reader's own view; False where there is none of that number."""
    view = session.get(SavedView, number)
    if view is None or view.reader != reader:
        return False
    session.delete(view)
    return True
