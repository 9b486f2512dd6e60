"""Then and now in sentences, for the report."""

from __future__ import annotations

import hashlib
import json
import re

from service.domain.lesion import Course, Followed, Following
from service.domain.prior import Change, Comparison, Turned

_UNITS = {"%": " %", "cm3": " ml", "[hnsf'U]": " HU", "1": ""}


def sentences(comparison: Comparison) -> list[str]:
    """Return what the report says of an earlier study: when it was, what is new or gone, how measurements changed."""
    said = [f"Compared with the study of {_date(comparison.study_date)} (Study Instance UID "
            f"{comparison.study_instance_uid}), read by this software; the images were not compared with each other."]
    said += [_turned(finding) for finding in comparison.findings if finding.then != finding.now]
    said += [_changed(change) for change in comparison.changes]
    said += _lesions(comparison.following) if comparison.following else []
    if len(comparison.course) > 1:
        said.append("Lungs involved in earlier studies: " + ", ".join(
            f"{_date(e.study_date)} {e.percent:.1f} % ({e.volume_ml:.1f} ml)" for e in comparison.course) + ".")
    return said + [f"Caution: {text}." for text in comparison.cautions]


def comparison_key(comparison: Comparison | None) -> tuple[str, ...]:
    """Return what the UIDs of objects that tell of a comparison follow from; nothing without one."""
    if comparison is None:
        return ()
    said = json.dumps(comparison.to_json(), sort_keys=True)
    return (f"prior {hashlib.sha256(said.encode()).hexdigest()}",)


def of_lesion(followed: Followed) -> str:
    """Say what became of one lesion since the earlier study."""
    match followed.course:
        case Course.NEW:
            return f"New since the earlier study: {followed.now_ml:.1f} ml."
        case Course.GONE:
            return f"Not marked any more: {followed.then_ml:.1f} ml then."
        case Course.MERGED:
            return f"{followed.then_ml:.1f} ml then, now a part of lesion {followed.number}."
    return (f"{followed.course.value.capitalize()} since the earlier study: {followed.then_ml:.1f} ml then, "
            f"{followed.now_ml:.1f} ml now, change {followed.difference_ml:+.1f} ml.")


def _lesions(following: Following) -> list[str]:
    """Say how many lesions are new, grown and so on, and how the studies were laid over each other."""
    if following.why_not:
        return [f"Lesions are not followed: {following.why_not}."]
    counts = {c: sum(f.course is c for f in following.lesions) for c in Course}
    said = ", ".join(f"{n} {c.value}" for c, n in counts.items() if n) or "none then, none now"
    aligned = following.alignment
    how = (f" The studies were laid over each other by the lungs: shift {aligned.shift_mm:.0f} mm, rotation "
           f"{aligned.rotation_deg:.0f} degrees, overlap {aligned.overlap:.0%}." if aligned else "")
    return [f"Lesions: {said}.{how}"]


def _date(text: str) -> str:
    return f"{text[:4]}-{text[4:6]}-{text[6:]}" if re.fullmatch(r"\d{8}", text) else "an unknown date"


def _turned(finding: Turned) -> str:
    return (f"{finding.name}: {finding.then} then ({finding.probability_then:.2f}), {finding.now} now "
            f"({finding.probability_now:.2f}).")


def _changed(change: Change) -> str:
    of = f" of the {change.segment}" if change.segment and change.segment not in change.name else ""
    unit = _UNITS.get(change.unit, f" {change.unit}")
    points = "percentage points" if change.unit == "%" else unit.strip()
    return (f"{change.name}{of}: {change.then:.1f}{unit} then, {change.now:.1f}{unit} now, "
            f"change {change.difference:+.1f} {points}".strip() + ".")
