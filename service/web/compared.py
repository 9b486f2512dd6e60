"""Then and now, ready to be written: the comparison of a study with an earlier one of its patient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from service.domain.lesion import Course, Followed, Following
from service.domain.prior import Change, Comparison, involved
from service.web import words

_UNITS = {"1": "", "[hnsf'U]": "HU", "cm3": "ml"}
_STILL = 0.05  # a difference that is written as 0.0
_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 320, 96, 34, 10, 18  # of the plot and its margins, pixels


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
class Dot:
    """One study in the plot of the course. x, y: pixels; uid: for a link, "" for this study; said: date and value."""

    x: float
    y: float
    uid: str
    said: str


@dataclass(frozen=True)
class Plot:
    """The course over several studies: per cent of the lungs involved by date. top: the value at the upper edge."""

    dots: tuple[Dot, ...]
    first: str
    last: str
    top: str
    width: int = _WIDTH
    height: int = _HEIGHT

    @property
    def line(self) -> str:
        """The points of the line, as SVG writes them."""
        return " ".join(f"{dot.x:.1f},{dot.y:.1f}" for dot in self.dots)

    @property
    def said(self) -> str:
        """The course in words."""
        return "; ".join(dot.said for dot in self.dots)


@dataclass(frozen=True)
class ThenAndNow:
    """An earlier study beside this one.

    uid: of the earlier one, for a link; date: its Study Date as written; now: that of this study. lesions: one by one;
    how: how the studies were laid over each other, or why they were not.
    """

    uid: str
    date: str
    findings: tuple[Line, ...]
    measurements: tuple[Line, ...]
    cautions: tuple[str, ...]
    now: str = ""
    lesions: tuple[Line, ...] = ()
    how: str = ""
    plot: Plot | None = None


def then_and_now(summary: Mapping[str, Any], study_date: str = "") -> ThenAndNow | None:
    """Say the comparison of a summary in words; None where the study was compared with none. study_date: of this study."""
    if "prior" not in summary:
        return None
    prior = Comparison.from_json(summary["prior"])
    findings = tuple(
        Line(words.humanised(f.name), f"{f.then} {f.probability_then:.2f}", f"{f.now} {f.probability_now:.2f}",
             "new" if f.now == "present" != f.then else "gone" if f.then == "present" != f.now else "",
             round(100 * f.probability_then), round(100 * f.probability_now), f.now != f.then)
        for f in prior.findings)
    return ThenAndNow(prior.study_instance_uid, words.dicom_date(prior.study_date) or "unknown date", findings,
                      tuple(_measurement(c) for c in prior.changes), tuple(f"Caution: {text}." for text in prior.cautions),
                      words.dicom_date(study_date), *_followed(prior.following), _plot(prior, summary, study_date))


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


def _followed(following: Following | None) -> tuple[tuple[Line, ...], str]:
    """Return a line for each lesion, and how the studies were laid over each other."""
    if following is None:
        return (), ""
    if following.why_not:
        return (), f"Lesions are not followed: {following.why_not}."
    aligned = following.alignment
    how = (f"Laid over each other by the lungs: shift {aligned.shift_mm:.0f} mm, rotation {aligned.rotation_deg:.0f}°, "
           f"overlap {aligned.overlap:.0%}." if aligned else "")
    return tuple(_lesion(f) for f in following.lesions), how


def _lesion(followed: Followed) -> Line:
    name = f"Lesion {followed.number}" if followed.number and followed.course is not Course.MERGED else "Earlier lesion"
    name += f", {followed.side.lower()}" if followed.side else ""
    then, now = f"{followed.then_ml:.1f} ml", f"{followed.now_ml:.1f} ml"
    if followed.course is Course.MERGED:
        return Line(name, then, "–", f"now a part of lesion {followed.number}")
    moved = followed.course in (Course.GROWN, Course.SHRUNK)
    arrow = "▲ " if followed.course is Course.GROWN else "▼ " if followed.course is Course.SHRUNK else ""
    said = f"{arrow}{followed.course.value}" + (f", {followed.difference_ml:+.1f} ml" if moved else "")
    return Line(name, "–" if followed.course is Course.NEW else then, "–" if followed.course is Course.GONE else now, said,
                turned=followed.course in (Course.NEW, Course.GONE))


def _plot(prior: Comparison, summary: Mapping[str, Any], study_date: str) -> Plot | None:
    """Return the course where there are at least two earlier studies with a date, and one of this study."""
    now = involved(summary)
    days = [(words.ordinal(e.study_date), e.percent, e.study_instance_uid, e.study_date) for e in prior.course]
    if now is not None:
        days.append((words.ordinal(study_date), now[0], "", study_date))
    known = [(day, percent, uid, date) for day, percent, uid, date in days if day is not None]
    if now is None or len(known) < 3:
        return None
    first, last = known[0][0], known[-1][0]
    top = max(5.0, *(percent for _, percent, _, _ in known))
    dots = tuple(
        Dot(_LEFT + (_WIDTH - _LEFT - 8) * (day - first) / max(1, last - first),
            _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - percent / top), uid,
            f"{words.dicom_date(date)}: {percent:.1f} %{'' if uid else ' (this study)'}")
        for day, percent, uid, date in known)
    return Plot(dots, words.dicom_date(known[0][3]), words.dicom_date(known[-1][3]), f"{top:.0f} %")


def _arrow(change: Change) -> str:
    return "▲" if change.difference > 0 else "▼"
