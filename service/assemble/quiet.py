"""How long must a sender be quiet before its study is taken for complete? Learned from how it sent its earlier studies."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

QUANTILE = 0.98  # of the studies had no longer pause than the one that counts
MARGIN = 1.5  # how many times that pause is waited
REMEMBERED = 200  # the latest studies of a sender that are looked at


@dataclass(frozen=True)
class QuietTimes:
    """Quiet times: before enough is known of a sender (cxr_s, ct_s), and the bounds of what may be learned; seconds.

    least_studies: so many of one sender and modality must be known; 0: nothing is learned.
    """

    cxr_s: float
    ct_s: float
    least_s: float = 2.0
    most_s: float = 300.0
    least_studies: int = 20

    def at_first_s(self, modality: str) -> float:
        """Return the quiet time of a modality of which nothing is known."""
        return self.ct_s if modality == "CT" else self.cxr_s


@dataclass(frozen=True)
class Arrival:
    """When an image came (Unix time, seconds), from whom, and what it belongs to."""

    at: float
    calling_aet: str
    modality: str
    series_instance_uid: str


@dataclass(frozen=True)
class Pause:
    """How one sender sent one modality of one study: its longest pauses, within the study and within a series; seconds."""

    images: int
    study_s: float
    series_s: float


@dataclass(frozen=True)
class Quiet:
    """How long to wait after the last image, seconds, and why, in words."""

    needed_s: float
    text: str


def pauses(arrivals: Iterable[Arrival], longest_wait_s: float) -> dict[tuple[str, str], Pause]:
    """Return the longest pauses of one study by (calling AE title, modality).

    A pause over longest_wait_s is a new sending, not a pause: nobody would have waited for it. Of images that were
    found after a crash neither time nor sender is known; where there are any, nothing is learned.
    """
    came = sorted(arrivals, key=lambda a: a.at)
    if any(not a.calling_aet for a in came):
        return {}
    found: dict[tuple[str, str], Pause] = {}
    for key in dict.fromkeys((a.calling_aet, a.modality) for a in came):
        own = [a for a in came if (a.calling_aet, a.modality) == key]
        series = dict.fromkeys(a.series_instance_uid for a in own)
        within = [_longest([a.at for a in own if a.series_instance_uid == uid], longest_wait_s) for uid in series]
        found[key] = Pause(len(own), _longest([a.at for a in own], longest_wait_s), max(within))
    return found


def in_words(arrivals: Iterable[Arrival]) -> str:
    """Say what came from whom, one sentence for each sender and modality: how many images, of how many series, how fast."""
    came = sorted(arrivals, key=lambda a: a.at)
    said = []
    for aet, modality in dict.fromkeys((a.calling_aet, a.modality) for a in came):
        own = [a for a in came if (a.calling_aet, a.modality) == (aet, modality)]
        series = len({a.series_instance_uid for a in own})
        span_s, pause_s = own[-1].at - own[0].at, _longest([a.at for a in own], math.inf)
        said.append(f"{len(own)} {modality or 'other'} images of {series} series from {aet or 'the spool, after a crash'}"
                    f" in {span_s:.1f} s, the longest pause {pause_s:.1f} s")
    return "; ".join(said)


def learn(times: QuietTimes, modality: str, calling_aet: str, longest_pauses_s: Sequence[float]) -> Quiet:
    """Return how long to wait for a sender, from the longest pause in each of its earlier studies, seconds."""
    if not times.least_studies or len(longest_pauses_s) < times.least_studies:
        needed_s = times.at_first_s(modality)
        return Quiet(needed_s, f"no image for {needed_s:g} s")
    pause_s = quantile(longest_pauses_s)
    needed_s = round(min(max(pause_s * MARGIN, times.least_s), times.most_s), 1)
    studies = f"{len(longest_pauses_s)} {modality or 'other'} studies of {calling_aet}"
    return Quiet(needed_s, f"no image for {needed_s:g} s (learned from {studies}: in {QUANTILE:.0%} of them no pause was "
                           f"over {pause_s:.1f} s)")


def settled_s(least_s: float, known: Mapping[tuple[str, str], Sequence[float]], times: QuietTimes) -> float:
    """Return how long a series must be quiet before it is taken for whole, from the pauses within earlier series.

    least_s: when nothing is known; known: the longest pause within a series of each earlier study, by sender.
    """
    learned = [quantile(p) * MARGIN for p in known.values() if times.least_studies and len(p) >= times.least_studies]
    return min(max([least_s, *learned]), times.most_s)


def longest(quiets: Iterable[Quiet]) -> Quiet:
    """Return the longest of several quiet times: of a study that came from several senders, all are waited for."""
    return max(quiets, key=lambda q: q.needed_s)


def quantile(pauses_s: Sequence[float]) -> float:
    """Return the smallest pause that QUANTILE of all pauses do not pass."""
    return sorted(pauses_s)[math.ceil(QUANTILE * len(pauses_s)) - 1]


def _longest(times_s: Sequence[float], most_s: float) -> float:
    gaps = [later - sooner for sooner, later in pairwise(times_s)]
    return max((g for g in gaps if g <= most_s), default=0.0)
