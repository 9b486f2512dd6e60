"""What several callers ask of one network at the same time is run in one batch, and nobody waits longer than he may."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from service.infer.batching import Batcher
from tests.peers import wait_until

LONG_S = 30.0


class Network:
    """Doubles what it is given, and remembers the batches; `gate` holds it."""

    def __init__(self) -> None:
        self.batches: list[list[float]] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.batches.append(feed["x"][:, 0].tolist())
        assert self.gate.wait(LONG_S)
        return {"y": 2 * feed["x"], "n": np.arange(len(feed["x"]))}


def image(value: float, width: int = 2) -> dict[str, np.ndarray]:
    return {"x": np.full((1, width), value, np.float32)}


def waiting(batcher: Batcher, count: int) -> None:
    wait_until(lambda: len(batcher._waiting) == count)


def test_callers_that_come_while_the_network_is_busy_are_run_together_each_with_his_own_answer() -> None:
    network = Network()
    batcher = Batcher(network, most=4, wait_s=0.0)
    network.gate.clear()
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(batcher.run, image(1))
        wait_until(lambda: network.batches)
        others = [pool.submit(batcher.run, image(n)) for n in (2, 3, 4)]
        waiting(batcher, 3)
        network.gate.set()
        answers = [done.result(LONG_S)["y"][0, 0] for done in (first, *others)]
    assert answers == [2, 4, 6, 8]
    assert network.batches[0] == [1] and sorted(network.batches[1]) == [2, 3, 4] and len(network.batches) == 2


def test_batch_that_is_full_waits_for_nobody() -> None:
    network = Network()
    batcher = Batcher(network, most=2, wait_s=LONG_S)
    with ThreadPoolExecutor(2) as pool:
        answers = [done.result(LONG_S / 3) for done in [pool.submit(batcher.run, image(n), 2) for n in (1, 2)]]
    assert len(network.batches) == 1 and [a["y"].shape for a in answers] == [(1, 2), (1, 2)]


def test_nobody_waits_longer_than_the_most_urgent_of_the_batch_may() -> None:
    network = Network()
    batcher = Batcher(network, most=8, wait_s=LONG_S)
    with ThreadPoolExecutor(2) as pool:
        patient = pool.submit(batcher.run, image(1), 2)
        waiting(batcher, 1)
        urgent = pool.submit(batcher.run, image(2), 0, 0.0)
        assert urgent.result(LONG_S / 3)["y"][0, 0] == 4 and patient.result(LONG_S / 3)["y"][0, 0] == 2
    assert network.batches == [[2, 1]]


def test_most_urgent_question_is_run_first_and_others_of_another_shape_after_it() -> None:
    network = Network()
    batcher = Batcher(network, most=2, wait_s=0.0)
    network.gate.clear()
    with ThreadPoolExecutor(5) as pool:
        held = pool.submit(batcher.run, image(0))
        wait_until(lambda: network.batches)
        routine = [pool.submit(batcher.run, image(n), 2) for n in (1, 2)]
        wide = pool.submit(batcher.run, image(3, width=5), 1)
        waiting(batcher, 3)
        stat = pool.submit(batcher.run, image(4), 0)
        waiting(batcher, 4)
        network.gate.set()
        assert [d.result(LONG_S)["y"].shape[1] for d in (held, *routine, wide, stat)] == [2, 2, 2, 5, 2]
    assert network.batches[1][0] == 4 and [3.0] in network.batches


def test_error_of_a_batch_reaches_each_of_its_callers_and_the_next_batch_runs() -> None:
    def fails(feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if (feed["x"] < 0).any():
            raise ValueError("no")
        return feed

    batcher = Batcher(fails, most=2, wait_s=LONG_S)
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(batcher.run, image(n)) for n in (-1, 1)]
        for one in asked:
            with pytest.raises(ValueError, match="no"):
                one.result(LONG_S)
    assert batcher.run(image(1), patience_s=0.0)["x"][0, 0] == 1


def test_output_that_is_not_one_row_for_each_image_is_an_error_and_never_somebody_elses_answer() -> None:
    batcher = Batcher(lambda feed: {"y": np.zeros((1, 2))}, most=2, wait_s=LONG_S)
    with ThreadPoolExecutor(2) as pool:
        for one in [pool.submit(batcher.run, image(n)) for n in (1, 2)]:
            with pytest.raises(ValueError, match="1 rows for 2 images"):
                one.result(LONG_S)
