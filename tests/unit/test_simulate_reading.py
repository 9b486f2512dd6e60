"""The simulated lists: whose turn it is, by hand on few studies, and against a slow reading of the same rules."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from service.domain.order import ReadingOrder, deadline_at
from service.domain.urgency import Urgency
from service.simulate.arrivals import NO_FLAG, Workload, draw
from service.simulate.department import Ai, Department, example_department
from service.simulate.queue import look, overtakes
from service.simulate.reading import Policy, Rota, read

ONE = (1,) * 168
TARGETS = (10.0, 60.0, 600.0, 6000.0)


def workload(*rows: tuple[float, Urgency, Urgency | None], reading_s: float = 100.0, noticed: bool = False) -> Workload:
    """Return studies from (arrival, ordered, what the AI asks for); results at arrival, 10 s of the models each."""
    arrived = np.array([row[0] for row in rows])
    n = arrived.size
    flags = [NO_FLAG if row[2] is None else row[2].rank for row in rows]
    return Workload(
        arrived, np.zeros(n, np.int8), np.full(n, -1, np.int8), np.array([row[1].rank for row in rows], np.int8),
        np.array(flags, np.int8), np.full(n, reading_s), arrived, arrived, np.full(n, 10.0), np.zeros(n, bool),
        np.full(n, noticed))


def turns(load: Workload, policy: Policy, result_s: np.ndarray | None = None, cap_s: float = 0.0) -> list[int]:
    """Return the places of the studies in the order in which they are read."""
    started = read(load, load.arrived_s if result_s is None else result_s, policy, ONE, cap_s)
    return np.argsort(started, kind="stable").tolist()


STAT, URGENT, ROUTINE, LOW = Urgency


def test_each_policy_takes_its_own_turn() -> None:
    load = workload((0, ROUTINE, None), (1, LOW, None), (2, ROUTINE, None), (3, ROUTINE, URGENT), (4, STAT, None),
                    noticed=True)
    assert turns(load, Policy.FIFO) == [0, 1, 2, 3, 4]
    assert turns(load, Policy.FLAG) == [0, 3, 1, 2, 4]
    assert turns(load, Policy.ORDERED) == [0, 4, 2, 3, 1]
    assert turns(load, Policy.UNCAPPED) == [0, 4, 3, 2, 1]
    assert turns(load, Policy.OURS, cap_s=250.0) == [0, 4, 3, 1, 2]  # at 300 s both lower ones are past the cap


def test_a_flag_that_nobody_notices_changes_nothing() -> None:
    department = replace(example_department().with_detectors({}), flag_noticed=0.0)
    load = draw(department, 400, np.random.default_rng(3))
    result = look(load, TARGETS, 1).result_s
    assert np.array_equal(read(load, result, Policy.FLAG, ONE, 0.0), read(load, result, Policy.FIFO, ONE, 0.0))


def test_the_ai_never_lowers_what_was_ordered() -> None:
    load = workload((0, ROUTINE, None), (1, STAT, LOW), (2, URGENT, URGENT), (3, STAT, None))
    assert turns(load, Policy.OURS) == [0, 1, 3, 2]


def test_a_result_counts_from_when_it_is_there_and_not_at_all_when_the_model_failed() -> None:
    load = workload((0, ROUTINE, None), (1, ROUTINE, None), (2, ROUTINE, STAT), (3, ROUTINE, STAT))
    late = np.array([0.0, 1.0, 150.0, np.nan])
    assert turns(load, Policy.OURS, late) == [0, 1, 2, 3]
    assert turns(load, Policy.OURS, np.array([0.0, 1.0, 99.0, np.nan])) == [0, 2, 1, 3]


def test_nobody_reads_while_nobody_is_on_duty() -> None:
    readers = ((0,) * 8 + (2,) * 8 + (0,) * 8) * 7
    load = workload((0, ROUTINE, None), (60, ROUTINE, None), (120, ROUTINE, None), (16 * 3600.0, STAT, None),
                    reading_s=1000.0)
    started = read(load, load.arrived_s, Policy.OURS, readers, 0.0)
    assert started.tolist() == [8 * 3600.0, 8 * 3600.0, 8 * 3600.0 + 1000.0, 32 * 3600.0]
    assert Rota(readers).next_on_duty(0, 9.5 * 3600) == 9.5 * 3600
    assert Rota(readers).next_on_duty(2 - 1, 17 * 3600.0) == 32 * 3600.0


def _slowly(load: Workload, result_s: np.ndarray, cap_s: float) -> list[float]:
    """Read one study after the other with one reader, looking at every waiting study each time."""
    order, started, now = ReadingOrder(cap_s), [-1.0] * load.size, 0.0
    for _ in range(load.size):
        left = [i for i in range(load.size) if started[i] < 0]
        now = max(now, min(load.arrived_s[i] for i in left))

        def key(i: int, now: float = now) -> tuple[int, float]:
            told = result_s[i] <= now  # false for NaN
            rank = min(load.ordered_rank[i], load.flag_rank[i]) if told else load.ordered_rank[i]
            return order.rank(int(rank), now - load.arrived_s[i]), load.arrived_s[i]

        chosen = min((i for i in left if load.arrived_s[i] <= now), key=key)
        started[chosen] = now
        now += load.reading_s[chosen]
    return started


@pytest.mark.parametrize("cap_s", [0.0, 1800.0, 7200.0, 36000.0])
def test_the_fast_list_reads_as_the_slow_one(cap_s: float) -> None:
    department = replace(example_department(), readers=ONE, ai=Ai(1, 0.1))
    load = draw(department, 40, np.random.default_rng(17))
    result = look(load, TARGETS, 1).result_s
    policy = Policy.OURS if cap_s else Policy.UNCAPPED
    assert read(load, result, policy, ONE, cap_s).tolist() == pytest.approx(_slowly(load, result, cap_s))


def test_the_models_take_the_earliest_deadline_and_count_whom_they_pass() -> None:
    load = workload((0, LOW, None), (1, LOW, None), (2, STAT, None), (3, ROUTINE, None), (4, URGENT, None))
    looked = look(load, TARGETS, engines=1)
    assert looked.started_s.tolist() == [0, 40, 10, 30, 20]
    assert looked.result_s.tolist() == [10, 50, 20, 40, 30]
    assert looked.passed.tolist() == [0, 0, 1, 1, 2]
    two = look(load, TARGETS, engines=2)
    assert sorted(two.started_s.tolist()) == [0, 1, 10, 11, 20]


def test_a_routine_study_is_not_starved_by_urgent_ones() -> None:
    """Earliest deadline first: what came long ago is due before an urgent study that came later."""
    assert deadline_at(0.0, TARGETS[2]) < deadline_at(560.0, TARGETS[1])
    rows = [(0.0, ROUTINE, None), *((float(n), URGENT, None) for n in range(1, 100))]
    looked = look(workload(*rows), TARGETS, 1)
    assert looked.started_s[0] == 0.0
    rows = [(0.0, STAT, None), (0.5, ROUTINE, None), *((8.0 * n, URGENT, None) for n in range(1, 300))]
    assert look(workload(*rows), TARGETS, 1).started_s[1] < 800


def test_overtakes_are_those_of_a_plain_count() -> None:
    random = np.random.default_rng(8)
    queued = np.round(np.sort(random.random(300)) * 3000, 3)
    started, rank = queued + random.exponential(200, 300) * (random.random(300) < 0.7), random.integers(0, 4, 300)
    plain = [sum(queued[k] < queued[i] and started[k] > started[i] and rank[k] > rank[i] for k in range(300))
             for i in range(300)]
    shuffled = random.permutation(300)
    assert overtakes(queued[shuffled], started[shuffled], rank[shuffled]).tolist() == [plain[i] for i in shuffled]
    assert sum(plain) > 50


def test_a_department_without_ai_gets_no_result() -> None:
    base = example_department()
    department = Department("x", tuple(replace(m, detectors=()) for m in base.modalities))
    load = draw(department, 100, np.random.default_rng(1))
    assert np.isnan(look(load, TARGETS, 1).result_s).all() and not load.flagged.any()
