"""A department: what arrives and when, what it holds, who reads and how long that takes, and what the AI adds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from service.domain.urgency import Urgency

HOURS = 168
"""Hours of a week; hour 0 begins on Monday at midnight."""
ASSUMED = "assumed, not measured"
_DAY = (2, 2, 1, 1, 1, 2, 3, 5, 8, 9, 9, 8, 7, 7, 7, 7, 6, 5, 4, 4, 3, 3, 3, 2)
_READERS = (1,) * 9 + (2,) * 6 + (1,) * 9
_READERS_WEEKEND = (1,) * 24


class Shape(StrEnum):
    """How reading times scatter: lognormal with a given spread; exponential; or always the same."""

    LOGNORMAL = "lognormal"
    EXPONENTIAL = "exponential"
    CONSTANT = "constant"


@dataclass(frozen=True)
class Detector:
    """One finding of one bundle that raises a study's urgency.

    finding: name of the bundle's output, and of the condition it tells; sensitivity, specificity: 0..1 at the threshold
    in use; urgency: what it asks for; basis: where the two figures are from, in words.
    """

    bundle: str
    finding: str
    sensitivity: float
    specificity: float
    urgency: Urgency
    basis: str


@dataclass(frozen=True)
class Modality:
    """One stream of studies.

    by_hour: 24 weights of a day's hours; weekend: arrivals of a Saturday or Sunday as a part of a weekday's; ordered,
    ordered_with_condition: share of each ordered urgency, most urgent first; prevalence: share of studies with each
    condition (at most one a study); transfer_s: first to last image; quiet_s: from there until the models may look;
    compute_s: their own time.
    """

    name: str
    per_weekday: float
    by_hour: tuple[float, ...] = _DAY
    weekend: float = 0.5
    ordered: tuple[float, ...] = (0.03, 0.17, 0.7, 0.1)
    ordered_with_condition: tuple[float, ...] = (0.06, 0.34, 0.55, 0.05)
    prevalence: Mapping[str, float] = field(default_factory=dict)
    reading_s: float = 180.0
    reading_with_condition_s: float = 240.0
    transfer_s: float = 2.0
    quiet_s: float = 5.0
    compute_s: float = 0.5
    detectors: tuple[Detector, ...] = ()

    def per_hour(self) -> tuple[float, ...]:
        """Return the mean number of arrivals in each of the 168 hours of a week."""
        total = sum(self.by_hour)
        return tuple(self.per_weekday * (self.weekend if day >= 5 else 1.0) * weight / total
                     for day in range(7) for weight in self.by_hour)

    @property
    def mean_reading_s(self) -> float:
        """The mean reading time over studies with and without a condition, seconds."""
        present = sum(self.prevalence.values())
        return present * self.reading_with_condition_s + (1 - present) * self.reading_s


@dataclass(frozen=True)
class Ai:
    """How the models are run. engines: studies looked at side by side; failure_rate: share of studies without a result."""

    engines: int = 1
    failure_rate: float = 0.02


@dataclass(frozen=True)
class Department:
    """The whole. readers: how many read in each of the 168 hours of a week.

    spread: standard deviation of lognormal reading times as a part of their mean; flag_noticed: share of flags on which
    a reader acts when the order of the list stays as it is; longest_wait_s: the cap of the reading list, 0: none;
    targets_s: the turnaround by which the models' queue is ordered, most urgent first.
    """

    name: str
    modalities: tuple[Modality, ...]
    readers: tuple[int, ...] = _READERS * 5 + _READERS_WEEKEND * 2
    shape: Shape = Shape.LOGNORMAL
    spread: float = 0.7
    flag_noticed: float = 0.0
    longest_wait_s: float = 8 * 3600.0
    ai: Ai = field(default_factory=Ai)
    targets_s: tuple[float, ...] = (120.0, 600.0, 3600.0, 14400.0)

    @property
    def load(self) -> float:
        """Work that arrives in a week as a part of what the readers can do; 1 and more: they never catch up."""
        work_s = sum(sum(m.per_hour()) * m.mean_reading_s for m in self.modalities)
        return work_s / (3600.0 * sum(self.readers))

    def with_detectors(self, detectors: Mapping[str, tuple[Detector, ...]]) -> Department:
        """Return this department with these detectors for the modalities that they are for."""
        return replace(self, modalities=tuple(
            replace(m, detectors=detectors.get(m.name, m.detectors)) for m in self.modalities))


def example_department() -> Department:
    """Return the department that is simulated when none is given; deploy/department.example.toml says the same."""
    return Department("Example: radiographs and CT of the chest", (
        Modality("cxr", 300.0, prevalence={"pneumonia": 0.08, "edema": 0.04, "covid19": 0.01, "pneumothorax": 0.01}),
        Modality("ct", 60.0, prevalence={"infection": 0.12, "embolism": 0.04}, reading_s=600.0,
                 reading_with_condition_s=720.0, transfer_s=15.0, quiet_s=60.0, compute_s=8.0,
                 detectors=(Detector("", "infection", 0.84, 0.90, Urgency.URGENT, ASSUMED),)),
    ))
