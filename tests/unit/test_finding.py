"""What several bundles say about one study, put together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from service.domain import codes
from service.domain.codes import Code
from service.domain.finding import Assessment, BundleIdentity, Finding, Presence, Segment, together

ONE, TWO, GATE = (BundleIdentity(name, "1.0", letter * 64, name, "") for name, letter in (
    ("one", "a"), ("two", "b"), ("gate", "c")))
LUNG = Segment(1, "lung", codes.ANATOMICAL_STRUCTURE, codes.LUNG, (1, 2, 3))


def finding(code: Code, present: bool, probability: float = 0.5) -> Finding:
    return Finding(code.meaning, code, Presence.PRESENT if present else Presence.ABSENT, probability, 0.5)


def normal(present: bool = True) -> Finding:
    return finding(codes.NO_FINDING, present)


def test_each_finding_keeps_its_bundle_and_all_bundles_are_named() -> None:
    one, two = (finding(code, True) for code in (codes.PNEUMONIA, codes.MASS))
    said = together([Assessment(ONE, (one,)), Assessment(TWO, (two,))], [GATE])
    assert [(f.code, said.speaker(f)) for f in said.findings] == [(codes.PNEUMONIA, ONE), (codes.MASS, TWO)]
    assert said.bundle == ONE and said.bundles == (ONE, TWO, GATE)
    assert [(f["bundle"], f["version"]) for f in said.summary()["findings"]] == [("one", "1.0"), ("two", "1.0")]
    assert [b["name"] for b in said.summary()["bundles"]] == ["one", "two", "gate"]


def test_the_caller_is_who_calls_for_the_most_urgent_reading_or_the_leading_bundle() -> None:
    urgent, stat = (replace(finding(code, True), urgency=word) for code, word in (
        (codes.PNEUMONIA, "urgent"), (codes.MASS, "stat")))
    said = together([Assessment(ONE, (urgent,)), Assessment(TWO, (stat,))])
    assert said.caller == TWO
    absent = replace(stat, presence=Presence.ABSENT)
    assert together([Assessment(ONE, (finding(codes.MASS, True),)), Assessment(TWO, (absent,))]).caller == ONE


@pytest.mark.parametrize(("mass", "presence"), [(True, Presence.ABSENT), (False, Presence.PRESENT)])
def test_no_finding_is_present_only_when_no_bundle_found_anything(mass: bool, presence: Presence) -> None:
    said = together([Assessment(ONE, (normal(),)), Assessment(TWO, (normal(), finding(codes.MASS, mass)))])
    assert [f.presence for f in said.findings if f.code == codes.NO_FINDING] == [presence, presence]
    assert bool(said.abnormal) is mass


def test_the_first_bundle_that_drew_leads_the_drawing_but_not_the_words() -> None:
    masks = np.ones((2, 3, 3), np.uint8)
    drawn = Assessment(TWO, (), segments=(LUNG,), masks=masks, limitations=("of two", "shared"))
    said = together([Assessment(ONE, (), limitations=("of one", "shared")), drawn])
    assert (said.bundle, said.drawer, said.segments) == (ONE, TWO, (LUNG,)) and said.masks is masks
    assert said.limitations == ("of one", "shared", "of two")


def test_saliency_is_that_of_the_first_bundle() -> None:
    maps = [{"1.2": np.full((2, 2), value, np.float32)} for value in (0.1, 0.9)]
    said = together([Assessment(ONE, (), saliency=maps[0]), Assessment(TWO, (), saliency=maps[1])])
    assert said.saliency is maps[0] and said.drawer == ONE


@pytest.mark.parametrize(("side", "zone", "words"), [
    (codes.RIGHT, codes.LOWER_ZONE, "right lower zone"), (codes.BILATERAL, None, "right and left"), (None, None, ""),
    (codes.LEFT, None, "left")])
def test_a_place_in_words(side: Code | None, zone: Code | None, words: str) -> None:
    found = Finding("x", codes.MASS, Presence.PRESENT, 0.9, 0.5, laterality=side, zone=zone)
    assert found.place == words.replace("right and left", codes.BILATERAL.meaning.lower())
