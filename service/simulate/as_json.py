"""The result as JSON types: waits in minutes, times of the AI in seconds; the report, the page and `--json` use it."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from service.simulate.department import Department
from service.simulate.effect import CURVE_MIN, Effect
from service.simulate.intervals import Estimate
from service.simulate.reading import Policy

INTERVALS = "95 % by Student's t over independent replications; every order sees the same studies"


def as_json(effect: Effect) -> dict[str, Any]:
    """Return the whole result. An interval is [value, low, high]; what has no value is null."""
    return {
        "department": department_as_json(effect.department),
        "history": effect.history,
        "seed": effect.seed, "replications": effect.length.replications, "weeks": effect.length.weeks,
        "warm_up_weeks": effect.length.warm_up_weeks, "studies": effect.studies, "intervals": INTERVALS,
        "policies": [p.value for p in Policy],
        "waits_min": [
            {"kind": row.kind, "group": row.name, "studies": row.studies, **{
                policy.value: {name: _three(getattr(measures, name), 1 / 60) for name in ("mean", "p95", "longest", "gain")}
                for policy, measures in row.waits.items()}}
            for row in effect.rows],
        "notification_s": [
            {"kind": n.modality, "urgency": n.urgency, "studies": n.studies, "to_result": _three(n.to_result),
             "to_result_p95": _three(n.to_result_p95), "queue_wait": _three(n.queue_wait), "passed": _three(n.passed)}
            for n in effect.notifications],
        "curves": {"minutes": list(CURVE_MIN), **{
            group: {policy.value: [round(x, 5) for x in values] for policy, values in of.items()}
            for group, of in effect.curves.items()}},
    }


def department_as_json(department: Department) -> dict[str, Any]:
    """Return what was simulated."""
    return {
        "name": department.name, "load": round(department.load, 4), "readers": list(department.readers),
        "reading_times": department.shape.value, "spread": department.spread, "flag_noticed": department.flag_noticed,
        "longest_wait_min": department.longest_wait_s / 60, "ai": asdict(department.ai),
        "targets_s": list(department.targets_s),
        "modalities": [
            {"name": m.name, "per_weekday": m.per_weekday, "weekend": m.weekend,
             "per_hour": [round(x, 3) for x in m.per_hour()],
             "ordered": list(m.ordered), "ordered_with_condition": list(m.ordered_with_condition),
             "prevalence": dict(m.prevalence), "reading_min": m.reading_s / 60,
             "reading_with_condition_min": m.reading_with_condition_s / 60, "transfer_s": m.transfer_s,
             "quiet_s": m.quiet_s, "compute_s": m.compute_s,
             "detectors": [{**asdict(d), "urgency": d.urgency.value} for d in m.detectors]}
            for m in department.modalities],
    }


def _three(estimate: Estimate, factor: float = 1.0) -> list[float | None]:
    scaled = estimate.scaled(factor)
    return [None if math.isnan(x) else round(x, 4) for x in (scaled.value, scaled.low, scaled.high)]
