"""When a study is complete: who knows is believed, silence says it otherwise, and nobody can stall a study."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from service.assemble.complete import Answer, Because, Evidence, judge
from service.assemble.notice import Announced, Told, announced
from service.assemble.quiet import Quiet
from service.domain.notice import NoticeKind, NoticeState
from service.domain.study import CT_IMAGE_STORAGE

SR = "1.2.840.10008.5.1.4.1.1.88.34"
HERE = Evidence(receiving_since_at=0, last_received_at=10, images=40, association_open=False,
                quiet=Quiet(60, "no image for 60 s"))
ALL = Announced("instances announced as available by PACS", 40, (), True)


def because(now: float, **changes: Any) -> Because | None:
    complete = judge(replace(HERE, **changes), now, longest_wait_s=900)
    return complete and complete.because


def named(*images: int, first_at: float = 11) -> list[Answer]:
    return [Answer("PACS", first_at + 5 * n, count) for n, count in enumerate(images)]


def test_silence_counts_from_the_last_image_and_only_after_release() -> None:
    assert because(69.9) is None
    assert because(70) is Because.QUIET
    assert because(899, association_open=True) is None
    assert because(900, association_open=True) is Because.LONGEST_WAIT


def test_longest_wait_counts_from_the_first_image_however_many_follow() -> None:
    assert because(900, last_received_at=899) is Because.LONGEST_WAIT


def test_notice_ends_the_wait_once_all_that_it_names_are_here() -> None:
    assert because(11, announced=ALL) is Because.ANNOUNCED
    assert because(11, announced=replace(ALL, missing=("1.2",))) is None
    assert because(11, announced=replace(ALL, ended=False)) is None


def test_pacs_is_believed_when_it_names_what_is_here_twice_after_the_last_image() -> None:
    assert because(20, answers=named(40)) is None
    assert because(20, answers=named(40, 40)) is Because.PACS_COUNT
    assert because(20, answers=named(40, 40, first_at=9)) is None
    assert because(20, answers=named(40, 40), association_open=True) is None


def test_counts_that_grow_or_differ_or_come_from_two_pacs_are_not_believed() -> None:
    for counts in ((39, 40), (40, 41), (41, 41), (39, 39), (0, 0), (40, 41, 40)):
        assert because(30, answers=named(*counts)) is None, counts
    assert because(30, answers=[*named(40), Answer("OTHER", 20, 40)]) is None


def test_reasons_are_in_words_and_name_what_is_missing() -> None:
    told = replace(ALL, missing=("1.2.3", "1.2.4"))
    complete = judge(replace(HERE, announced=told, answers=named(42)), 70, 900)
    assert complete is not None
    assert complete.text == (
        "association released and no image for 60 s; instances announced as available by PACS: 2 of 40 images are missing; "
        "PACS named 42 images, 40 are here")
    assert complete.data == {"because": "quiet", "missing": "1.2.3, 1.2.4"}


@settings(deadline=None)
@given(st.lists(st.integers(0, 60), max_size=6), st.booleans(), st.booleans(), st.floats(10, 2000))
def test_nothing_that_others_say_makes_a_study_wait_longer(
    counts: list[int], missing: bool, ended: bool, now: float,
) -> None:
    told = Announced("told", 41, ("1.2",) if missing else (), ended)
    if because(now) is not None:
        assert because(now, announced=told, answers=named(*counts)) is not None


def notice(*uids: str, state: NoticeState = NoticeState.COMPLETED, kind: NoticeKind = NoticeKind.PROCEDURE_STEP) -> Told:
    return Told(kind, "RIS", state, dict.fromkeys(uids, CT_IMAGE_STORAGE))


def test_notices_together_name_the_images_that_are_missing() -> None:
    told = announced([notice("1", "2"), notice("2", "3")], {"1", "9"})
    assert told == Announced("procedure step completed, told by RIS", 3, ("2", "3"), True)
    assert announced([], {"1"}) is None


def test_objects_that_are_never_kept_are_not_missed() -> None:
    report = Told(NoticeKind.AVAILABILITY, "PACS", NoticeState.AVAILABLE, {"1": CT_IMAGE_STORAGE, "2": SR})
    told = announced([report], {"1"})
    assert told == Announced("instances announced as available by PACS", 1, (), True)


def test_step_in_progress_or_without_images_does_not_end_the_wait() -> None:
    busy = announced([notice("1"), notice(state=NoticeState.IN_PROGRESS)], {"1"})
    assert busy is not None and not busy.ended
    empty = announced([notice(state=NoticeState.DISCONTINUED)], {"1"})
    assert empty is not None and not empty.ended
