"""Flags: what raised them and when, what a full look makes of a first one, and that they never lower what was ordered."""

from __future__ import annotations

import pytest

from service.domain import codes
from service.domain.finding import Assessment, BundleIdentity, Finding, Presence
from service.domain.flag import (
    FIRST_LOOK,
    WHOLE,
    Look,
    flags_in,
    flags_of,
    in_words,
    of_fewer,
    pending,
    read_as,
    revised_by,
    shown_since,
    told_at,
)
from service.domain.urgency import Urgency

ONE = BundleIdentity("one", "1.0", "a" * 64, "one", "")


def flagging(name: str, probability: float, urgency: str = "") -> Finding:
    presence = Presence.PRESENT if probability >= 0.5 else Presence.ABSENT
    return Finding(name, codes.OPACITY, presence, probability, 0.5, urgency=urgency)


def test_flag_of_the_full_look_keeps_the_time_at_which_the_first_one_raised_it() -> None:
    said = Assessment(ONE, (flagging("opacity", 0.9, urgency="urgent"), flagging("mass", 0.8, urgency="urgent"),
                               flagging("nodule", 0.1, urgency="stat"), flagging("effusion", 0.9)))
    first = flags_of(said, Look.FIRST, 100.0)
    assert [(f.finding, f.raised_at, f.raised_by) for f in first] == [("opacity", 100.0, "first"), ("mass", 100.0, "first")]
    full = flags_of(said, Look.FULL, 200.0, first[:1])
    assert [(f.raised_at, f.raised_by) for f in full] == [(100.0, "first"), (200.0, "full")]
    assert flags_in({"flags": [f.to_json() | {"newer": 1} for f in full]}) == full and flags_in({}) == ()
    assert in_words(full) == "opacity 90%; mass 80%" and in_words(first, first=True).endswith("(first look)")


@pytest.mark.parametrize(("ordered", "read"), [("stat", "stat"), ("routine", "urgent"), ("low", "urgent")])
def test_flag_raises_and_never_lowers_what_was_ordered(ordered: str, read: str) -> None:
    flags = flags_of(Assessment(ONE, (flagging("opacity", 0.9, urgency="urgent"),)), Look.FULL, 0.0)
    assert read_as(Urgency(ordered), flags) == read and read_as(Urgency(ordered), ()) == ordered


@pytest.mark.parametrize(("first", "full", "came"), [
    ((0.9,), (0.8,), "confirmed"), ((0.1,), (0.2,), "confirmed"), ((0.1,), (0.9,), "raised"), ((0.9,), (0.1,), "withdrawn")])
def test_full_look_confirms_or_revises_the_first(first: tuple[float], full: tuple[float], came: str) -> None:
    before, after = (Assessment(ONE, tuple(flagging("opacity", p, "urgent") for p in said)) for said in (first, full))
    summary = before.summary() | {FIRST_LOOK: {"pending": True, "findings": {"opacity": first[0]}}}
    assert pending(summary) and not pending({})
    kept, word = revised_by(after, summary)
    assert word == came and not pending(kept) and kept[FIRST_LOOK]["came"] == came
    assert revised_by(after, {}) == ({}, "")


def test_what_the_full_look_tells_before_its_documents_is_no_first_look_until_more_images_come() -> None:
    said = Assessment(ONE, (flagging("opacity", 0.9, "urgent"),))
    told = said.summary() | {FIRST_LOOK: {"pending": True, "findings": {"opacity": 0.9}, "at": 7.0, WHOLE: True}}
    assert pending(told) and told_at(told) == 7.0 and revised_by(said, told) == ({}, "")
    assert [shown_since(told, last, 9.0) for last in (6.0, 8.0)] == [7.0, 9.0] and shown_since({}, 6.0, 9.0) == 9.0
    fewer = of_fewer(told)
    assert pending(fewer) and told_at(fewer) is None and revised_by(said, fewer)[1] == "confirmed"
    assert told_at({}) is None and told_at(fewer | {FIRST_LOOK: told[FIRST_LOOK] | {"pending": False}}) is None
