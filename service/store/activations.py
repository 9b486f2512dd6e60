"""Which bundles read a kind of study, when that was switched while the service runs; else the settings say."""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from service.store.tables import Activation


def switched_to(session: Session, kind: str) -> tuple[str, ...] | None:
    """Return the bundles that were last switched to for a kind of study, the leading one first; None: as the settings."""
    found = session.exec(_latest(kind)).first()
    return tuple(found.bundles) if found is not None and found.bundles else None


def switch(session: Session, kind: str, bundles: Sequence[str], now: float, who: str) -> None:
    """Switch a kind of study to these bundles; none: back to what the settings say. who: for the history."""
    session.add(Activation(kind=kind, bundles=list(bundles), at=now, who=who))


def roll_back(session: Session, kind: str, now: float, who: str) -> tuple[str, ...] | None:
    """Switch to what was in use before the last switch that was no rolling back; return it, () for the settings.

    None: nothing was ever switched, or all of it is rolled back.
    """
    rows = session.exec(_latest(kind)).all()
    undone = 0
    for row in rows:
        if row.rolled_back:
            undone += 1
        elif undone:
            undone -= 1
        else:
            before = _before(rows[rows.index(row) + 1:])
            session.add(Activation(kind=kind, bundles=list(before), at=now, who=who, rolled_back=True))
            return before
    return None


def history(session: Session, kind: str) -> list[Activation]:
    """Return every switch of a kind of study, the latest first."""
    return list(session.exec(_latest(kind)).all())


def _before(earlier: Sequence[Activation]) -> tuple[str, ...]:
    return tuple(earlier[0].bundles) if earlier else ()


def _latest(kind: str) -> SelectOfScalar[Activation]:
    return select(Activation).where(Activation.kind == kind).order_by(col(Activation.at).desc(), col(Activation.id).desc())
