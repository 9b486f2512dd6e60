"""Urgency on arrival: a table of rules. The most urgent rule that matches wins; none: routine."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from service.domain.urgency import Urgency


@dataclass(frozen=True)
class Facts:
    """What the rules may look at; `text` is Study and Series Description and Protocol Name together."""

    ordered_priority: str = ""
    modality: str = ""
    text: str = ""
    calling_aet: str = ""


@dataclass(frozen=True)
class Rule:
    """One row: when the attribute matches the pattern (whole words, any case), the study has this urgency.

    fires and rests: an example that the rule must match and one that it must not; the test runs both.
    """

    name: str
    attribute: str
    pattern: str
    urgency: Urgency
    fires: Facts
    rests: Facts

    def matches(self, facts: Facts) -> bool:
        """Tell whether this rule applies."""
        return re.search(self.pattern, getattr(facts, self.attribute), re.I) is not None


@dataclass(frozen=True)
class Decision:
    """The urgency of a study and why, in words."""

    urgency: Urgency
    reason: str


RULES: tuple[Rule, ...] = (
    Rule("ordered STAT", "ordered_priority", r"^STAT$", Urgency.STAT,
         Facts(ordered_priority="STAT"), Facts(ordered_priority="HIGH")),
    Rule("ordered HIGH", "ordered_priority", r"^(HIGH|URGENT)$", Urgency.URGENT,
         Facts(ordered_priority="HIGH"), Facts(ordered_priority="MEDIUM")),
    Rule("ordered LOW", "ordered_priority", r"^LOW$", Urgency.LOW,
         Facts(ordered_priority="LOW"), Facts(ordered_priority="ROUTINE")),
    Rule("description says resuscitation or trauma", "text", r"\b(resus\w*|trauma|polytrauma|code stroke)\b", Urgency.STAT,
         Facts(text="CT Chest TRAUMA"), Facts(text="CT chest follow-up")),
    Rule("description says emergency or intensive care", "text",
         r"\b(stat|emergency|urgent|acute|ICU|ITU|A&E)\b", Urgency.URGENT,
         Facts(text="Chest AP portable ICU"), Facts(text="Chest PA outpatient")),
    Rule("description names a severe infection", "text", r"\b(sepsis|covid(-?19)?|pneumonia|ARDS)\b", Urgency.URGENT,
         Facts(text="CT chest, COVID-19 suspected"), Facts(text="CT chest, nodule follow-up")),
    Rule("description says screening or follow-up", "text", r"\b(screening|follow[- ]?up|pre-?employment)\b", Urgency.LOW,
         Facts(text="Lung screening low dose"), Facts(text="CT chest")),
)


def emergency_sender(ae_titles: Sequence[str]) -> Rule | None:
    """Return the rule for senders that the settings name as emergency ones, or None when there are none."""
    if not ae_titles:
        return None
    pattern = "^(" + "|".join(re.escape(t.strip()) for t in ae_titles) + ")$"
    return Rule("sent by an emergency device", "calling_aet", pattern, Urgency.URGENT,
                Facts(calling_aet=ae_titles[0]), Facts(calling_aet="SOMEWHERE_ELSE"))


def decide(facts: Facts, emergency_ae_titles: Sequence[str] = ()) -> Decision:
    """Decide the urgency of a study on arrival.

    The most urgent matching rule wins. An ordered priority is never lowered: "LOW" rules on the description count only
    when nothing was ordered.
    """
    extra = emergency_sender(emergency_ae_titles)
    matching = [r for r in (*RULES, *((extra,) if extra else ())) if r.matches(facts)]
    if facts.ordered_priority.upper() in ("ROUTINE", "MEDIUM"):
        ordered = f"ordered {facts.ordered_priority.upper()}"
        matching = [r for r in matching if r.urgency.rank < Urgency.ROUTINE.rank]
        if not matching:
            return Decision(Urgency.ROUTINE, ordered)
    if not matching:
        return Decision(Urgency.ROUTINE, "no priority stated")
    best = min(matching, key=lambda r: r.urgency.rank)
    return Decision(best.urgency, best.name)
