"""What is known already of CT studies that have not been looked at: slices that were read as they came, and whole looks.

It is memory only, bounded, and may be thrown away at any time: what is not here is done when it is needed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from service.infer.presentation import Presentation

MOST_SOURCE_BYTES = 100_000
"""Most bytes of the elements of a slice, besides its pixels, that are kept; a CT of a scanner has some thousand."""
_SOURCE_BYTES = 30_000 + MOST_SOURCE_BYTES  # with its Python objects


@dataclass(frozen=True, eq=False)
class SliceRead:
    """One slice, decoded, and what a network said of it.

    sha256: of the image's data set; digest: of the network; presentation: how the slice was turned for it; hu: (y, x)
    float32, HU, on the source grid; classes: (y, x) uint8, turned; beside: further outputs of the network, (1, ...);
    source: its data set without pixels, None of a frame.
    """

    sha256: str
    digest: str
    presentation: Presentation
    hu: NDArray[np.float32]
    classes: NDArray[np.uint8]
    beside: dict[str, NDArray[Any]]
    source: Dataset | None = None

    @property
    def size_bytes(self) -> int:
        """Memory it takes, bytes."""
        return self.hu.nbytes + self.classes.nbytes + (_SOURCE_BYTES if self.source is not None else 0)


@dataclass(eq=False)
class _Place:
    """What is kept of one study. rank: of its urgency; looked: a whole look, and the digest of the images it was at."""

    rank: int
    slices: dict[str, SliceRead] = field(default_factory=dict)
    looked: tuple[str, Any] | None = None
    looked_bytes: int = 0

    @property
    def size_bytes(self) -> int:
        return self.looked_bytes + sum(one.size_bytes for one in self.slices.values())


class Shelf:
    """Slices and looks by the number of their study. Safe to call from several threads.

    most_bytes: memory for all of it; for more urgent studies less urgent ones are dropped. told: is called with how many
    slices were dropped unused. With 0 nothing is kept.
    """

    def __init__(self, most_bytes: int = 0, told: Callable[[int], None] = lambda dropped: None) -> None:
        self._most_bytes, self._told = most_bytes, told
        self._places: dict[int, _Place] = {}
        self._held_bytes = 0
        self._lock = threading.Lock()
        self._looking: dict[int, str] = {}
        self._looked = threading.Condition()

    @property
    def held_bytes(self) -> int:
        """Memory in use, bytes."""
        return self._held_bytes

    def put(self, study_id: int, rank: int, uid: str, one: SliceRead) -> bool:
        """Keep a slice, by its SOP Instance UID; False when there is no room. rank: of the urgency of its study."""
        with self._lock:
            if not self._room(study_id, rank, one.size_bytes):
                return False
            place = self._places.setdefault(study_id, _Place(rank))
            place.rank = rank
            before = place.slices.pop(uid, None)
            place.slices[uid] = one
            self._held_bytes += one.size_bytes - (before.size_bytes if before else 0)
            return True

    def keep_look(self, study_id: int, rank: int, digest: str, looked: Any, size_bytes: int) -> bool:
        """Keep a whole look at the images of this digest; the slices of the study are dropped for it where need be."""
        with self._lock:
            place = self._places.setdefault(study_id, _Place(rank))
            if not self._room(study_id, rank, size_bytes):
                self._empty(place)
                if not self._room(study_id, rank, size_bytes):
                    return False
            self._held_bytes += size_bytes - place.looked_bytes
            place.looked, place.looked_bytes = (digest, looked), size_bytes
            return True

    @contextmanager
    def looking(self, study_id: int, digest: str) -> Iterator[None]:
        """Say that a whole look at the images of this digest is being had, which `keep_look` shall keep."""
        with self._looked:
            self._looking[study_id] = digest
        try:
            yield
        finally:
            with self._looked:
                self._looking.pop(study_id, None)
                self._looked.notify_all()

    def wait_for_look(self, study_id: int, digest: str, timeout_s: float) -> bool:
        """Wait while a look at the images of this digest is being had; False when the time is up first."""
        with self._looked:
            return self._looked.wait_for(lambda: self._looking.get(study_id) != digest, timeout_s)

    def slices(self, study_id: int) -> dict[str, SliceRead]:
        """Return the slices of a study that are known, by SOP Instance UID; they stay."""
        with self._lock:
            place = self._places.get(study_id)
            return dict(place.slices) if place else {}

    def take(self, study_id: int) -> dict[str, SliceRead]:
        """Take the slices of a study out, and its look with them; they are the caller's now."""
        with self._lock:
            place = self._places.pop(study_id, None)
            if place is None:
                return {}
            self._held_bytes -= place.size_bytes
            return place.slices

    def take_look(self, study_id: int, digest: str) -> Any | None:
        """Take out a whole look at the images of this digest, and all else of the study; None where there is none."""
        with self._lock:
            place = self._places.get(study_id)
            if place is None or place.looked is None or place.looked[0] != digest:
                return None
            self._held_bytes -= place.size_bytes
            del self._places[study_id]
            return place.looked[1]

    def only(self, study_ids: Collection[int]) -> None:
        """Drop what is kept of all studies but these."""
        with self._lock:
            for number in self._places.keys() - set(study_ids):
                self._drop(number)

    def _room(self, study_id: int, rank: int, size_bytes: int) -> bool:
        """Make room, where less urgent studies have to be dropped for it; the least urgent goes first."""
        while self._held_bytes + size_bytes > self._most_bytes:
            less = [(place.rank, number) for number, place in self._places.items()
                    if place.rank > rank and number != study_id and place.size_bytes]
            if not less:
                return False
            self._drop(max(less)[1])
        return True

    def _drop(self, study_id: int) -> None:
        place = self._places.pop(study_id)
        self._held_bytes -= place.looked_bytes
        self._empty(place)

    def _empty(self, place: _Place) -> None:
        self._held_bytes -= sum(one.size_bytes for one in place.slices.values())
        if place.slices and place.looked is None:
            self._told(len(place.slices))
        place.slices.clear()
