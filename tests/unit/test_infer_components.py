"""The components of a mask are numbered as SciPy numbers them, whatever the mask."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from service.follow.grid import Grid
from service.follow.pieces import pieces_of
from service.infer.tidy import labelled

SHAPES = ((0, 3, 3), (1, 1, 1), (1, 1, 11), (9, 1, 1), (1, 8, 1), (7, 6, 5), (12, 20, 17))
GRID = Grid(np.array([[0.0, 0.0, z] for z in range(12)]), np.array([1.0, 0, 0]), np.array([0.0, 1, 0]), (1.0, 10.0, 10.0),
            (12, 20, 17))


def masks(shape: tuple[int, int, int]) -> list[np.ndarray]:
    random = np.random.default_rng(1)
    return [np.zeros(shape, np.bool_), np.ones(shape, np.bool_),
            *(random.random(shape) < share for share in (0.05, 0.3, 0.5, 0.7) for _ in range(20))]


@pytest.mark.parametrize("shape", SHAPES)
def test_components_and_their_numbers_are_those_of_scipy(shape: tuple[int, int, int]) -> None:
    for mask in masks(shape):
        labels, count = labelled(mask)
        expected, known = ndimage.label(mask)
        assert count == known and np.array_equal(labels, expected)


def test_a_view_that_is_turned_and_sampled_is_numbered_as_it_lies() -> None:
    for mask in masks((12, 20, 17)):
        turned = mask[:, ::-2, ::2]
        assert np.array_equal(labelled(turned)[0], ndimage.label(turned)[0])


def test_pieces_touch_by_corners_too_and_the_largest_is_the_first() -> None:
    for mask in masks((12, 20, 17)):
        labels, count = ndimage.label(mask, np.ones((3, 3, 3)))
        sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
        order = np.argsort(-sizes, kind="stable")[:30]
        pieces = pieces_of(mask, GRID)
        others = np.random.default_rng(3).integers(0, 2, mask.shape, dtype=np.uint8)
        assert np.array_equal(pieces_of(others | mask * np.uint8(4), GRID, 4).labels, pieces.labels)
        assert pieces.count == len(order)
        for number, label in enumerate(order, 1):
            assert np.array_equal(pieces.voxels(number), np.argwhere(labels == label + 1))
