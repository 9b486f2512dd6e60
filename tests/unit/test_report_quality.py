"""What a report says of the quality of the images, and of "no finding"."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from service.domain import codes
from service.domain.codes import Code
from service.domain.finding import Finding, Presence
from service.pipeline.technical import quality_of
from service.report.build import Style, build
from tests.builders import radiograph
from tests.contracts import assessed


def coded(item: Any) -> list[tuple[str, str]]:
    found = []
    for part in item.get("ContentSequence", []):
        if part.ValueType == "CODE":
            found.append((value_of(part.ConceptNameCodeSequence[0]), value_of(part.ConceptCodeSequence[0])))
        found += coded(part)
    return found


def value_of(concept: Any) -> str:
    return str(concept.get("CodeValue") or concept.LongCodeValue)


def report_of(presence: Presence, quality: Code | None = None) -> list[tuple[str, str]]:
    source = radiograph()
    selection, said = assessed.cxr([source], present=presence is Presence.ABSENT)
    nothing = Finding("no_finding", codes.NO_FINDING, presence, 0.9, 0.5)
    said = replace(said, findings=(nothing, *said.findings), quality=quality)
    made = build(selection, [source], said, Style(), "0" * 64, 1, [], datetime(2026, 1, 2, tzinfo=UTC),
                 assessed.pictures([source]))
    return coded(made[-1].dataset)


def test_quality_is_told_when_it_was_judged() -> None:
    assert ("111050", "RID13") in report_of(Presence.PRESENT, codes.LIMITED_QUALITY)
    assert not [row for row in report_of(Presence.PRESENT) if row[0] == "111050"]


@pytest.mark.parametrize(("presence", "status"), [(Presence.PRESENT, "111241"), (Presence.ABSENT, "111242")])
def test_a_model_never_calls_a_study_normal(presence: Presence, status: str) -> None:
    rows = report_of(presence)
    assert ("111017", status) in rows and codes.NO_FINDING.value not in {value for _, value in rows}


@pytest.mark.parametrize(("notes", "quality"), [
    ([], codes.DIAGNOSTIC_QUALITY),
    (["spacing unknown", "the view is not stated; the image is taken as frontal"], codes.DIAGNOSTIC_QUALITY),
    (["lossy compressed"], codes.LIMITED_QUALITY),
    (["spacing unknown", "window absent: percentiles used"], codes.LIMITED_QUALITY),
])
def test_what_limits_the_image_limits_its_quality(notes: list[str], quality: Code) -> None:
    assert quality_of(notes) == quality
