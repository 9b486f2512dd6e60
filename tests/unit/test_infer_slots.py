"""The next free session goes to the most urgent who waits."""

from __future__ import annotations

import threading

from service.infer.slots import Slots
from tests.peers import wait_until


def test_the_most_urgent_who_waits_is_next_and_of_equals_the_first() -> None:
    slots: Slots[str] = Slots()
    order: list[str] = []
    threads = []
    for number, (name, rank) in enumerate((("low", 3), ("routine", 2), ("stat", 0), ("routine too", 2))):

        def work(name: str = name, rank: int = rank) -> None:
            slot = slots.take(rank, 30)
            order.append(name)
            assert slot is not None
            slots.give(slot)

        threads.append(threading.Thread(target=work))
        threads[-1].start()
        wait_until(lambda n=number: len(slots._waiting) == n + 1)
    slots.give("only one")
    for thread in threads:
        thread.join(30)
    assert order == ["stat", "routine", "routine too", "low"]


def test_who_waited_too_long_leaves_the_next_slot_to_others() -> None:
    slots: Slots[str] = Slots()
    assert slots.take(0, 0.01) is None
    slots.give("a")
    assert slots.take(2, 1) == "a"
