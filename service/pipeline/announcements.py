"""What the notices of a study, as kept in the database, say together."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from service.assemble.notice import Announced, Told, announced
from service.domain.notice import NoticeKind, NoticeState
from service.store.tables import Notice


def announcement(notices: Sequence[Notice], held: Collection[str]) -> Announced | None:
    """Compare notices with the SOP Instance UIDs that are here; None without a notice."""
    return announced([Told(NoticeKind(n.kind), n.calling_aet, NoticeState(n.state), n.listed) for n in notices], held)


def listed(notices: Sequence[Notice]) -> set[str]:
    """Return the SOP Instance UIDs that notices list."""
    return {uid for n in notices for uid in n.listed}
