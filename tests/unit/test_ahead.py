"""What is kept of studies that arrive: bounded, the most urgent first, and which slices are read next."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from service.domain.study import CT_IMAGE_STORAGE, Header
from service.infer.presentation import Presentation
from service.pipeline.series import Series, worth_reading
from service.pipeline.shelf import Shelf, SliceRead
from service.pipeline.slices_ct import SliceFile

STRAIGHT = Presentation(False, False, False, True)
SIZE = 4 * 16 + 16


def one(sha256: str = "a") -> SliceRead:
    return SliceRead(sha256, "digest", STRAIGHT, np.zeros((4, 4), np.float32), np.zeros((4, 4), np.uint8), {})


def header(number: int, z_mm: float, **changes: object) -> Header:
    given = {
        "sop_instance_uid": f"1.{number}", "sop_class_uid": CT_IMAGE_STORAGE, "study_instance_uid": "1", "rows": 64,
        "columns": 64, "series_instance_uid": "2", "rescale_slope": 1.0, "rescale_intercept": -1024.0,
        "slice_thickness": 1.0,
        "image_position_patient": (0.0, 0.0, z_mm), "image_orientation_patient": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)}
    return Header(**(given | changes))  # type: ignore[arg-type]


def file(number: int, z_mm: float, **changes: object) -> SliceFile:
    return SliceFile(header(number, z_mm, **changes), Path("x"), "a")


def numbers(files: list[SliceFile] | tuple[SliceFile, ...]) -> list[int]:
    return [int(f.header.sop_instance_uid.split(".")[1]) for f in files]


def test_shelf_takes_no_more_than_it_may() -> None:
    shelf = Shelf(3 * SIZE)
    assert [shelf.put(1, 2, str(n), one()) for n in range(4)] == [True, True, True, False]
    assert shelf.held_bytes == 3 * SIZE and sorted(shelf.take(1)) == ["0", "1", "2"]
    assert shelf.held_bytes == 0 and shelf.take(1) == {}


def test_same_slice_again_takes_no_more_room() -> None:
    shelf = Shelf(10 * SIZE)
    assert shelf.put(1, 2, "0", one()) and shelf.put(1, 2, "0", one("b"))
    assert shelf.held_bytes == SIZE and shelf.slices(1)["0"].sha256 == "b"


def test_less_urgent_study_makes_room_for_a_more_urgent_one_and_never_the_other_way() -> None:
    dropped: list[int] = []
    shelf = Shelf(3 * SIZE, dropped.append)
    for study, rank in ((1, 3), (2, 2), (3, 1)):
        assert shelf.put(study, rank, "0", one())
    assert shelf.put(4, 0, "0", one()) and dropped == [1]
    assert not shelf.slices(1) and shelf.slices(2)
    assert not shelf.put(5, 2, "0", one()) and shelf.held_bytes == 3 * SIZE


def test_whole_look_is_given_out_once_and_only_for_the_images_it_was_at() -> None:
    shelf = Shelf(10 * SIZE)
    shelf.put(1, 2, "0", one())
    assert shelf.keep_look(1, 2, "these", "said", 2 * SIZE) and shelf.held_bytes == 3 * SIZE
    assert shelf.take_look(1, "others") is None and shelf.held_bytes == 3 * SIZE
    assert shelf.take_look(1, "these") == "said" and shelf.take_look(1, "these") is None
    assert shelf.held_bytes == 0


def test_look_pushes_out_the_slices_it_was_made_of_where_there_is_no_room_for_both() -> None:
    shelf = Shelf(3 * SIZE)
    for n in range(3):
        shelf.put(1, 2, str(n), one())
    assert shelf.keep_look(1, 2, "these", "said", 2 * SIZE)
    assert shelf.held_bytes == 2 * SIZE and shelf.slices(1) == {}


def test_what_waits_no_longer_is_dropped() -> None:
    dropped: list[int] = []
    shelf = Shelf(10 * SIZE, dropped.append)
    shelf.put(1, 2, "0", one())
    shelf.put(2, 2, "0", one())
    shelf.only([2])
    assert dropped == [1] and shelf.held_bytes == SIZE and shelf.slices(2)


def test_slices_of_a_first_look_are_read_before_the_others() -> None:
    series = Series()
    for n in range(12):
        series.add(file(n, float(n)))
    assert numbers(list(series.next(3, 6.0))) == [0, 6]
    for n in (0, 6):
        series.done(f"1.{n}")
    assert numbers(list(series.next(3, 6.0))) == [1, 2, 3]
    series.leave()
    assert not series.next(3, 6.0)


def test_thick_series_has_no_first_look_and_goes_after_a_thin_one() -> None:
    thick, thin = Series(), Series()
    for n in range(4):
        thick.add(file(n, 5.0 * n, slice_thickness=5.0, series_number=1))
        thin.add(file(n, 1.0 * n, series_number=2))
    assert numbers(list(thick.next(9, 4.0))) == [0, 1, 2, 3]
    assert min((thick, thin), key=lambda s: s.place) is thin


@pytest.mark.parametrize("changes", [
    {"sop_class_uid": "1.2"}, {"number_of_frames": 2}, {"image_type": ("ORIGINAL", "PRIMARY", "LOCALIZER")},
    {"image_type": ("DERIVED", "PRIMARY")}, {"rescale_slope": 0.0}, {"rescale_intercept": None}, {"rows": None},
    {"rows": 1 << 20}, {"image_position_patient": ()}, {"image_position_patient": (0.0, 0.0, float("nan"))},
    {"image_orientation_patient": (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)}, {"image_orientation_patient": (float("inf"),) * 6},
])
def test_what_no_model_will_read_is_not_read_ahead(changes: dict[str, object]) -> None:
    assert worth_reading(header(1, 0.0)) and not worth_reading(header(1, 0.0, **changes))


def test_slice_of_another_size_is_left_out() -> None:
    series = Series()
    series.add(file(1, 0.0))
    series.add(file(2, 1.0, rows=128))
    assert numbers(list(series.next(9, 0.0))) == [1]


def test_a_look_that_is_being_had_is_waited_for_and_another_is_not() -> None:
    shelf = Shelf(1000)
    began, ended = threading.Event(), threading.Event()

    def looks() -> None:
        with shelf.looking(7, "these"):
            began.set()
            ended.wait(20)
            shelf.keep_look(7, 1, "these", "seen", 10)

    thread = threading.Thread(target=looks)
    thread.start()
    assert began.wait(20)
    assert shelf.wait_for_look(7, "others", 0) and shelf.wait_for_look(8, "these", 0)
    assert not shelf.wait_for_look(7, "these", 0)
    ended.set()
    assert shelf.wait_for_look(7, "these", 20) and shelf.take_look(7, "these") == "seen"
    thread.join()
