"""What other systems announce of a study: instances that are available, procedure steps that have ended."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from service.domain.notice import KEPT_CLASSES, NoticeKind, NoticeState


@dataclass(frozen=True)
class Told:
    """One notice: of whom, how far, and the SOP Class UID of each SOP Instance UID that it lists."""

    kind: NoticeKind
    sender: str
    state: NoticeState
    listed: Mapping[str, str]


@dataclass(frozen=True)
class Announced:
    """What all notices of a study say together.

    told: who told what, in words; listed: how many images of the kinds that we keep; missing: those of them that are
    not here, by SOP Instance UID; ended: no procedure step is in progress, and something is listed.
    """

    told: str
    listed: int
    missing: tuple[str, ...]
    ended: bool


def announced(notices: Sequence[Told], held: Collection[str]) -> Announced | None:
    """Compare what notices list with the SOP Instance UIDs that are here; None without a notice.

    Objects of kinds that are not kept (reports, presentation states, secondary captures) do not count.
    """
    if not notices:
        return None
    images = {uid for n in notices for uid, sop_class in n.listed.items() if sop_class in KEPT_CLASSES}
    ended = bool(images) and all(n.state is not NoticeState.IN_PROGRESS for n in notices)
    told = ", ".join(dict.fromkeys(_said(n) for n in notices))
    return Announced(told, len(images), tuple(sorted(images - set(held))), ended)


def _said(notice: Told) -> str:
    if notice.kind is NoticeKind.AVAILABILITY:
        return f"instances announced as available by {notice.sender}"
    return f"procedure step {notice.state.value}, told by {notice.sender}"
