"""Quiet times are learned from how a sender paused, within bounds; an early look waits for what was learned."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.assemble.early import EarlyStart, why_early, worth_a_look
from service.assemble.quiet import MARGIN, Arrival, Quiet, QuietTimes, in_words, learn, longest, pauses, quantile, settled_s
from service.domain.study import Header, Kind, Selection, VolumeGeometry

TIMES = QuietTimes(cxr_s=5, ct_s=60, least_s=2, most_s=300, least_studies=20)
seconds = st.floats(0, 1e6)


def came(*at: float, calling_aet: str = "CT1", modality: str = "CT", series: str = "1") -> list[Arrival]:
    return [Arrival(a, calling_aet, modality, series) for a in at]


def test_pause_is_the_longest_of_a_sender_within_the_study_and_within_a_series() -> None:
    found = pauses([*came(0, 1, 3), *came(33, 34, series="2"), *came(90, calling_aet="WS")], 900)
    assert found["CT1", "CT"].study_s == 30 and found["CT1", "CT"].series_s == 2 and found["CT1", "CT"].images == 5
    assert found["WS", "CT"].study_s == 0


def test_what_came_from_whom_is_summed_up_in_words() -> None:
    assert in_words([*came(0, 1, 3), *came(33, 34, series="2"), *came(90, calling_aet="")]) == (
        "5 CT images of 2 series from CT1 in 34.0 s, the longest pause 30.0 s; "
        "1 CT images of 1 series from the spool, after a crash in 0.0 s, the longest pause 0.0 s")


def test_new_sending_after_the_longest_wait_is_no_pause() -> None:
    assert pauses(came(0, 2, 4000, 4005), 900)["CT1", "CT"].study_s == 5


def test_nothing_is_learned_of_images_found_after_a_crash() -> None:
    assert pauses([*came(0, 1), *came(500, calling_aet="")], 900) == {}


def test_too_few_studies_leave_the_time_at_first() -> None:
    assert learn(TIMES, "CT", "CT1", [9.0] * 19) == Quiet(60, "no image for 60 s")
    assert learn(TIMES, "DX", "DX1", []) == Quiet(5, "no image for 5 s")
    assert learn(QuietTimes(5, 60, least_studies=0), "CT", "CT1", [9.0] * 99).needed_s == 60


def test_learned_time_says_from_what() -> None:
    quiet = learn(TIMES, "CT", "CT1", [*([4.0] * 98), 8.0, 500.0])
    assert quiet.needed_s == 6.0
    assert quiet.text == ("no image for 6 s (learned from 100 CT studies of CT1: in 98% of them no pause was over 4.0 s)")


@settings(deadline=None)
@given(st.lists(seconds, min_size=20, max_size=200), st.randoms())
def test_learned_time_is_within_bounds_covers_the_quantile_and_ignores_order(known: list[float], chance: object) -> None:
    quiet = learn(TIMES, "CT", "CT1", known)
    assert TIMES.least_s <= quiet.needed_s <= TIMES.most_s
    assert quiet.needed_s >= min(quantile(known), TIMES.most_s)
    mixed = known.copy()
    chance.shuffle(mixed)  # type: ignore[attr-defined]
    assert learn(TIMES, "CT", "CT1", mixed) == quiet


@settings(deadline=None)
@given(st.lists(seconds, min_size=20, max_size=100), st.integers(0, 99), seconds)
def test_longer_pauses_never_shorten_the_wait(known: list[float], which: int, more: float) -> None:
    slower = known.copy()
    slower[which % len(known)] += more
    assert learn(TIMES, "CT", "CT1", slower).needed_s >= learn(TIMES, "CT", "CT1", known).needed_s


@settings(deadline=None)
@given(st.lists(seconds, min_size=1, max_size=300))
def test_quantile_is_a_pause_that_nearly_all_keep_to(known: list[float]) -> None:
    pause = quantile(known)
    assert pause in known
    assert sum(p <= pause for p in known) >= math.floor(0.98 * len(known))


@settings(deadline=None)
@given(st.lists(st.floats(0, 1000), min_size=1, max_size=50))
def test_no_pause_is_longer_than_the_study(times: list[float]) -> None:
    (pause,) = pauses(came(*times), 1e9).values()
    assert 0 <= pause.series_s <= max(times) - min(times) and pause.images == len(times)


def test_of_several_senders_the_slowest_is_waited_for() -> None:
    assert longest([Quiet(5, "a"), Quiet(60, "b")]).text == "b"


def test_series_settles_at_once_unless_its_sender_is_known_to_pause_within_one() -> None:
    assert settled_s(3, {("CT1", "CT"): [0.1] * 30}, TIMES) == 3
    assert settled_s(3, {("CT1", "CT"): [8.0] * 30, ("CT2", "CT"): [0.0] * 30}, TIMES) == 8 * MARGIN
    assert settled_s(3, {("CT1", "CT"): [8.0] * 3}, TIMES) == 3
    assert settled_s(3, {("CT1", "CT"): [8000.0] * 30}, TIMES) == TIMES.most_s


@pytest.mark.parametrize(("changes", "expected"), [
    ({}, True), ({"enabled": False}, False),
    ({"is_open": True, "silent_s": 0.4}, False), ({"is_open": True, "silent_s": 0.5}, True),
    ({"modality": "CT", "is_open": True, "silent_s": 99.0}, False), ({"modality": "CT", "silent_s": 2.9}, False),
    ({"modality": "CT", "silent_s": 3.0}, True), ({"modality": "CT", "silent_s": 9.0, "missing": 1}, False),
    ({"modality": "CR/CT", "silent_s": 1.0}, False),
], ids=str)
def test_early_look_at_radiographs_at_once_and_at_ct_after_release_and_rest(
    changes: dict[str, object], expected: bool,
) -> None:
    asked = {"enabled": True, "modality": "DX", "is_open": False, "silent_s": 0.0, "missing": 0} | changes
    rules = EarlyStart(bool(asked["enabled"]), 0.5, 3.0)
    assert worth_a_look(rules, asked["modality"], asked["is_open"], asked["silent_s"], 3.0,  # type: ignore[arg-type]
                        asked["missing"]) is expected  # type: ignore[arg-type]


def volume(*positions_mm: float) -> Selection:
    geometry = VolumeGeometry(positions_mm, (5.0, 1.0, 1.0), (1, 0, 0, 0, 1, 0), (0, 0, 1), 512, 512, "1.9")
    headers = tuple(Header(str(n), "", "1", "1.7") for n in range(len(positions_mm)))
    return Selection(Kind.CT, headers, "", geometry)


def test_ct_with_a_gap_is_not_looked_at_early_for_the_slice_may_come() -> None:
    assert why_early(volume(0, 5, 10, 20, 25)) is None
    assert "5 slices of series 1.7 lie evenly" in (why_early(volume(0, 5, 10, 15, 20)) or "")
