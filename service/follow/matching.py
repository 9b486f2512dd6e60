"""Which lesion is which: those that lie over each other once two studies are aligned are one and the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.follow.alignment import Rigid
from service.follow.pieces import Pieces

LEAST_SHARE = 0.2
"""Share of the smaller of two that must lie in the other for them to be the same."""
_AT_ONCE = 500_000  # voxels


@dataclass(frozen=True)
class Group:
    """What is one lesion. now: its pieces in this study, then: those in the earlier one, from 1; either may be empty."""

    now: tuple[int, ...]
    then: tuple[int, ...]


def matched(now: Pieces, then: Pieces, motion: Rigid, together: Sequence[Sequence[int]]) -> list[Group]:
    """Group the pieces of two studies by what lies over what.

    motion: from now to then; together: pieces of then that were said to be one lesion.
    """
    shared_ml = _shared_ml(now, then, motion)
    union = _Union(now.count + then.count)
    for pieces in together:
        for other in pieces[1:]:
            union.join(now.count + pieces[0] - 1, now.count + other - 1)
    smaller = np.minimum(now.volumes_ml[:, None], then.volumes_ml[None, :])
    for one, other in np.argwhere(shared_ml >= LEAST_SHARE * smaller):
        union.join(int(one), now.count + int(other))
    return [
        Group(tuple(m + 1 for m in group if m < now.count), tuple(m - now.count + 1 for m in group if m >= now.count))
        for group in union.groups()]


def _shared_ml(now: Pieces, then: Pieces, motion: Rigid) -> NDArray[np.float64]:
    """Return (now, then) how much of each piece lies in each of the other study, ml."""
    counts = np.zeros((now.count + 1) * (then.count + 1), np.int64)
    voxels = now.voxels(0)
    for start in range(0, len(voxels), _AT_ONCE):
        some = voxels[start:start + _AT_ONCE]
        places = now.grid.places(some)
        pairs = now.numbers(places).astype(np.int64) * (then.count + 1) + then.numbers(motion.moved(places))
        counts += np.bincount(pairs, minlength=len(counts))
    shared: NDArray[np.float64] = counts.reshape(now.count + 1, then.count + 1)[1:, 1:] * np.float64(now.grid.voxel_ml)
    return shared


class _Union:
    """Things that belong together."""

    def __init__(self, count: int) -> None:
        self._of = list(range(count))

    def join(self, one: int, other: int) -> None:
        """Put what two things belong to together."""
        a, b = sorted((self._root(one), self._root(other)))
        self._of[b] = a

    def groups(self) -> list[list[int]]:
        """Return what belongs together, each in order."""
        found: dict[int, list[int]] = {}
        for thing in range(len(self._of)):
            found.setdefault(self._root(thing), []).append(thing)
        return list(found.values())

    def _root(self, thing: int) -> int:
        while self._of[thing] != thing:
            thing = self._of[thing]
        return thing
