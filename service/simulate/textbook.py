"""Cases whose waiting times are known: the simulation's own proof, run by `firstlook simulate --check`.

Eight cases of a published model of a triage device in a reading list (prevalence 0.1, ten minutes a reading), and the
published finding that re-ordering radiographs makes the longest wait longer unless the wait is capped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np

from service.domain.urgency import Urgency
from service.simulate import closed_form
from service.simulate.arrivals import NO_FLAG, Floats, Workload, draw
from service.simulate.closed_form import Served, Split, split
from service.simulate.department import Ai, Department, Detector, Modality, Shape
from service.simulate.interrupted import waits_when_interrupted
from service.simulate.intervals import Estimate, estimate
from service.simulate.reading import Policy, read

QUANTITIES = ("in order of arrival", "flagged", "not flagged", "diseased", "diseased, gain", "not diseased, gain")


@dataclass(frozen=True)
class Waits:
    """Mean waits, minutes: without AI; flagged and not flagged; diseased; and the change for diseased and the others."""

    fifo: float
    flagged: float
    not_flagged: float
    diseased: float
    diseased_change: float
    healthy_change: float


@dataclass(frozen=True)
class Case:
    """One case. load: of the readers; interrupts: a flagged study interrupts a reading; emergency: share of studies that
    are read at once, in emergency_min on average, by interrupting."""

    name: str
    load: float
    readers: int = 1
    interrupts: bool = True
    sensitivity: float = 0.9
    specificity: float = 0.9
    emergency: float = 0.0
    emergency_min: float = 5.0
    prevalence: float = 0.1
    reading_min: float = 10.0

    @property
    def rate(self) -> float:
        """Arrivals in a minute."""
        return self.load * self.readers / (self.emergency * self.emergency_min + (1 - self.emergency) * self.reading_min)

    @property
    def flag(self) -> Split:
        """How the flag splits the studies that are no emergencies."""
        return split(self.prevalence, self.sensitivity, self.specificity)

    def exact(self) -> Waits:
        """Return the waits by the closed forms. Raises: ValueError for emergencies with several readers (no such form)."""
        rates = [self.rate * self.emergency, self.rate * (1 - self.emergency)]
        flagged = [rates[0], rates[1] * self.flag.flagged, rates[1] * (1 - self.flag.flagged)]
        before, after = self._class_waits(rates)[1], self._class_waits(flagged)[1:]
        diseased = self.sensitivity * after[0] + (1 - self.sensitivity) * after[1]
        healthy = (1 - self.specificity) * after[0] + self.specificity * after[1]
        return Waits(before, after[0], after[1], diseased, diseased - before, healthy - before)

    def _class_waits(self, rates: Sequence[float]) -> list[float]:
        if self.readers == 1:
            classes = [Served.exponential(rates[0], self.emergency_min),
                       *(Served.exponential(rate, self.reading_min) for rate in rates[1:])]
            return closed_form.interrupted(classes) if self.interrupts else closed_form.not_interrupted(classes)
        if self.emergency:
            raise ValueError("there is no closed form for emergencies with several readers")
        form = closed_form.interrupted_by if self.interrupts else closed_form.not_interrupted_by
        return form(self.readers, rates, self.reading_min)

    def department(self) -> Department:
        """Return the case as a department: steady arrivals, exponential reading times, an AI that answers at once."""
        detector = Detector("", "disease", self.sensitivity, self.specificity, Urgency.URGENT, "given")
        a_day = 1440 * self.rate
        at_once = {"by_hour": (1.0,) * 24, "weekend": 1.0, "transfer_s": 0.0, "quiet_s": 0.0, "compute_s": 0.0}
        only = {u: tuple(float(u is v) for v in Urgency) for u in Urgency}
        reading_s, emergency_s = 60 * self.reading_min, 60 * self.emergency_min
        listed = Modality(
            "list", a_day * (1 - self.emergency), ordered=only[Urgency.ROUTINE], reading_s=reading_s,
            ordered_with_condition=only[Urgency.ROUTINE], prevalence={"disease": self.prevalence},
            reading_with_condition_s=reading_s, detectors=(detector,), **at_once)  # type: ignore[arg-type]
        emergency = Modality("emergency", a_day * self.emergency, ordered=only[Urgency.STAT],
                             ordered_with_condition=only[Urgency.STAT], reading_s=emergency_s,
                             reading_with_condition_s=emergency_s, **at_once)  # type: ignore[arg-type]
        return Department(self.name, (listed, emergency), readers=(self.readers,) * 168, shape=Shape.EXPONENTIAL,
                          ai=Ai(failure_rate=0.0))


CASES = (
    Case("load 0.8", 0.8),
    Case("load 0.8, no interruption", 0.8, interrupts=False),
    Case("load 0.5", 0.5),
    Case("load 0.9", 0.9),
    Case("load 0.8, sensitivity 0.95, specificity 0.88", 0.8, sensitivity=0.95, specificity=0.88),
    Case("load 0.8, two readers", 0.8, readers=2),
    Case("load 0.8, three readers", 0.8, readers=3),
    Case("load 0.8, one in ten an emergency of 5 min", 0.8, emergency=0.1),
)


def radiographs(longest_wait_s: float = 300 * 60.0) -> Department:
    """Return a reading room in which re-ordering makes the longest wait longer unless it is capped.

    One reader; every second radiograph holds a finding and is flagged; one in 25 a pneumothorax, of which the AI misses
    15 %. What it misses waits behind all that is flagged.
    """
    found = {"pneumothorax": (0.04, 0.95, Urgency.STAT), "another finding": (0.5, 0.85, Urgency.URGENT)}
    routine = tuple(float(u is Urgency.ROUTINE) for u in Urgency)
    detectors = tuple(Detector("", name, 0.85, specificity, urgency, "given")
                      for name, (_, specificity, urgency) in found.items())
    listed = Modality(
        "cxr", 200.0, ordered=routine, ordered_with_condition=routine, reading_s=336.0, reading_with_condition_s=336.0,
        prevalence={name: share for name, (share, _, _) in found.items()}, quiet_s=0.0, transfer_s=0.0, compute_s=1.0,
        detectors=detectors)
    return Department("Radiographs, one reader", (listed,), readers=(1,) * 168, shape=Shape.EXPONENTIAL,
                      longest_wait_s=longest_wait_s)


def simulate_case(case: Case, studies: int, replications: int, seed: int, confidence: float) -> tuple[Estimate, ...]:
    """Return the six quantities of `Waits` with intervals, minutes.

    studies: about as many in each replication; the first tenth is warm-up and not counted.
    """
    department, found = case.department(), []
    hours = max(1, round(studies / case.rate / 60))
    for child in np.random.SeedSequence(seed).spawn(replications):
        load = draw(department, hours, np.random.default_rng(child))
        before, after = (_waits(case, load, policy) / 60 for policy in (Policy.ORDERED, Policy.UNCAPPED))
        found.append(astuple(_means(load, before, after, load.arrived_s > 360.0 * hours)))
    return tuple(estimate(column, confidence) for column in np.array(found).T)


def _waits(case: Case, load: Workload, policy: Policy) -> Floats:
    if case.interrupts:
        rank = load.ordered_rank if policy is Policy.ORDERED else np.minimum(load.ordered_rank, load.flag_rank)
        return waits_when_interrupted(load.arrived_s, load.reading_s, rank, case.readers)
    return read(load, load.queued_s, policy, (case.readers,) * 168, 0.0) - load.arrived_s


def _means(load: Workload, before: Floats, after: Floats, counted: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Waits:
    listed = counted & (load.modality == 0)
    flagged, sick = load.flag_rank < NO_FLAG, load.condition >= 0
    change = after - before
    return Waits(*(float(of[listed & who].mean()) for of, who in (
        (before, listed), (after, flagged), (after, ~flagged), (after, sick), (change, sick), (change, ~sick))))
