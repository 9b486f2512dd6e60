"""How long the simulation takes, as a ratio to the least that any such simulation must do: one heap in, one heap out.

Run as `python -m tests.benchmarks.simulate`; it prints one line for each department. The floor is measured in the same
run: a push and a pop of the reading list and of the free readers for each study and policy, and nothing else.
"""

from __future__ import annotations

import heapq
import time
from dataclasses import replace

from service.domain.urgency import Urgency
from service.simulate.department import Department, Detector, example_department
from service.simulate.effect import Length, simulate
from service.simulate.groups import TOLD
from service.simulate.reading import Policy

YEAR = Length(replications=13, weeks=4)  # 52 counted weeks in all


def large() -> Department:
    """Return a large hospital: 60 radiographs and 10 CT an hour on average, with readers in proportion."""
    base = example_department()
    cxr, ct = base.modalities
    grown = tuple(5 * n for n in base.readers)
    return replace(base, name="60 radiographs and 10 CT an hour", readers=grown,
                   modalities=(replace(cxr, per_weekday=1440.0), replace(ct, per_weekday=240.0)))


def floor_s(studies: int) -> float:
    """Return the seconds that the heaps of one policy take for so many studies, ten of them waiting."""
    began = time.perf_counter()
    waiting, free = list(range(10)), [0.0, 1.0]
    for study in range(10, studies + 10):
        heapq.heappush(waiting, study)
        heapq.heappop(waiting)
        now = heapq.heappop(free)
        heapq.heappush(free, now + 1.0)
    return time.perf_counter() - began


def main() -> None:
    """Simulate a year of each department and print its time, its ratio to the floor, and what it found."""
    detectors = tuple(Detector("", name, 0.9, 0.9, Urgency.URGENT, "given") for name in ("pneumonia", "edema", "covid19"))
    for department in (d.with_detectors({"cxr": detectors}) for d in (example_department(), large())):
        began = time.perf_counter()
        effect = simulate(department, YEAR, seed=1)
        took_s = time.perf_counter() - began
        simulated = effect.studies * YEAR.hours / (YEAR.weeks * 168)
        least_s = floor_s(round(simulated)) * len(Policy)
        waits = effect.row(TOLD).waits
        ours, fifo = waits[Policy.OURS].mean, waits[Policy.FIFO].mean
        each_us = 1e6 * took_s / simulated / len(Policy)
        print(  # noqa: T201
            f"{department.name}: {effect.studies} of {simulated:.0f} studies counted, {len(Policy)} orders, {took_s:.1f} s, "
            f"{took_s / least_s:.1f} x the heaps alone, {each_us:.2f} us a study and order; mean wait with a condition "
            f"{ours.value / 60:.1f} min [{ours.low / 60:.1f}, {ours.high / 60:.1f}], first come {fifo.value / 60:.1f}")


if __name__ == "__main__":
    main()
