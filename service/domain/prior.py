"""Then and now: what the same models said of an earlier study of the same patient, beside what they say of this one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from service.domain.lesion import Following

INCOMPLETE = "incomplete coverage"
"""How a limitation begins that says that the lungs were not seen whole."""


@dataclass(frozen=True)
class Change:
    """One measurement of both studies. unit: UCUM code; segment: label of the segment it belongs to, "" for the study."""

    name: str
    unit: str
    segment: str
    then: float
    now: float

    @property
    def difference(self) -> float:
        """Now less then, in `unit`; per cent are percentage points."""
        return self.now - self.then


@dataclass(frozen=True)
class Turned:
    """One finding of both studies: "present" or "absent" then and now, with the model's probabilities, 0..1."""

    name: str
    then: str
    now: str
    probability_then: float
    probability_now: float


@dataclass(frozen=True)
class Earlier:
    """One earlier study of the patient, for the course. percent: of the lungs involved; volume_ml: of what is abnormal."""

    study_instance_uid: str
    study_date: str
    percent: float
    volume_ml: float


@dataclass(frozen=True)
class Comparison:
    """An earlier study beside this one.

    study_date: YYYYMMDD of the earlier one; cautions: why numbers may not compare; following: lesion by lesion, of CT;
    course: all earlier studies, this one's prior among them, oldest first.
    """

    study_instance_uid: str
    study_date: str
    changes: tuple[Change, ...]
    findings: tuple[Turned, ...]
    cautions: tuple[str, ...] = ()
    following: Following | None = None
    course: tuple[Earlier, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return a dictionary of JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Comparison:
        """Read back what `to_json` made."""
        return cls(stored["study_instance_uid"], stored["study_date"], tuple(Change(**c) for c in stored["changes"]),
                   tuple(Turned(**f) for f in stored["findings"]), tuple(stored["cautions"]),
                   Following.from_json(stored["following"]) if stored.get("following") else None,
                   tuple(Earlier(**e) for e in stored.get("course", ())))


def compare(then: Mapping[str, Any], now: Mapping[str, Any], study_instance_uid: str, study_date: str) -> Comparison | None:
    """Put two summaries (`Assessment.summary`) beside each other; None where they have nothing in common.

    A measurement or finding counts as the same when its name and the bundle that speaks are. Another version of a bundle,
    or lungs not seen whole, is said among the cautions.
    """
    digests_then, digests_now = _digests(then), _digests(now)
    changes = _changes(then.get("measurements", ()), now.get("measurements", ()))
    findings = _turned(then.get("findings", ()), now.get("findings", ()))
    if not changes and not findings:
        return None
    cautions = [f"{name} had other weights then: its numbers may differ for that alone"
                for name in digests_now if name in digests_then and digests_then[name] != digests_now[name]]
    for when, summary in (("then", then), ("now", now)):
        if any(str(text).startswith(INCOMPLETE) for text in summary.get("limitations", ())):
            cautions.append(f"the lungs were not seen whole {when}")
    return Comparison(study_instance_uid, study_date, changes, findings, tuple(cautions))


def involved(summary: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return per cent of the lungs involved and volume in ml that a summary gives; None where it measures no extent."""
    measured = {(m["unit"], bool(m["segment"])): float(m["value"]) for m in reversed(summary.get("measurements", ()))
                if m["unit"] == "%" or (m["unit"] == "cm3" and m["name"] == "infection volume")}
    percent, volume_ml = measured.get(("%", False)), measured.get(("cm3", True))
    return None if percent is None or volume_ml is None else (percent, volume_ml)


def _digests(summary: Mapping[str, Any]) -> dict[str, str]:
    return {b["name"]: b["digest"] for b in summary.get("bundles", ())}


def _changes(then: Iterable[Mapping[str, Any]], now: Iterable[Mapping[str, Any]]) -> tuple[Change, ...]:
    before = {(m["name"], m["unit"], m["segment"]): float(m["value"]) for m in then}
    return tuple(
        Change(m["name"], m["unit"], m["segment"], before[key], float(m["value"]))
        for m in now if (key := (m["name"], m["unit"], m["segment"])) in before)


def _turned(then: Iterable[Mapping[str, Any]], now: Iterable[Mapping[str, Any]]) -> tuple[Turned, ...]:
    before = {(f["name"], f["bundle"]): f for f in then}
    return tuple(
        Turned(f["name"], before[key]["presence"], f["presence"], before[key]["probability"], f["probability"])
        for f in now if (key := (f["name"], f["bundle"])) in before)
