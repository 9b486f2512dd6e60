"""CT slices to tensors and back: what a scanner may send, and what must not change."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.domain.manifest import InvalidManifest
from service.prepare import ct

PARAMETERS: dict[str, Any] = {
    "side_px": 256, "window_hu": [-1024, 1000], "clahe_clip_limit": 7.0, "clahe_tiles": 8,
}


def chest(rows: int, columns: int) -> NDArray[np.float32]:
    """A slice of -1000 HU air, a body ellipse of 40 HU and two lungs of -850 HU with a faint texture."""
    y, x = np.mgrid[-1:1:complex(rows), -1:1:complex(columns)]
    hu = np.full((rows, columns), -1000.0)
    hu[(x / 0.85) ** 2 + (y / 0.65) ** 2 < 1] = 40.0
    for side in (-0.4, 0.4):
        hu[((x - side) / 0.28) ** 2 + (y / 0.45) ** 2 < 1] = -850.0
    return (hu + 20 * np.sin(40 * x) * np.cos(40 * y)).astype(np.float32)


@pytest.mark.parametrize(("rows", "columns"), [(512, 512), (256, 256), (300, 200), (200, 301), (1024, 1024), (64, 64)])
def test_any_slice_size_becomes_one_square_tensor_in_0_to_1(rows: int, columns: int) -> None:
    tensor = ct.slice_tensor(np.stack([chest(rows, columns)] * 2), PARAMETERS)
    assert tensor.shape == (2, 1, 256, 256)
    assert tensor.dtype == np.float32
    assert tensor.min() >= 0.0
    assert tensor.max() <= 1.0
    assert tensor.std() > 0.1


@pytest.mark.parametrize("padding", [-2000.0, -3024.0, -32768.0, -np.inf, np.nan])
def test_padding_outside_the_scan_circle_looks_like_air(padding: float) -> None:
    slice_hu = chest(512, 512)
    y, x = np.mgrid[-1:1:512j, -1:1:512j]
    outside = np.hypot(x, y) > 1
    slice_hu[outside] = -1024.0
    padded = slice_hu.copy()
    padded[outside] = padding
    np.testing.assert_array_equal(
        ct.slice_tensor(padded[np.newaxis], PARAMETERS), ct.slice_tensor(slice_hu[np.newaxis], PARAMETERS),
    )


def test_metal_beyond_the_window_does_not_darken_the_lungs() -> None:
    with_rib, with_metal = chest(256, 256), chest(256, 256)
    with_rib[128, 128] = 1000.0
    with_metal[128, 128] = 30000.0
    np.testing.assert_array_equal(
        ct.slice_tensor(with_rib[np.newaxis], PARAMETERS), ct.slice_tensor(with_metal[np.newaxis], PARAMETERS),
    )


def test_a_slice_of_one_value_is_finite() -> None:
    tensor = ct.slice_tensor(np.full((1, 512, 512), -1000.0, np.float32), PARAMETERS)
    assert np.isfinite(tensor).all()
    assert tensor.std() == 0.0


def test_no_slices_give_an_empty_tensor() -> None:
    assert ct.slice_tensor(np.zeros((0, 512, 512), np.float32), PARAMETERS).shape == (0, 1, 256, 256)


def test_one_slice_does_not_depend_on_its_neighbours() -> None:
    bright, plain = chest(256, 256) + 500, chest(256, 256)
    together = ct.slice_tensor(np.stack([bright, plain]), PARAMETERS)
    np.testing.assert_array_equal(together[1:], ct.slice_tensor(plain[np.newaxis], PARAMETERS))


def test_the_input_is_left_unchanged() -> None:
    hu = chest(300, 200)[np.newaxis]
    before = hu.copy()
    ct.slice_tensor(hu, PARAMETERS)
    np.testing.assert_array_equal(hu, before)


def test_the_steps_of_a_manifest_are_those_that_training_runs() -> None:
    hu = chest(512, 512)
    by_hand = hu
    for name in ("air", "square", "resize", "stretch", "equalise"):
        by_hand = ct.STEPS[name](by_hand, PARAMETERS)
    tensor = ct.slice_tensor(hu[np.newaxis], PARAMETERS, ("air", "square", "resize", "stretch", "equalise"))
    np.testing.assert_array_equal(tensor[0, 0], by_hand)
    without = ct.slice_tensor(hu[np.newaxis], PARAMETERS, ("air", "square", "resize", "stretch"))
    assert not np.array_equal(without, tensor)


def test_equalised_values_are_eight_bit_levels() -> None:
    levels = ct.slice_tensor(chest(512, 512)[np.newaxis], PARAMETERS) * 255
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-4)


@pytest.mark.parametrize(("rows", "columns"), [(512, 512), (300, 200), (200, 301), (768, 768)])
def test_a_mask_of_the_lungs_comes_back_to_where_they_were(rows: int, columns: int) -> None:
    hu = chest(rows, columns)
    lung = (hu < -800) & (np.hypot(*np.mgrid[-1:1:complex(rows), -1:1:complex(columns)]) < 0.75)
    square = ct.square(np.where(lung, 500.0, -1024.0).astype(np.float32), PARAMETERS)
    mask = ct.resize(square, PARAMETERS) > -262
    for values in (mask, mask.astype(np.uint8), mask.astype(np.float32)):
        restored = ct.restore(values, rows, columns)
        assert restored.shape == (rows, columns)
        assert restored.dtype == values.dtype
        found = restored > 0.5
        assert 2 * (found & lung).sum() / (found.sum() + lung.sum()) > 0.97


def test_restored_probabilities_keep_their_axes_and_still_sum_to_one() -> None:
    random = np.random.default_rng(3)
    scores = random.random((2, 3, 256, 256), np.float32)
    restored = ct.restore(scores / scores.sum(axis=1, keepdims=True), 400, 512)
    assert restored.shape == (2, 3, 400, 512)
    np.testing.assert_allclose(restored.sum(axis=1), 1.0, atol=1e-5)


def test_labels_are_never_mixed_when_restored() -> None:
    labels = np.zeros((1, 256, 256), np.uint8)
    labels[0, 100:150] = 2
    assert set(np.unique(ct.restore(labels, 511, 333))) == {0, 2}


@pytest.mark.parametrize(("key", "value"), [
    ("side_px", 0), ("side_px", "256"), ("side_px", True), ("window_hu", [0]), ("window_hu", [100, -100]),
    ("clahe_clip_limit", -1), ("clahe_tiles", None), ("clahe_clip_limit", float("nan")),
])
def test_a_bad_parameter_is_named(key: str, value: object) -> None:
    with pytest.raises(InvalidManifest, match=key):
        ct.slice_tensor(chest(64, 64)[np.newaxis], {**PARAMETERS, key: value})


def test_a_missing_parameter_is_named() -> None:
    with pytest.raises(InvalidManifest, match="window_hu"):
        ct.slice_tensor(chest(64, 64)[np.newaxis], {k: v for k, v in PARAMETERS.items() if k != "window_hu"})


def test_an_unknown_step_is_refused_and_the_known_ones_are_listed() -> None:
    with pytest.raises(InvalidManifest, match=r"sharpen.*equalise"):
        ct.slice_tensor(chest(64, 64)[np.newaxis], PARAMETERS, ("air", "sharpen"))


def test_a_single_slice_without_its_axis_is_refused() -> None:
    with pytest.raises(ValueError, match="2 axes"):
        ct.slice_tensor(chest(64, 64), PARAMETERS)
