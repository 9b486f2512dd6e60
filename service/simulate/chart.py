"""Charts as SVG, written by hand: coloured by the style sheet of the page around them, light or dark; no script."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from service.simulate.intervals import Estimate
from service.simulate.reading import Policy

WIDTH = 940
_LABEL = 250
_LANE = 15
_RIGHT = 150


@dataclass(frozen=True)
class Lane:
    """One group of a dot chart: its name, what stands under it, and an estimate for each policy, in minutes."""

    name: str
    about: str
    values: dict[Policy, Estimate]


def dots(lanes: Sequence[Lane], policies: Sequence[Policy], title: str) -> str:
    """Return a chart with a mark and its interval for each group and policy, minutes on the horizontal axis."""
    top = max((v.high if v.high == v.high else v.value) for lane in lanes for v in lane.values.values())
    ticks, block = _ticks(top), _LANE * len(policies) + 16
    height, span = 34 + block * len(lanes), WIDTH - _LABEL - _RIGHT

    def x(minutes: float) -> float:
        return _LABEL + span * minutes / ticks[-1]

    parts = [f'<text class="axis" x="{x(t):.1f}" y="14" text-anchor="middle">{t:g}</text>'
             f'<line class="grid" x1="{x(t):.1f}" x2="{x(t):.1f}" y1="20" y2="{height}"/>' for t in ticks]
    for number, lane in enumerate(lanes):
        y = 36 + block * number
        parts.append(f'<line class="rule" x1="0" x2="{WIDTH}" y1="{y - 12}" y2="{y - 12}"/>'
                     f'<text class="name" x="0" y="{y + 5}">{escape(lane.name)}</text>'
                     f'<text class="axis" x="0" y="{y + 21}">{escape(lane.about)}</text>')
        for place, policy in enumerate(policies):
            parts.append(_dot(policy, lane.values[policy], y + _LANE * place, x))
    return _svg(height, title, parts)


def _dot(policy: Policy, value: Estimate, y: float, x: Callable[[float], float]) -> str:
    low, high = (value.value, value.value) if math.isnan(value.low) else (max(0.0, value.low), value.high)
    between = "" if math.isnan(value.low) else f", {value.low:.1f} to {value.high:.1f}"
    said = f"{policy.called}: {value.value:.1f} min{between}"
    return (f'<g class="p-{policy.value}"><title>{said}</title>'
            f'<line class="bar" x1="{x(low):.1f}" x2="{x(high):.1f}" y1="{y}" y2="{y}"/>{mark(policy, x(value.value), y)}'
            f'<text class="value" x="{x(high) + 9:.1f}" y="{y + 4}">{_number(value.value)}</text></g>')


def lines(minutes: Sequence[float], curves: dict[Policy, Sequence[float]], title: str) -> str:
    """Return a chart of the share that is read (0..1) after so many minutes, a line for each policy."""
    last = next((m for n, m in enumerate(minutes) if min(c[n] for c in curves.values()) > 0.97), minutes[-1])
    width, height, left, foot = 455, 290, 44, 36
    ticks = _ticks(last)

    def x(m: float) -> float:
        return left + (width - left - 12) * min(m, ticks[-1]) / ticks[-1]

    def y(share: float) -> float:
        return 10 + (height - foot - 10) * (1 - share)

    parts = [f'<text class="axis" x="{x(t):.1f}" y="{height - 18}" text-anchor="middle">{t:g}</text>' for t in ticks]
    parts += [f'<line class="grid" x1="{left}" x2="{width - 12}" y1="{y(s):.1f}" y2="{y(s):.1f}"/>'
              f'<text class="axis" x="{left - 6}" y="{y(s) + 4:.1f}" text-anchor="end">{s:.0%}</text>'
              for s in (0, 0.25, 0.5, 0.75, 1)]
    parts.append(f'<text class="axis" x="{(left + width) / 2}" y="{height - 2}" text-anchor="middle">minutes waited</text>')
    for policy, curve in curves.items():
        points = " ".join(f"{x(m):.1f},{y(s):.1f}" for m, s in zip(minutes, curve, strict=True) if m <= ticks[-1])
        parts.append(f'<g class="p-{policy.value}"><title>{policy.called}</title>'
                     f'<polyline class="curve" points="{points}"/></g>')
    return _svg(height, title, parts, width)


def week(work: Sequence[float], readers: Sequence[int], title: str) -> str:
    """Return a chart of a week: reading time that arrives in each of 168 hours, and who is there to read, in readers."""
    height, left = 190, 44
    ticks = _ticks(max(*work, *readers))

    def x(hour: float) -> float:
        return left + (WIDTH - left - 10) * hour / 168

    def y(value: float) -> float:
        return 10 + (height - 40) * (1 - value / ticks[-1])

    bars = "".join(f'<rect class="work" x="{x(h):.1f}" y="{y(w):.1f}" width="{x(1) - x(0) - 0.8:.1f}" '
                   f'height="{y(0) - y(w):.1f}"/>' for h, w in enumerate(work))
    steps = " ".join(f"{x(h):.1f},{y(n):.1f} {x(h + 1):.1f},{y(n):.1f}" for h, n in enumerate(readers))
    parts = [f'<line class="grid" x1="{left}" x2="{WIDTH - 10}" y1="{y(t):.1f}" y2="{y(t):.1f}"/>'
             f'<text class="axis" x="{left - 6}" y="{y(t) + 4:.1f}" text-anchor="end">{t:g}</text>' for t in ticks]
    parts += [f'<text class="axis" x="{x(24 * d + 12):.1f}" y="{height - 12}" text-anchor="middle">{name}</text>'
              for d, name in enumerate(("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"))]
    return _svg(height, title, [*parts, bars, f'<polyline class="readers" points="{steps}"/>'])


def mark(policy: Policy, x: float, y: float) -> str:
    """Return the mark of a policy; its shape tells it, not only its colour."""
    shapes = {
        Policy.FIFO: f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>',
        Policy.FLAG: f'<circle class="hollow" cx="{x:.1f}" cy="{y:.1f}" r="4"/>',
        Policy.ORDERED: f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8"/>',
        Policy.UNCAPPED: f'<path class="hollow" d="M{x:.1f} {y - 5:.1f}l5 5-5 5-5-5z"/>',
        Policy.OURS: f'<path d="M{x:.1f} {y - 6:.1f}l6 6-6 6-6-6z"/>',
    }
    return shapes[policy]


def _ticks(top: float) -> list[float]:
    """Return round values from 0 to at least `top`, and at least 1, four to eight of them."""
    top = max(top, 1.0)
    step = 10.0 ** math.floor(math.log10(top / 4))
    step *= next(f for f in (1, 2, 5, 10) if top / (step * f) <= 7)
    return [round(step * n, 6) for n in range(math.ceil(top / step - 1e-9) + 1)]


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def _svg(height: float, title: str, parts: Sequence[str], width: int = WIDTH) -> str:
    return (f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}"><title>{escape(title)}</title>'
            f'{"".join(parts)}</svg>')
