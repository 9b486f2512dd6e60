"""A flag: the finding that calls for a sooner reading, how sure which model was of it, and since when it has been up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any

from service.domain.finding import Assessment
from service.domain.urgency import Urgency

FIRST_LOOK = "first_look"
"""The key of a summary under which it stands that there was a first look, and what it has said."""
WHOLE = "whole"
"""The key in that of what the full look has said before its documents were made."""


class Look(StrEnum):
    """Which look raised a flag: the first, at a part of the slices, or the full one, which decides."""

    FIRST = "first"
    FULL = "full"


@dataclass(frozen=True)
class Flag:
    """One flag. probability, threshold: 0..1, of the look that counts; raised_at: Unix time, seconds; raised_by: which look
    raised it first; bundle, version: the model that says it."""

    finding: str
    probability: float
    threshold: float
    urgency: str
    bundle: str
    version: str
    raised_at: float
    raised_by: str

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Flag:
        """Read back what `to_json` made; unknown keys (of a newer release) are ignored."""
        known = {f.name for f in fields(cls)}
        return cls(**{k: v for k, v in stored.items() if k in known})


def flags_of(said: Assessment, look: Look, now: float, earlier: Iterable[Flag] = ()) -> tuple[Flag, ...]:
    """Return the flags that a result raises, most probable first; one that was up before keeps its time.

    earlier: the flags of the first look at the same study, for the full one. now: Unix time, seconds.
    """
    up = {(f.finding, f.bundle): f for f in earlier}
    raised = []
    for finding in said.present:
        if not finding.urgency:
            continue
        speaker = said.speaker(finding)
        before = up.get((finding.name, speaker.name))
        raised.append(Flag(
            finding.name, round(finding.probability, 4), finding.threshold, finding.urgency, speaker.name, speaker.version,
            before.raised_at if before else now, before.raised_by if before else look.value))
    return tuple(raised)


def flags_in(summary: dict[str, Any]) -> tuple[Flag, ...]:
    """Return the flags that a summary carries."""
    return tuple(Flag.from_json(one) for one in summary.get("flags", ()))


def in_words(flags: Sequence[Flag], first: bool = False) -> str:
    """Say flags in one line: "opacity 83%; mass 71%"; first: they are those of a first look."""
    said = "; ".join(f"{flag.finding} {flag.probability:.0%}" for flag in flags)
    return f"{said} (first look)" if said and first else said


def read_as(ordered: Urgency, flags: Iterable[Flag]) -> Urgency:
    """Return how urgent a study is in the reading list: AI may raise what was ordered, never lower it."""
    for flag in flags:
        ordered = ordered.raised_to(Urgency(flag.urgency))
    return ordered


def pending(summary: dict[str, Any]) -> bool:
    """Tell whether a summary is that of a first look, or of a full one whose documents are not made yet."""
    return bool(summary.get(FIRST_LOOK, {}).get("pending"))


def told_at(summary: dict[str, Any]) -> float | None:
    """Return when the full look has told what it found, Unix time, where its documents were not made yet; else None."""
    first = summary.get(FIRST_LOOK, {})
    return float(first["at"]) if first.get("pending") and first.get(WHOLE) else None


def shown_since(summary: dict[str, Any], last_received_at: float, now: float) -> float:
    """Return since when the worklist shows what was found: since it was told, or now where images came after that."""
    told = told_at(summary)
    return now if told is None or told < last_received_at else told


def of_fewer(summary: dict[str, Any]) -> dict[str, Any]:
    """Return the summary of a look at what are not all images any more: what it said of them is a first look's."""
    return summary | {FIRST_LOOK: summary[FIRST_LOOK] | {WHOLE: False}}


def revised_by(said: Assessment, before: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Return what stays of a first look in the summary of the full one, and what came of it in a word, "" without one.

    before: the summary of the first look. confirmed: the same flags are up; raised, withdrawn: more are, or fewer.
    """
    first = before.get(FIRST_LOOK)
    if not first or first.get(WHOLE):
        return {}, ""
    was = {f["name"] for f in before.get("findings", ()) if f["presence"] == "present" and f["urgency"]}
    now = {f.name for f in said.present if f.urgency and f.name in first["findings"]}
    came = "confirmed" if now == was else "raised" if now - was else "withdrawn"
    return {FIRST_LOOK: first | {"pending": False, "came": came}}, came
