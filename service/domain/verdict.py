"""What a reader says of a finding of a model, and how often the model was right: positive predictive values."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from service.domain.finding import Presence

_Z = 1.959964  # two-sided 95 %


class Verdict(StrEnum):
    """Whether a reader agrees with what a model said of a finding, present or absent."""

    AGREE = "agree"
    DISAGREE = "disagree"


class Why(StrEnum):
    """Why a reader disagrees; NONE: not said."""

    NONE = ""
    NOT_THERE = "not_there"
    SOMETHING_ELSE = "something_else"
    WRONG_PLACE = "wrong_place"
    ARTEFACT = "artefact"
    KNOWN_BEFORE = "known_before"
    MISSED = "missed"
    OTHER = "other"

    @property
    def words(self) -> str:
        """The reason in words."""
        return _WORDS[self]


_WORDS = {
    Why.NONE: "no reason given", Why.NOT_THERE: "nothing is there", Why.SOMETHING_ELSE: "it is something else",
    Why.WRONG_PLACE: "it is in another place", Why.ARTEFACT: "artefact, device or poor image",
    Why.KNOWN_BEFORE: "known before, not new", Why.MISSED: "it is there, the model missed it", Why.OTHER: "another reason",
}


@dataclass(frozen=True)
class Judged:
    """One verdict of one reader on one finding, as it was when judged. Times: Unix, seconds.

    digest: sha256 of the weights; sender: calling AE title; scanner: maker and model as the images name them.
    """

    study_instance_uid: str
    revision: int
    bundle: str
    version: str
    digest: str
    finding: str
    presence: Presence
    probability: float
    threshold: float
    verdict: Verdict
    why: Why
    reader: str
    at: float
    sender: str
    scanner: str


@dataclass(frozen=True)
class Value:
    """A positive predictive value: of `judged` findings said to be present, readers agreed with `agreed`."""

    agreed: int
    judged: int

    @property
    def ratio(self) -> float | None:
        """The part agreed with, 0..1; None: none was judged."""
        return self.agreed / self.judged if self.judged else None

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of `wilson`."""
        return wilson(self.agreed, self.judged)


def wilson(hits: int, trials: int) -> tuple[float, float]:
    """Return the 95 % score interval of a proportion (Wilson, 1927), each end in 0..1; the whole range without trials."""
    if trials == 0:
        return 0.0, 1.0
    centre = (hits + _Z * _Z / 2) / (trials + _Z * _Z)
    half = _Z / (trials + _Z * _Z) * math.sqrt(hits * (trials - hits) / trials + _Z * _Z / 4)
    return max(0.0, centre - half), min(1.0, centre + half)


def latest(judged: Iterable[Judged]) -> list[Judged]:
    """Return one verdict for each finding of each study: the newest, whoever gave it."""
    found: dict[tuple[str, str, str], Judged] = {}
    for one in sorted(judged, key=lambda j: j.at):
        found[one.study_instance_uid, one.bundle, one.finding] = one
    return list(found.values())


def predictive_values(judged: Iterable[Judged], group: Callable[[Judged], str]) -> dict[tuple[str, str, str], Value]:
    """Return the positive predictive value of each (bundle with version, finding, group), in that order.

    judged: see `latest`; what the model called absent does not count. group: names what to tell apart, such as the scanner.
    """
    counts: dict[tuple[str, str, str], list[bool]] = defaultdict(list)
    for one in judged:
        if one.presence is Presence.PRESENT:
            counts[f"{one.bundle} {one.version}".strip(), one.finding, group(one)].append(one.verdict is Verdict.AGREE)
    return {key: Value(sum(said), len(said)) for key, said in sorted(counts.items())}


def missed(judged: Iterable[Judged]) -> dict[tuple[str, str], int]:
    """Return how often readers found what a model had called absent, by (bundle with version, finding)."""
    counts: dict[tuple[str, str], int] = defaultdict(int)
    for one in judged:
        if one.presence is Presence.ABSENT and one.verdict is Verdict.DISAGREE:
            counts[f"{one.bundle} {one.version}".strip(), one.finding] += 1
    return dict(sorted(counts.items()))
