"""Urgency on arrival: a table of rules. The most urgent rule that matches wins; none: routine."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from service.domain.urgency import Urgency

TEXTS = ("ordered_priority", "modality", "text", "calling_aet", "location", "prior")
"""The facts that a rule looks at with a pattern."""


@dataclass(frozen=True)
class Facts:
    """What the rules may look at.

    text: Study and Series Description, Protocol Name and Requested Procedure Description together; location: Current
    Patient Location, Institutional Department Name and Requesting Service together; hour: of the arrival, local time,
    0..23, None where nobody asks; prior: the finding for which an earlier study of this patient was flagged, "" for none.
    """

    ordered_priority: str = ""
    modality: str = ""
    text: str = ""
    calling_aet: str = ""
    location: str = ""
    hour: int | None = None
    prior: str = ""


@dataclass(frozen=True)
class Rule:
    """One row: where every pattern is found in its fact (any case), within the hours, the study has this urgency.

    patterns: regular expressions by the name of a fact (`TEXTS`); hours: from and to, local time, [18, 7) runs through the
    night; None: at any time. fires and rests: examples that the rule must match and must not.
    """

    name: str
    urgency: Urgency
    patterns: Mapping[str, str]
    hours: tuple[int, int] | None = None
    fires: tuple[Facts, ...] = ()
    rests: tuple[Facts, ...] = ()

    def matches(self, facts: Facts) -> bool:
        """Tell whether this rule applies."""
        return self._now(facts.hour) and all(
            re.search(pattern, getattr(facts, name), re.I) is not None for name, pattern in self.patterns.items())

    def _now(self, hour: int | None) -> bool:
        if self.hours is None:
            return True
        first, end = self.hours
        return hour is not None and (hour - first) % 24 < ((end - first) % 24 or 24)


@dataclass(frozen=True)
class Decision:
    """The urgency of a study and why, in words. matched: every rule that applied, in the order of the table."""

    urgency: Urgency
    reason: str
    matched: tuple[Rule, ...] = field(default=(), compare=False)


def _rule(name: str, attribute: str, pattern: str, urgency: Urgency, fires: str, rests: str) -> Rule:
    return Rule(name, urgency, {attribute: pattern}, None, (_only(attribute, fires),), (_only(attribute, rests),))


def _only(attribute: str, value: str) -> Facts:
    given: dict[str, Any] = {attribute: value}
    return Facts(**given)


RULES: tuple[Rule, ...] = (
    _rule("ordered STAT", "ordered_priority", r"^STAT$", Urgency.STAT, "STAT", "HIGH"),
    _rule("ordered HIGH", "ordered_priority", r"^(HIGH|URGENT)$", Urgency.URGENT, "HIGH", "MEDIUM"),
    _rule("ordered LOW", "ordered_priority", r"^LOW$", Urgency.LOW, "LOW", "ROUTINE"),
    _rule("description says resuscitation or trauma", "text", r"\b(resus\w*|trauma|polytrauma|code stroke)\b", Urgency.STAT,
          "CT Chest TRAUMA", "CT chest follow-up"),
    _rule("description says emergency or intensive care", "text",
          r"\b(stat|emergency|urgent|acute|ICU|ITU|A&E)\b", Urgency.URGENT, "Chest AP portable ICU", "Chest PA outpatient"),
    _rule("description names a severe infection", "text", r"\b(sepsis|covid(-?19)?|pneumonia|ARDS)\b", Urgency.URGENT,
          "CT chest, COVID-19 suspected", "CT chest, nodule follow-up"),
    _rule("patient is in emergency or intensive care", "location",
          r"\b(emergency|casualty|ICU|ITU|A&E|intensive care|resus\w*)\b", Urgency.URGENT,
          "Medical ICU 3", "Ward 4 West"),
    _rule("description says screening or follow-up", "text", r"\b(screening|follow[- ]?up|pre-?employment)\b", Urgency.LOW,
          "Lung screening low dose", "CT chest"),
)
"""The table where the site has none of its own."""


def emergency_sender(ae_titles: Sequence[str]) -> Rule | None:
    """Return the rule for senders that the settings name as emergency ones, or None when there are none."""
    if not ae_titles:
        return None
    pattern = "^(" + "|".join(re.escape(t.strip()) for t in ae_titles) + ")$"
    return _rule("sent by an emergency device", "calling_aet", pattern, Urgency.URGENT, ae_titles[0], "SOMEWHERE_ELSE")


def table_of(ae_titles: Sequence[str], rules: Sequence[Rule] = RULES) -> tuple[Rule, ...]:
    """Return the whole table: the rules, and the one for emergency senders where there are any."""
    sender = emergency_sender(ae_titles)
    return (*rules, *((sender,) if sender else ()))


def decide(facts: Facts, rules: Sequence[Rule] = RULES) -> Decision:
    """Decide the urgency of a study on arrival.

    The most urgent matching rule wins, of equal ones the first. An ordered priority is never lowered: where ROUTINE or
    MEDIUM was ordered, only rules that raise it count.
    """
    matched = tuple(rule for rule in rules if rule.matches(facts))
    ordered = facts.ordered_priority.upper()
    floor = Decision(Urgency.ROUTINE, "no priority stated", matched)
    if ordered in ("ROUTINE", "MEDIUM"):
        floor = Decision(Urgency.ROUTINE, f"ordered {ordered}", matched)
        counting = [rule for rule in matched if rule.urgency.rank < Urgency.ROUTINE.rank]
    else:
        counting = list(matched)
    if not counting:
        return floor
    best = min(counting, key=lambda rule: rule.urgency.rank)
    return Decision(best.urgency, best.name, matched)
