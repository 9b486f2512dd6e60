"""Then and now, ready to be written: the comparison of a study with an earlier one of its patient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from service.domain.prior import Change, Comparison
from service.web import words

_UNITS = {"1": "", "[hnsf'U]": "HU", "cm3": "ml"}
_STILL = 0.05  # a difference that is written as 0.0


@dataclass(frozen=True)
class Line:
    """One measurement or finding, then and now. share_then, share_now: 0..100, for the bars; -1 where there is none."""

    name: str
    then: str
    now: str
    change: str
    share_then: int = -1
    share_now: int = -1
    turned: bool = False


@dataclass(frozen=True)
class ThenAndNow:
    """An earlier study beside this one. uid: of the earlier one, for a link; date: its Study Date as written."""

    uid: str
    date: str
    findings: tuple[Line, ...]
    measurements: tuple[Line, ...]
    cautions: tuple[str, ...]


def then_and_now(summary: Mapping[str, Any]) -> ThenAndNow | None:
    """Say the comparison of a summary in words; None where the study was compared with none."""
    if "prior" not in summary:
        return None
    prior = Comparison.from_json(summary["prior"])
    findings = tuple(
        Line(words.humanised(f.name), f"{f.then} {f.probability_then:.2f}", f"{f.now} {f.probability_now:.2f}",
             "new" if f.now == "present" != f.then else "gone" if f.then == "present" != f.now else "",
             round(100 * f.probability_then), round(100 * f.probability_now), f.now != f.then)
        for f in prior.findings)
    return ThenAndNow(prior.study_instance_uid, words.dicom_date(prior.study_date) or "unknown date", findings,
                      tuple(_measurement(c) for c in prior.changes), tuple(f"Caution: {text}." for text in prior.cautions))


def change_words(summary: Mapping[str, Any]) -> str:
    """Say in a few words what changed since the earlier study, for the list; "" where nothing did or there is none."""
    if "prior" not in summary:
        return ""
    prior = Comparison.from_json(summary["prior"])
    said = [f"{word}: {words.spelled(f.name)}" for f in prior.findings if f.then != f.now
            for word in ("new" if f.now == "present" else "gone",)]
    whole = next((c for c in prior.changes if c.unit == "%" and not c.segment), None)
    if whole is not None and abs(whole.difference) >= _STILL:
        said.append(f"{_arrow(whole)} {whole.difference:+.1f} points")
    if not said:
        return ""
    return f"{', '.join(said)} since {words.dicom_date(prior.study_date) or 'the last study'}"


def _measurement(change: Change) -> Line:
    unit = _UNITS.get(change.unit, change.unit)
    shares = (round(change.then), round(change.now)) if change.unit == "%" else (-1, -1)
    points = "points" if change.unit == "%" else unit
    said = f"{_arrow(change)} {change.difference:+.1f} {points}".strip() if abs(change.difference) >= _STILL else "as before"
    return Line(words.humanised(change.name), f"{change.then:.1f} {unit}".strip(), f"{change.now:.1f} {unit}".strip(), said,
                *shares)


def _arrow(change: Change) -> str:
    return "▲" if change.difference > 0 else "▼"
