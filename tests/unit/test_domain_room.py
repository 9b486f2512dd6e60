"""Memory of volumes is used again, and never while anything still refers to it."""

from __future__ import annotations

import numpy as np

from service.domain.room import Room

MB = 2**20


def address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


def test_memory_is_handed_out_again_when_its_array_is_gone() -> None:
    room = Room()
    first = room.empty((4, 512, 512), np.float32)
    first[:] = 7
    where = address(first)
    assert first.flags.c_contiguous and first.flags.writeable and room.spare_bytes == 0
    del first
    assert room.spare_bytes == 4 * MB
    assert address(room.empty((4, 512, 512), np.float32)) == where


def test_a_view_of_a_view_keeps_its_memory_from_others() -> None:
    room = Room()
    volume = room.empty((4, 512, 512), np.float32)
    volume[:] = 7
    kept = volume[1:][0, ::2].T
    del volume
    other = room.empty((4, 512, 512), np.float32)
    other[:] = 9
    assert room.spare_bytes == 0 and (kept == 7).all()


def test_memory_that_is_much_too_large_or_too_small_is_left() -> None:
    room = Room()
    del_me = room.empty((8 * MB,), np.uint8)
    del del_me
    small, large = room.empty((MB,), np.uint8), room.empty((16 * MB,), np.uint8)
    assert room.spare_bytes == 8 * MB and small.nbytes + large.nbytes == 17 * MB
    fits = room.empty((2, 2 * MB), np.int16)
    assert room.spare_bytes == 0 and fits.shape == (2, 2 * MB)


def test_so_much_is_kept_at_most_and_for_so_long() -> None:
    now = [0.0]
    room = Room(most_bytes=3 * MB, kept_s=60.0, clock=lambda: now[0])
    arrays = [room.empty((MB,), np.uint8) for _ in range(5)]
    arrays.clear()
    assert room.spare_bytes == 3 * MB
    now[0] = 59.0
    room.shrink()
    assert room.spare_bytes == 3 * MB
    now[0] = 61.0
    room.shrink()
    assert room.spare_bytes == 0


def test_an_array_without_values_takes_no_memory() -> None:
    room = Room()
    assert room.empty((0, 5), np.float32).shape == (0, 5)
    assert room.spare_bytes == 0


def test_zeros_are_zeros_where_other_values_were() -> None:
    room = Room()
    first = room.empty((4, 512, 512), np.uint8)
    first[:] = 7
    where = address(first)
    del first
    again = room.zeros((4, 512, 512), np.uint8)
    assert address(again) == where and not again.any()


def test_what_is_small_is_left_to_the_allocator() -> None:
    room = Room()
    del_me = room.empty((512, 512), np.uint8)
    del del_me
    assert room.spare_bytes == 0
