"""Who gets in at all: connections are counted before a byte is read, associations before they are accepted.

A connection waits from its first packet until its association is requested: its handshake and its request have yet to come.
Those that wait are counted apart from associations, so that silent ones take nobody's place, and no address can fill the
hall alone. Where one more would be too many, the one that has waited longest has to go, not the newcomer: who means to send
asks at once, and however many silent connections somebody opens, even from the address of a good sender, it gets in.
Nobody is told more than needed: who is turned away here gets no answer, only the end of the connection.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from enum import StrEnum

from service.receive.policy import Policy, Refusal, plain_address

_SELDOM_S = 1.0


class Shut(StrEnum):
    """Why a connection is closed without an answer; the value is what log and metric say."""

    UNLISTED_ADDRESS = "unlisted_address"
    TOO_MANY_WAIT = "too_many_waiting"
    TOO_MANY_WAIT_OF_ADDRESS = "too_many_waiting_of_address"


def _nothing(because: Shut) -> None:
    """Stand in where there is no connection to close."""


class Place:
    """The place of one connection. `leave` must end it; more than once does no harm.

    close: closes the connection, when it has waited for too long and another one needs the place.
    """

    def __init__(self, door: Door, address: str, close: Callable[[Shut], None]) -> None:
        self._door, self.address, self.close = door, address, close
        self.calling: str | None = None
        self.left = False

    def associate(self, calling: str) -> Refusal | None:
        """Turn the connection into an association of this AE title, unless there are too many: then, why not."""
        return self._door.associate(self, calling.strip())

    def leave(self) -> None:
        """Give the place back."""
        self._door.leave(self)


class Door:
    """Counts who is in. Every method may be called from any thread."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._lock = threading.Lock()
        self._waiting: dict[str, OrderedDict[Place, None]] = {}  # by address, the longest waiting first
        self._by_address: Counter[str] = Counter()
        self._by_calling: Counter[str] = Counter()

    def enter(self, address: str, close: Callable[[Shut], None] = _nothing) -> Place | Shut:
        """Give a connection from an IP address a place, or say why it gets none. close: closes this connection."""
        policy, address = self._policy, plain_address(address)
        if policy.close_unlisted_addresses and not policy.lists(address):
            return Shut.UNLISTED_ADDRESS
        place = Place(self, address, close)
        with self._lock:
            gone = self._longest_waiting(address)
            if gone is not None:
                self._strike_out(gone[0])
            self._waiting.setdefault(address, OrderedDict())[place] = None
        if gone is not None:
            gone[0].close(gone[1])
        return place

    def associate(self, place: Place, calling: str) -> Refusal | None:
        """Count an association that is about to be accepted, or say why it cannot be: Place.associate."""
        policy = self._policy
        with self._lock:
            if self._by_address.total() >= policy.max_associations:
                return Refusal.TOO_MANY
            if 0 < policy.max_associations_per_ae <= self._by_calling[calling]:
                return Refusal.TOO_MANY_OF_AE
            if 0 < policy.max_associations_per_address <= self._by_address[place.address]:
                return Refusal.TOO_MANY_OF_ADDRESS
            if place.left:
                return Refusal.TOO_MANY
            place.calling = calling
            self._wait_no_more(place)
            self._by_address[place.address] += 1
            self._by_calling[calling] += 1
        return None

    def leave(self, place: Place) -> None:
        """Strike a place out: Place.leave."""
        with self._lock:
            self._strike_out(place)

    def _longest_waiting(self, address: str) -> tuple[Place, Shut] | None:
        """Return who has to go for one more from an address, and why; None when there is room.

        In all: somebody of the address that has most of them.
        """
        if len(self._waiting.get(address, ())) >= self._policy.max_waiting_per_address:
            return next(iter(self._waiting[address])), Shut.TOO_MANY_WAIT_OF_ADDRESS
        if sum(map(len, self._waiting.values())) >= self._policy.max_waiting:
            most = max(self._waiting, key=lambda other: len(self._waiting[other]))
            return next(iter(self._waiting[most])), Shut.TOO_MANY_WAIT
        return None

    def _strike_out(self, place: Place) -> None:
        if place.left:
            return
        place.left = True
        if place.calling is None:
            self._wait_no_more(place)
        else:
            _take(self._by_address, place.address)
            _take(self._by_calling, place.calling)

    def _wait_no_more(self, place: Place) -> None:
        """Strike out one that waits, and forget an address that has none left: addresses are the peers' choice."""
        waiting = self._waiting[place.address]
        del waiting[place]
        if not waiting:
            del self._waiting[place.address]


class Seldom:
    """Says of things that may come in floods which to write down: one of a kind each second."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._last: dict[str, float] = {}
        self._unsaid: Counter[str] = Counter()

    def due(self, kind: str) -> int | None:
        """Return None when one of this kind was written down just now, else how many were not since the last.

        kind: of few, for each is remembered.
        """
        now = self._clock()
        with self._lock:
            if now - self._last.get(kind, -_SELDOM_S) < _SELDOM_S:
                self._unsaid[kind] += 1
                return None
            self._last[kind] = now
            return self._unsaid.pop(kind, 0)


def _take(counter: Counter[str], key: str) -> None:
    """Count one less, and forget who has none left: addresses and titles are the peers' choice."""
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]
