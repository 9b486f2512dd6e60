"""The lesions of a study by themselves, and beside those of an earlier one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from service.domain.lesion import Alignment, Course, Followed, Following, Lesion, course_of
from service.follow.alignment import align, believed
from service.follow.kept import Marked
from service.follow.matching import Group, matched
from service.follow.pieces import Pieces, lesion_of, pieces_of

NewUid = Callable[[Lesion], str]
"""Returns the Tracking UID of a lesion that was not there before; the same lesion always has the same."""


@dataclass(frozen=True, eq=False)
class Shown:
    """What was marked in this study. sop_instance_uids: of the slices in order; new_uid: names new lesions."""

    marked: Marked
    sop_instance_uids: Sequence[str]
    new_uid: NewUid


def alone(shown: Shown) -> tuple[Lesion, ...]:
    """Return the lesions of a study that is compared with none, the largest first: each piece is one."""
    pieces = _pieces(shown.marked)
    return _numbered([_lesion(shown, pieces, (n,), "") for n in range(1, pieces.count + 1)])


def followed(shown: Shown, then: Marked, known: Sequence[Lesion]) -> tuple[tuple[Lesion, ...], Following]:
    """Return the lesions of a study, with the Tracking UIDs that they had, and what became of each since an earlier one.

    known: the lesions that were reported of the earlier study; empty: none were, for it was read by an older release.
    """
    here, there = shown.marked.lungs(), then.lungs()
    if not here.any() or not there.any():
        return alone(shown), Following(why_not="no lung to lay over the other")
    motion, alignment = align(here, shown.marked.grid, there, then.grid)
    if not believed(alignment):
        return alone(shown), Following(alignment=alignment, why_not=(
            f"the lungs could not be laid over each other ({alignment.overlap:.0%} of the smaller ones lie in the others)"))
    pieces, before = _pieces(shown.marked), _pieces(then)
    placed = {lesion: tuple(dict.fromkeys(n for n in map(before.at, lesion.seeds_mm) if n)) for lesion in known}
    groups = matched(pieces, before, motion, [p for p in placed.values() if p])
    return _told(shown, pieces, before, groups, placed, alignment)


def _told(shown: Shown, pieces: Pieces, before: Pieces, groups: Sequence[Group], placed: dict[Lesion, tuple[int, ...]],
          alignment: Alignment) -> tuple[tuple[Lesion, ...], Following]:
    of_piece = {n: lesion for lesion, numbers in placed.items() for n in numbers}
    of_group: dict[str, Group] = {}
    lesions = []
    for group in groups:
        if group.now:
            older = _older(group, of_piece)
            lesion = _lesion(shown, pieces, group.now, older[0].tracking_uid if older else "")
            lesions.append(lesion)
            of_group[lesion.tracking_uid] = group
    numbered = _numbered(lesions)
    said = [f for lesion in numbered for f in _present(lesion, of_group[lesion.tracking_uid], before, of_piece)]
    for group in groups:
        if not group.now:
            said += _gone(group, before, of_piece)
    return numbered, Following(tuple(said), alignment)


def _present(lesion: Lesion, group: Group, before: Pieces, of_piece: dict[int, Lesion]) -> list[Followed]:
    """Say what became of a lesion that is there, and of those that went into it."""
    then_ml = _ml(before, group.then)
    course = course_of(then_ml, lesion.volume_ml) if group.then else Course.NEW
    merged = [Followed(o.tracking_uid, lesion.number, Course.MERGED, o.volume_ml, 0.0, o.side)
              for o in _older(group, of_piece)[1:]]
    return [Followed(lesion.tracking_uid, lesion.number, course, then_ml, lesion.volume_ml, lesion.side), *merged]


def _gone(group: Group, before: Pieces, of_piece: dict[int, Lesion]) -> list[Followed]:
    """Say what is no longer there; of pieces that were never reported there is no Tracking UID."""
    older = _older(group, of_piece)
    if not older:
        return [Followed("", 0, Course.GONE, _ml(before, group.then), 0.0)]
    return [Followed(o.tracking_uid, 0, Course.GONE, o.volume_ml, 0.0, o.side) for o in older]


def _older(group: Group, of_piece: dict[int, Lesion]) -> list[Lesion]:
    """Return the lesions that these pieces were, the largest first."""
    found = {of_piece[n].tracking_uid: of_piece[n] for n in group.then if n in of_piece}
    return sorted(found.values(), key=lambda lesion: -lesion.volume_ml)


def _ml(before: Pieces, numbers: Sequence[int]) -> float:
    return round(float(sum(before.volumes_ml[n - 1] for n in numbers)), 3)


def _lesion(shown: Shown, pieces: Pieces, numbers: Sequence[int], tracking_uid: str) -> Lesion:
    made = lesion_of(pieces, numbers, shown.marked, shown.sop_instance_uids, tracking_uid)
    return made if tracking_uid else replace(made, tracking_uid=shown.new_uid(made))


def _pieces(marked: Marked) -> Pieces:
    return pieces_of(marked.marks, marked.grid, marked.abnormal)


def _numbered(lesions: Sequence[Lesion]) -> tuple[Lesion, ...]:
    ordered = sorted(lesions, key=lambda lesion: -lesion.volume_ml)
    return tuple(replace(lesion, number=n) for n, lesion in enumerate(ordered, 1))
