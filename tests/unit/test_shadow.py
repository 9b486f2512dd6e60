"""How two bundles on the same studies are compared."""

from __future__ import annotations

import math
from typing import Any

import pytest

from service.domain.shadow import Look, beside, differs


def said(probability: float, threshold: float = 0.5, percent: float | None = None) -> dict[str, Any]:
    measured = [] if percent is None else [{"name": "lung involved", "unit": "%", "segment": "", "value": percent}]
    scored = {"name": "pneumonia", "probability": probability, "threshold": threshold}
    return {"findings": [scored], "measurements": measured}


def look(active: dict[str, Any], shadow: dict[str, Any], reason: str = "", digest: str = "d") -> Look:
    return Look("next", "2", digest, reason, 0.5, active, shadow)


def test_agreement_counts_what_each_says_by_its_own_threshold() -> None:
    (one,) = beside([look(said(0.9), said(0.8)), look(said(0.1), said(0.2)), look(said(0.6), said(0.6, 0.7)),
                     look(said(0.4), said(0.9))])
    (pneumonia,) = one.findings
    assert (pneumonia.both, pneumonia.neither, pneumonia.only_active, pneumonia.only_shadow) == (1, 1, 1, 1)
    assert pneumonia.share == 0.5 and pneumonia.interval[0] < 0.5 < pneumonia.interval[1]
    assert pneumonia.shift == pytest.approx((-0.1 + 0.1 + 0.0 + 0.5) / 4) and pneumonia.largest_shift == pytest.approx(0.5)
    assert (one.looks, one.refused, one.seconds) == (4, 0, 0.5)


def test_measurements_have_limits_of_agreement() -> None:
    (one,) = beside([look(said(0.9, percent=10.0), said(0.9, percent=12.0)),
                     look(said(0.9, percent=5.0), said(0.9, percent=5.0))])
    (percent,) = one.measurements
    assert percent.mean == pytest.approx(1.0) and percent.high - percent.mean == pytest.approx(1.96 * math.sqrt(2))
    assert percent.low + percent.high == pytest.approx(2 * percent.mean)


def test_what_was_not_read_is_counted_and_compared_with_nothing() -> None:
    (one,) = beside([look(said(0.9), {}, reason="no_model")])
    assert (one.looks, one.refused, one.findings, one.measurements) == (1, 1, (), ()) and math.isnan(one.seconds)


def test_other_weights_are_another_bundle() -> None:
    assert [one.digest for one in beside([look(said(0.9), said(0.9), digest=d) for d in "bab"])] == ["a", "b"]


def test_bundles_differ_only_on_what_both_score() -> None:
    assert differs(said(0.9), said(0.1)) and not differs(said(0.9), said(0.6))
    assert not differs(said(0.9), {"findings": [{"name": "mass", "probability": 0.9, "threshold": 0.5}]})
    assert not differs({}, said(0.9))
