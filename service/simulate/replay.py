"""A site's own history as the studies of the simulation: when they came, what was ordered, what the AI said and when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from service.simulate.arrivals import NO_FLAG, Floats, Ranks, Workload, conditions, reading_times
from service.simulate.department import Department, Modality
from service.simulate.effect import Source
from service.simulate.queue import Looked, overtakes

LEAST_STUDIES = 200
LEAST_DAYS = 3.0
_DAY_S = 86400.0
_WEEK_S = 7 * _DAY_S


class TooLittleHistory(ValueError):
    """There is too little to replay; the text says what is there and what is needed."""


@dataclass(frozen=True, eq=False)
class Past:
    """What the service saw, each array (n,), in order of arrival.

    arrived_s, last_image_s: first and last image, seconds on one clock; result_s, queued_s, started_s: NaN where there
    was none; monday_s: a Monday, midnight, on that clock, in the time of the readers; modality: names; flag_rank: what
    the AI asked for, NO_FLAG: nothing.
    """

    arrived_s: Floats
    last_image_s: Floats
    queued_s: Floats
    started_s: Floats
    result_s: Floats
    modality: tuple[str, ...]
    ordered_rank: Ranks
    flag_rank: Ranks
    monday_s: float

    @property
    def days(self) -> float:
        """First to last arrival, days."""
        return float(self.arrived_s[-1] - self.arrived_s[0]) / _DAY_S if self.arrived_s.size else 0.0


def require_enough(past: Past) -> None:
    """Check that there is enough to replay. Raises: TooLittleHistory, saying what is there and what is needed."""
    if past.arrived_s.size < LEAST_STUDIES or past.days < LEAST_DAYS:
        raise TooLittleHistory(
            f"the history holds {past.arrived_s.size} studies over {past.days:.1f} days; needed are {LEAST_STUDIES} studies "
            f"over {LEAST_DAYS:g} days. Simulate with --department until then")


def widened(department: Department, past: Past) -> Department:
    """Return the department with a plain modality for each name in the history that it does not have, and the arrivals
    of the history in place of its own."""
    known = {m.name: m for m in department.modalities}
    hour = _hours(past.arrived_s, past)
    spanned = np.arange(hour[0], hour[-1] + 1)
    days = {weekend: np.count_nonzero((spanned // 24 % 7 >= 5) == weekend) / 24 for weekend in (False, True)}
    made = []
    for name in dict.fromkeys((*known, *past.modality)):
        mine = hour[np.array([m == name for m in past.modality])]
        if mine.size:
            weekends = np.count_nonzero(mine // 24 % 7 >= 5)
            a_weekday = (mine.size - weekends) / days[False] if days[False] else mine.size / past.days
            a_weekend_day = weekends / days[True] if days[True] else a_weekday
            made.append(replace(
                known.get(name, Modality(name, 1.0)), per_weekday=max(a_weekday, 1e-9),
                weekend=a_weekend_day / max(a_weekday, 1e-9),
                by_hour=tuple(np.bincount(mine % 24, minlength=24).astype(float).tolist())))
    return replace(department, modalities=tuple(made))


def _hours(at_s: Floats, past: Past) -> NDArray[np.int64]:
    """Return whole hours since a Monday, midnight."""
    return ((at_s - past.monday_s) // 3600).astype(np.int64)


def replayed(past: Past, department: Department) -> Source:
    """Return a source of replications: the history as it was, with reading times and conditions drawn anew.

    Nobody told the service what a study held: its condition is drawn by Bayes' rule from the flag, with the prevalence,
    sensitivity and specificity of the department. The first day fills the list and is not counted. The intervals are
    those of reading times and conditions; another month would bring other arrivals.
    """
    names = conditions(department)
    places = {m.name: number for number, m in enumerate(department.modalities)}
    modality = np.array([places[name] for name in past.modality], np.int8)
    flagged, week_s = past.flag_rank < NO_FLAG, (past.arrived_s[0] - past.monday_s) // _WEEK_S * _WEEK_S + past.monday_s
    failed = np.isnan(past.result_s)
    looked = Looked(past.started_s - week_s, past.result_s - week_s, _passed(past))
    counted = past.arrived_s >= past.arrived_s[0] + _DAY_S

    def source(random: np.random.Generator) -> tuple[Workload, Looked, NDArray[np.bool_]]:
        condition = np.full(modality.size, -1, np.int8)
        means = np.zeros(modality.size)
        for number, kind in enumerate(department.modalities):
            here = modality == number
            for flag in (False, True):
                who = here & (flagged == flag)
                condition[who] = _drawn(kind, flag, names, int(who.sum()), random)
            means[here] = np.where(condition[here] >= 0, kind.reading_with_condition_s, kind.reading_s)
        load = Workload(
            past.arrived_s - week_s, modality, condition, past.ordered_rank, past.flag_rank,
            reading_times(means, department, random), past.last_image_s - week_s, past.queued_s - week_s,
            np.zeros(modality.size), failed, random.random(modality.size) < department.flag_noticed)
        return load, looked, counted

    return source


def posterior(modality: Modality, flagged: bool, names: Sequence[str]) -> Floats:
    """Return the probability of each condition of `names`, and last of none, given that the AI flagged a study or not."""
    chances = []
    for name in (*names, None):
        prior = modality.prevalence.get(name, 0.0) if name else 1.0 - sum(modality.prevalence.values())
        silent = 1.0
        for detector in modality.detectors:
            silent *= 1 - detector.sensitivity if detector.finding == name else detector.specificity
        chances.append(max(0.0, prior) * (1 - silent if flagged else silent))
    total = sum(chances)
    return np.array(chances) / total if total else np.array([*(0.0 for _ in names), 1.0])


def _drawn(modality: Modality, flagged: bool, names: Sequence[str], n: int, random: np.random.Generator) -> NDArray[np.int8]:
    chosen = random.choice(len(names) + 1, size=n, p=posterior(modality, flagged, names))
    return np.where(chosen == len(names), -1, chosen).astype(np.int8)


def _passed(past: Past) -> NDArray[np.int64]:
    """Count overtakes among the studies that were queued and begun; 0 for the others."""
    known = ~np.isnan(past.queued_s) & ~np.isnan(past.started_s)
    passed = np.zeros(past.arrived_s.size, np.int64)
    passed[known] = overtakes(past.queued_s[known], past.started_s[known], past.ordered_rank[known])
    return passed
