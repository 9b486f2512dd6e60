"""Lesions over time: pairs of built studies with a known shift, turn, growth and loss, and what is said of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from service.domain.lesion import Course, Followed, Following, Lesion, course_of
from service.follow.alignment import align, believed
from service.follow.grid import Grid
from service.follow.kept import ABNORMAL, LEFT, RIGHT, Marked, Unreadable, read_segmentation
from service.follow.lesions import Shown, alone, followed
from service.follow.pieces import pieces_of

Ball = tuple[tuple[float, float, float], float]
"""Centre (x, y, z) and radius, mm."""
CENTRE = np.array([0.0, 0.0, 150.0])
LUNGS = (((-75.0, 0.0, 150.0), (50.0, 75.0, 110.0)), ((75.0, 5.0, 150.0), (48.0, 70.0, 105.0)))
LIVER: Ball = ((-70.0, 20.0, 30.0), 60.0)
HEART: Ball = ((30.0, -30.0, 100.0), 50.0)


def grid_of(spacing_mm: tuple[float, float, float] = (4.0, 3.0, 3.0), slices: int = 80, size: int = 120,
            corner: tuple[float, float, float] = (-180.0, -180.0, 0.0), flipped: bool = False) -> Grid:
    """Return an axial stack; flipped: the slices run toward the feet and the columns toward the right."""
    z = corner[2] + np.arange(slices) * spacing_mm[0]
    origins = np.stack([np.full(slices, corner[0]), np.full(slices, corner[1]), z], axis=1)
    along = np.array([1.0, 0.0, 0.0])
    if flipped:
        origins, along = origins[::-1].copy(), -along
        origins[:, 0] += (size - 1) * spacing_mm[2]
    return Grid(origins, along, np.array([0.0, 1.0, 0.0]), spacing_mm, (slices, size, size))


def places_of(grid: Grid) -> NDArray[np.float64]:
    return grid.places(np.indices(grid.shape).reshape(3, -1).T.astype(np.intp))


def of(grid: Grid, right: NDArray[np.bool_], left: NDArray[np.bool_], abnormal: NDArray[np.bool_]) -> Marked:
    return Marked(grid, right * np.uint8(RIGHT) | left * np.uint8(LEFT) | abnormal * np.uint8(ABNORMAL))


def marked(grid: Grid, balls: Sequence[Ball], shift: Sequence[float] = (0, 0, 0), turn_deg: float = 0.0,
           breath: float = 1.0) -> Marked:
    """Return a patient with these lesions who lies shifted and turned about the long axis; breath: how deep it is."""
    back = Rotation.from_euler("z", -turn_deg, degrees=True)
    body = back.apply(places_of(grid) - np.asarray(shift, float) - CENTRE) + CENTRE
    body[:, 2] = CENTRE[2] + (body[:, 2] - CENTRE[2]) / breath

    def ball(one: Ball) -> NDArray[np.bool_]:
        inside: NDArray[np.bool_] = ((body - np.asarray(one[0])) ** 2).sum(axis=1) <= one[1] ** 2
        return inside

    outside = ball(LIVER) | ball(HEART)
    right, left = ((((body - np.asarray(c)) / np.asarray(r)) ** 2).sum(axis=1) <= 1 for c, r in LUNGS)
    lesions = np.zeros(len(body), np.bool_)
    for one in balls:
        lesions |= ball(one)
    masks = [m.reshape(grid.shape) for m in (right & ~outside, left & ~outside, lesions & (right | left) & ~outside)]
    return of(grid, *masks)


def shown(what: Marked, study: str = "now") -> Shown:
    return Shown(what, [f"{study}.{k}" for k in range(what.grid.shape[0])], lambda lesion: f"{study} {lesion.seeds_mm[0]}")


A: Ball = ((-75.0, 10.0, 170.0), 15.0)
B: Ball = ((80.0, 0.0, 200.0), 12.0)
C: Ball = ((70.0, 20.0, 120.0), 9.0)


def volume_ml(radius_mm: float) -> float:
    return float(4 / 3 * np.pi * radius_mm**3 / 1000)


def told(following: Following) -> dict[Course, list[Followed]]:
    assert following.why_not == ""
    found: dict[Course, list[Followed]] = {}
    for one in following.lesions:
        found.setdefault(one.course, []).append(one)
    return found


def test_lesions_of_one_study_are_told_by_size_place_and_side() -> None:
    grid = grid_of()
    lesions = alone(shown(marked(grid, [A, B, C])))
    assert [lesion.number for lesion in lesions] == [1, 2, 3]
    assert [lesion.side for lesion in lesions] == ["Right", "Left", "Left"]
    for lesion, ball in zip(lesions, (A, B, C), strict=True):
        assert lesion.volume_ml == pytest.approx(volume_ml(ball[1]), rel=0.12)
        assert lesion.centre_mm == pytest.approx(ball[0], abs=2.0)
        assert grid.origins[int(lesion.sop_instance_uid.split(".")[1]), 2] == pytest.approx(ball[0][2], abs=4.0)
    assert len({lesion.tracking_uid for lesion in lesions}) == 3
    assert Lesion.from_json(lesions[0].to_json()) == lesions[0]


@pytest.mark.parametrize(("shift", "turn_deg", "breath"), [
    ((0, 0, 0), 0, 1.0), ((25, -18, 40), 0, 1.0), ((-12, 8, -30), 8, 1.0), ((5, 5, 10), -6, 1.06)])
def test_a_known_shift_and_turn_is_found(shift: tuple[float, float, float], turn_deg: float, breath: float) -> None:
    then, now = marked(grid_of(), []), marked(grid_of(corner=(-190, -170, -50), slices=110), [], shift, turn_deg, breath)
    motion, alignment = align(now.lungs(), now.grid, then.lungs(), then.grid)
    assert believed(alignment) and alignment.rotation_deg == pytest.approx(abs(turn_deg), abs=1.5)
    body = np.array([A[0], B[0], C[0]])
    there = Rotation.from_euler("z", turn_deg, degrees=True).apply(body - CENTRE) + CENTRE + shift
    off_mm = np.linalg.norm(motion.moved(there) - body, axis=1)
    assert off_mm.max() < (2.5 if breath == 1 else 6.0)


def test_grown_shrunk_new_and_gone_across_grids_and_positions() -> None:
    then = marked(grid_of(), [A, B, C])
    known = alone(shown(then, "then"))
    new: Ball = ((-70.0, -20.0, 110.0), 8.0)
    grown, shrunk = (A[0], 19.0), (B[0], 8.0)
    thin = grid_of((3.0, 2.0, 2.0), slices=110, size=180, corner=(-170.0, -175.0, 10.0), flipped=True)
    now = marked(thin, [grown, shrunk, new], (22.0, -15.0, 35.0), 5.0)
    lesions, following = followed(shown(now), then, known)
    by_course = told(following)
    a, b, c = (lesion.tracking_uid for lesion in known)
    (larger,), (smaller,), (fresh,), (gone,) = (
        by_course[course] for course in (Course.GROWN, Course.SHRUNK, Course.NEW, Course.GONE))
    assert (larger.tracking_uid, smaller.tracking_uid, gone.tracking_uid) == (a, b, c)
    assert fresh.tracking_uid.startswith("now ") and fresh.then_ml == 0
    assert larger.then_ml == pytest.approx(volume_ml(15), rel=0.1)
    assert larger.now_ml == pytest.approx(volume_ml(19), rel=0.1)
    assert smaller.difference_ml == pytest.approx(volume_ml(8) - volume_ml(12), rel=0.2)
    assert (gone.number, gone.now_ml) == (0, 0)
    assert {lesion.tracking_uid for lesion in lesions} == {a, b, fresh.tracking_uid}
    assert [f.number for f in following.lesions if f.now_ml] == [1, 2, 3]
    assert following.alignment is not None and following.alignment.rotation_deg == pytest.approx(5, abs=1.5)


def test_the_tracking_uid_is_kept_over_three_studies() -> None:
    first = marked(grid_of(), [A])
    one = alone(shown(first, "first"))
    second = marked(grid_of(), [(A[0], 16.0)], (10.0, 0.0, 12.0))
    two, _ = followed(shown(second, "second"), first, one)
    third = marked(grid_of(), [(A[0], 20.0)], (-8.0, 6.0, 20.0))
    three, following = followed(shown(third, "third"), second, two)
    assert one[0].tracking_uid == two[0].tracking_uid == three[0].tracking_uid
    assert told(following)[Course.GROWN][0].then_ml == two[0].volume_ml


def test_two_that_flow_together_are_one_and_what_falls_apart_stays_one() -> None:
    near: Ball = ((-75.0, 10.0, 205.0), 13.0)
    apart, joined = [A, near], [(A[0], 20.0), (near[0], 18.0)]
    then, now = marked(grid_of(), apart), marked(grid_of(), joined)
    known = alone(shown(then, "then"))
    lesions, following = followed(shown(now), then, known)
    assert len(lesions) == 1 and lesions[0].tracking_uid == known[0].tracking_uid
    by_course = told(following)
    assert by_course[Course.GROWN][0].then_ml == pytest.approx(sum(lesion.volume_ml for lesion in known))
    assert [(m.tracking_uid, m.number) for m in by_course[Course.MERGED]] == [(known[1].tracking_uid, 1)]
    again, back = followed(shown(then, "later"), now, lesions)
    assert len(again) == 1 and len(again[0].seeds_mm) == 2 and again[0].tracking_uid == known[0].tracking_uid
    assert list(told(back)) == [Course.SHRUNK]


def test_lungs_that_do_not_fit_follow_nothing_and_say_so() -> None:
    then, now = marked(grid_of(), [A]), marked(grid_of(), [A])
    box = np.zeros(then.grid.shape, np.bool_)
    box[38:42, 20:160, 88:92] = True
    elsewhere = replace(then, marks=then.marks & np.uint8(ABNORMAL) | box * np.uint8(RIGHT))
    lesions, following = followed(shown(now), elsewhere, alone(shown(then, "then")))
    assert "could not be laid over each other" in following.why_not and not following.lesions
    assert lesions[0].tracking_uid.startswith("now ")
    _, nothing = followed(shown(now), Marked(then.grid, np.zeros(then.grid.shape, np.uint8)), ())
    assert nothing.why_not


def test_a_scan_that_ends_early_is_laid_over_the_whole_one() -> None:
    then = marked(grid_of(), [A, C])
    now = marked(grid_of(slices=40, corner=(-180.0, -180.0, 130.0)), [A], (10.0, 5.0, 0.0))
    _, following = followed(shown(now), then, alone(shown(then, "then")))
    assert {f.course for f in following.lesions} == {Course.STEADY, Course.GONE}


def test_pieces_are_those_that_touch_by_a_corner_and_are_no_specks() -> None:
    grid = grid_of((5.0, 5.0, 5.0), slices=20, size=20)
    mask = np.zeros(grid.shape, np.bool_)
    mask[3, 3, 3] = mask[4, 4, 4] = True
    mask[10, 10:14, 10] = True
    pieces = pieces_of(mask, grid)
    assert pieces.volumes_ml.tolist() == [0.5, 0.25] and pieces.at((-180 + 15, -180 + 15, 15)) == 2
    assert pieces_of(mask, replace(grid, spacing_mm=(2.0, 2.0, 2.0))).count == 0


@pytest.mark.parametrize(("then_ml", "now_ml", "course"), [
    (10, 12.4, Course.STEADY), (10, 12.6, Course.GROWN), (10, 7.4, Course.SHRUNK), (0.2, 0.6, Course.STEADY)])
def test_a_change_is_one_by_share_and_by_size(then_ml: float, now_ml: float, course: Course) -> None:
    assert course_of(then_ml, now_ml) is course


def test_a_file_that_is_no_segmentation_is_said_to_be_none(tmp_path: Path) -> None:
    from tests.builders import radiograph, write
    with pytest.raises(Unreadable):
        read_segmentation(write([radiograph()], tmp_path)[0])
