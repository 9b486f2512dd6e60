"""Which bundles read a kind of study, or look beside, when that was switched while the service runs; else the settings say.

Those that look beside, at whatever kind, are switched as a kind of their own: BESIDE.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import update
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from service.domain.job import JobKind, JobState
from service.store.tables import Activation, Job

BESIDE = "shadow"
_NONE = "-"  # in the place of a bundle's name: none, whatever the settings say


def switched_to(session: Session, kind: str) -> tuple[str, ...] | None:
    """Return the bundles that were last switched to for a kind of study, the leading one first; None: as the settings."""
    found = session.exec(_latest(kind)).first()
    return named(found) if found is not None and found.bundles else None


def named(row: Activation) -> tuple[str, ...]:
    """Return the bundles that a switch names; none where it says so, or where it goes back to the settings."""
    return tuple(name for name in row.bundles if name != _NONE)


def latest(session: Session, kind: str) -> int:
    """Return the number of the last switch of a kind of study, 0 where there was none."""
    found = session.exec(_latest(kind)).first()
    return found.id or 0 if found is not None else 0


def switch(session: Session, kind: str, bundles: Sequence[str], now: float, who: str) -> None:
    """Switch a kind of study to these bundles; none: back to what the settings say. who: for the history."""
    session.add(Activation(kind=kind, bundles=list(bundles), at=now, who=who))


def switch_beside(session: Session, bundles: Sequence[str], as_set: Sequence[str], now: float, who: str) -> None:
    """Let these bundles look beside the active ones, and no others: looks of others that wait are called off.

    as_set: what the settings say; where it is the same, they hold again.
    """
    names = [] if tuple(bundles) == tuple(as_set) else list(bundles) or [_NONE]
    session.add(Activation(kind=BESIDE, bundles=names, at=now, who=who))
    session.exec(update(Job).where(
        col(Job.kind) == JobKind.SHADOW.value, col(Job.state) == JobState.WAITING.value, col(Job.target).not_in(bundles),
    ).values(state=JobState.CANCELLED.value, ended_at=now, detail="the bundle looks beside no more"))


def roll_back(session: Session, kind: str, now: float, who: str) -> tuple[str, ...] | None:
    """Switch to what was in use before the last switch that was no rolling back; return it, () for the settings.

    None: nothing was ever switched, or all of it is rolled back.
    """
    before = before_last(session, kind)
    if before is not None:
        session.add(Activation(kind=kind, bundles=list(before), at=now, who=who, rolled_back=True))
    return before


def before_last(session: Session, kind: str) -> tuple[str, ...] | None:
    """Return what rolling back would switch to, () for the settings; None where there is nothing to roll back."""
    rows = session.exec(_latest(kind)).all()
    undone = 0
    for row in rows:
        if row.rolled_back:
            undone += 1
        elif undone:
            undone -= 1
        else:
            return _before(rows[rows.index(row) + 1:])
    return None


def history(session: Session, kind: str) -> list[Activation]:
    """Return every switch of a kind of study, the latest first."""
    return list(session.exec(_latest(kind)).all())


def _before(earlier: Sequence[Activation]) -> tuple[str, ...]:
    return tuple(earlier[0].bundles) if earlier else ()


def _latest(kind: str) -> SelectOfScalar[Activation]:
    return select(Activation).where(Activation.kind == kind).order_by(col(Activation.at).desc(), col(Activation.id).desc())
