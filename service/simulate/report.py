"""The result as one HTML page: no script, nothing fetched from anywhere, light or dark as the reader's system is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

from service.simulate import chart
from service.simulate.arrivals import conditions
from service.simulate.effect import CURVE_MIN, Effect
from service.simulate.groups import ALL, TOLD, TOLD_ROUTINE, UNTOLD, WITHOUT
from service.simulate.intervals import Estimate
from service.simulate.reading import Policy
from service.simulate.report_style import STYLE

_SHOWN = (TOLD, TOLD_ROUTINE, UNTOLD, WITHOUT, "ordered stat", "ordered urgent", "ordered routine", "ordered low")
_LIMITS = (
    "A reading is never interrupted, and every reader reads every modality.",
    "Studies are independent of each other; conditions exclude each other; a condition changes the ordered urgency and the "
    "reading time only as the department's file says.",
    "Detectors err independently of each other. Real ones err on the same images, so several of them flag fewer studies "
    "without a condition than is simulated here.",
    "Sensitivity and specificity were measured on the data of each bundle's card. At your site they will differ, mostly "
    "downwards; so will the gain.",
    "The AI is not simulated to change what a reader finds or how long a reading takes.",
)


def report(effect: Effect, notice: str, notes: Sequence[str] = (), command: str = "firstlook simulate") -> str:
    """Return the page. notice: what the result may be used for; notes: gaps of the input; command: makes it again."""
    name = escape(effect.department.name)
    body = [
        f'<p class="notice" role="note">{escape(notice)}</p>',
        f"<h1>What the order of the reading list changes</h1><p class='about'>{name}. {_about(effect)}</p>",
        f"<ul class='said'>{''.join(f'<li>{line}</li>' for line in _sentences(effect))}</ul>",
        _legend(), _waits(effect), _curves(effect), _longest(effect), _table(effect), _models(effect), _input(effect),
        _section("What this does not say", "".join(f"<li>{escape(t)}</li>" for t in (*notes, *_LIMITS)), tag="ul"),
        _section("Made with", f"<code>{escape(command)}</code>"),
        f"<footer>{escape(notice)}</footer>",
    ]
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    head = ('<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
            f'<meta name="color-scheme" content="light dark"><title>Waiting times: {name}</title><style>{STYLE}</style>')
    return (f'<!doctype html>\n<html lang="en"><head>{head}</head>'
            f"<body><main>{''.join(body)}</main></body></html>\n")


def _about(effect: Effect) -> str:
    length, of = effect.length, escape(effect.history) if effect.history else (
        f"{effect.length.replications} independent replications of {effect.length.weeks} weeks, each after "
        f"{effect.length.warm_up_weeks} of warm-up from an empty list")
    return (f"{effect.studies:,} studies in all: {of}. Readers are busy {effect.department.load:.0%} of their time. "
            f"Intervals are 95 %, by Student's t over the {length.replications} replications; every order sees the same "
            f"studies, flags and reading times. Seed {effect.seed}.").replace(",", "\u202f", 1)


def _sentences(effect: Effect) -> Iterable[str]:
    rows = {row.name: row for row in effect.rows}
    if TOLD in rows:
        waits = rows[TOLD].waits
        yield (f"<b>{_min(waits[Policy.OURS].mean)}</b> instead of {_min(waits[Policy.FIFO].mean)} (first come) or "
               f"{_min(waits[Policy.ORDERED].mean)} (as ordered) is the mean wait of a study with a condition that the AI "
               f"tells: {_change(waits[Policy.OURS].gain)} against first come.")
    if WITHOUT in rows:
        yield f"A study without a condition waits {_change(rows[WITHOUT].waits[Policy.OURS].gain)} against first come."
    flag = rows[TOLD].waits[Policy.FLAG].gain if TOLD in rows else None
    if flag is not None:
        yield ("A flag that does not re-order the list changes nothing." if flag.value == 0 else
               f"A flag that does not re-order the list changes {_change(flag)}.")
    longest = rows[ALL].waits
    cap = effect.department.longest_wait_s / 60
    capped = f"{_min(longest[Policy.OURS].longest)} with the cap of {cap:.0f} min" if cap else "no cap is set"
    yield (f"The longest wait of any study in a replication: {_min(longest[Policy.FIFO].longest)} first come, "
           f"{_min(longest[Policy.UNCAPPED].longest)} in our order without a cap, {capped}.")


def _legend() -> str:
    marks = "".join(f'<span class="p-{p.value}"><svg viewBox="0 0 16 16">{chart.mark(p, 8, 8)}</svg>{p.called}</span>'
                    for p in Policy)
    return (f'<p class="legend">{marks}</p><p class="dim">First come: by arrival. Flag only: the same, with a flag beside '
            "the study. As ordered: by ordered urgency, without AI. Our order: by ordered urgency, raised by AI, with a cap "
            "on the wait.</p>")


def _lanes(effect: Effect, names: Sequence[str], measure: str) -> list[chart.Lane]:
    rows = {row.name: row for row in effect.rows}
    return [chart.Lane(name, f"{rows[name].studies} studies", {
        policy: getattr(measures, measure).scaled(1 / 60) for policy, measures in rows[name].waits.items()})
        for name in names if name in rows]


def _waits(effect: Effect) -> str:
    title = "Mean wait until the reading begins, minutes"
    return _section(title, chart.dots(_lanes(effect, _SHOWN, "mean"), list(Policy), title))


def _longest(effect: Effect) -> str:
    title = "Longest wait in a replication, minutes"
    return _section(title, chart.dots(_lanes(effect, (TOLD, WITHOUT), "longest"), list(Policy), title))


def _curves(effect: Effect) -> str:
    figures = "".join(
        f"<figure>{chart.lines(CURVE_MIN, dict(of), name)}<figcaption>{escape(name)}</figcaption></figure>"
        for name, of in effect.curves.items())
    return _section("Share of studies whose reading has begun", f"<div class='pair'>{figures}</div>")


def _table(effect: Effect) -> str:
    head = "".join(f"<th class='n'>{p.called}</th>" for p in Policy)
    rows = "".join(
        f"<tr><th scope='row'>{escape(row.name)}</th><td class='n'>{row.studies}</td>" + "".join(
            f"<td class='n'>{_cell(row.waits[p].mean)} <small>{row.waits[p].p95.value / 60:.0f}</small></td>"
            for p in Policy) + "</tr>" for row in effect.rows)
    return _section("Every group, minutes: mean with half its interval; small: the 95th percentile",
                    f"<div class='wide'><table><thead><tr><th></th><th class='n'>studies</th>{head}</tr></thead>"
                    f"<tbody>{rows}</tbody></table></div>")


def _models(effect: Effect) -> str:
    if not effect.notifications:
        return ""
    rows = "".join(
        f"<tr><th scope='row'>{escape(n.modality)} {n.urgency}</th><td class='n'>{n.studies}</td>"
        f"<td class='n'>{n.to_result.value:.1f}</td><td class='n'>{n.to_result_p95.value:.1f}</td>"
        f"<td class='n'>{n.queue_wait.value:.2f}</td><td class='n'>{1000 * n.passed.value:.1f}</td></tr>"
        for n in effect.notifications)
    return _section("The models' queue, seconds: earliest deadline first", (
        "<table><thead><tr><th></th><th class='n'>studies</th><th class='n'>last image to result</th><th class='n'>95 %</th>"
        "<th class='n'>wait for a model</th><th class='n'>studies passed, of 1000</th></tr></thead>"
        f"<tbody>{rows}</tbody></table>"))


def _input(effect: Effect) -> str:
    department = effect.department
    work = [sum(m.per_hour()[h] * m.mean_reading_s for m in department.modalities) / 3600 for h in range(168)]
    title = "Reading time that arrives (bars) and readers on duty (line), hour by hour"
    rows = "".join(
        f"<tr><th scope='row'>{escape(m.name)}: {escape(d.finding)}</th><td>{escape(d.bundle) or '–'}</td>"
        f"<td class='n'>{m.prevalence.get(d.finding, 0):.1%}</td><td class='n'>{d.sensitivity:.3f}</td>"
        f"<td class='n'>{d.specificity:.3f}</td><td>{d.urgency.value}</td><td>{escape(d.basis)}</td></tr>"
        for m in department.modalities for d in m.detectors)
    told = {d.finding for m in department.modalities for d in m.detectors}
    rest = ", ".join(escape(name) for name in conditions(department) if name not in told)
    head = ("<th>finding</th><th>bundle</th><th class='n'>prevalence</th><th class='n'>sensitivity</th>"
            "<th class='n'>specificity</th><th>asks for</th><th>figures</th>")
    detectors = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return _section("The department", chart.week(work, department.readers, title) + f"<p class='dim'>{title}.</p>"
                    + (detectors if rows else "<p>No bundle in use asks for an urgency.</p>")
                    + (f"<p class='dim'>Conditions that no bundle tells: {rest}.</p>" if rest else ""))


def _section(title: str, inner: str, tag: str = "div") -> str:
    return f"<section><h2>{escape(title)}</h2><{tag}>{inner}</{tag}></section>"


def _cell(estimate: Estimate) -> str:
    half = (estimate.high - estimate.low) / 120
    return f"{estimate.value / 60:.1f}" + ("" if math.isnan(half) else f" ± {half:.1f}")


def _min(estimate: Estimate) -> str:
    return f"{estimate.value / 60:.0f} min" if estimate.value >= 600 else f"{estimate.value / 60:.1f} min"


def _change(estimate: Estimate) -> str:
    low, high = estimate.low / 60, estimate.high / 60
    way = "less" if estimate.value < 0 else "more"
    between = "" if math.isnan(low) else f" (95 % interval {_signed(low)} to {_signed(high)})"
    return f"{abs(estimate.value) / 60:.1f} min {way}{between}"


def _signed(minutes: float) -> str:
    return f"{minutes:+.1f}".replace("-", "−")
