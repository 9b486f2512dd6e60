"""Two bundles on the same studies: where they agree, how scores and measurements shift, and what each look takes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev
from typing import Any

from service.domain.verdict import wilson

Summary = Mapping[str, Any]


@dataclass(frozen=True)
class Agreement:
    """One finding as both bundles score it, over studies; shift: mean of shadow less active, in probability, 0..1."""

    finding: str
    both: int
    neither: int
    only_active: int
    only_shadow: int
    shift: float
    largest_shift: float

    @property
    def studies(self) -> int:
        """How many studies both scored."""
        return self.both + self.neither + self.only_active + self.only_shadow

    @property
    def share(self) -> float:
        """Share of the studies in which both say the same, 0..1."""
        return (self.both + self.neither) / self.studies

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of `share` (Wilson)."""
        return wilson(self.both + self.neither, self.studies)


@dataclass(frozen=True)
class Spread:
    """One measurement of both bundles, over studies: mean difference, shadow less active, and its limits of agreement.

    low, high: mean -/+ 1.96 standard deviations (Bland and Altman, 1986); both the mean for a single study.
    """

    measurement: str
    unit: str
    studies: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Beside:
    """What is known of a bundle that looks beside the active ones. seconds: median of its looks, NaN without any."""

    bundle: str
    version: str
    digest: str
    looks: int
    refused: int
    seconds: float
    findings: tuple[Agreement, ...]
    measurements: tuple[Spread, ...]


@dataclass(frozen=True)
class Look:
    """One look beside the active bundles, and what they said of the study. reason: why it said nothing, "" where it did."""

    bundle: str
    version: str
    digest: str
    reason: str
    seconds: float
    active: Summary
    shadow: Summary


def differs(active: Summary, shadow: Summary) -> bool:
    """Tell whether the two disagree on any finding that both score."""
    return any(_over(one) != _over(other) for one, other in _common(active, shadow))


def beside(looks: Sequence[Look]) -> list[Beside]:
    """Gather looks by the weights that made them, in the order of their names and versions."""
    groups: dict[tuple[str, str, str], list[Look]] = {}
    for one in looks:
        groups.setdefault((one.bundle, one.version, one.digest), []).append(one)
    return [_gathered(*key, group) for key, group in sorted(groups.items())]


def _gathered(bundle: str, version: str, digest: str, looks: Sequence[Look]) -> Beside:
    told = [one for one in looks if not one.reason]
    return Beside(
        bundle, version, digest, len(looks), len(looks) - len(told),
        median(one.seconds for one in told) if told else math.nan, _agreements(told), _spreads(told))


def _agreements(looks: Iterable[Look]) -> tuple[Agreement, ...]:
    pairs: dict[str, list[tuple[Summary, Summary]]] = {}
    for look in looks:
        for one, other in _common(look.active, look.shadow):
            pairs.setdefault(one["name"], []).append((one, other))
    made = []
    for name, found in sorted(pairs.items()):
        says = [(_over(one), _over(other)) for one, other in found]
        shifts = [other["probability"] - one["probability"] for one, other in found]
        made.append(Agreement(
            name, says.count((True, True)), says.count((False, False)), says.count((True, False)),
            says.count((False, True)), fmean(shifts), max(shifts, key=abs)))
    return tuple(made)


def _spreads(looks: Iterable[Look]) -> tuple[Spread, ...]:
    differences: dict[tuple[str, str], list[float]] = {}
    for look in looks:
        then = {(m["name"], m["unit"]): m["value"] for m in look.active.get("measurements", ())}
        for measured in look.shadow.get("measurements", ()):
            key = measured["name"], measured["unit"]
            if key in then:
                differences.setdefault(key, []).append(measured["value"] - then[key])
    made = []
    for (name, unit), found in sorted(differences.items()):
        mean, width = fmean(found), 1.96 * stdev(found) if len(found) > 1 else 0.0
        made.append(Spread(name, unit, len(found), mean, mean - width, mean + width))
    return tuple(made)


def _common(active: Summary, shadow: Summary) -> list[tuple[Summary, Summary]]:
    known = {f["name"]: f for f in reversed(active.get("findings", ()))}
    return [(known[f["name"]], f) for f in shadow.get("findings", ()) if f["name"] in known]


def _over(finding: Summary) -> bool:
    return bool(finding["probability"] >= finding["threshold"])
