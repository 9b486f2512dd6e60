"""Radiographs to tensors, and maps of evidence back to their pixels."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from service.domain.manifest import InvalidManifest
from service.prepare import cxr

PARAMETERS: dict[str, Any] = {
    "rows_px": 224, "columns_px": 224, "margin_fraction": 0.05, "low_percentile": 0.5, "high_percentile": 99.5,
    "saliency_floor": 1.0, "longest_px": 384,
}


def thorax(rows: int, columns: int) -> NDArray[np.float32]:
    """A grey body with two dark lungs, smooth, in 0..1."""
    y, x = np.mgrid[-1:1:complex(rows), -1:1:complex(columns)]
    grey = 0.7 - 0.1 * y
    for side in (-0.4, 0.4):
        grey -= 0.5 * np.exp(-(((x - side) / 0.25) ** 2 + (y / 0.5) ** 2))
    return grey.astype(np.float32)


@pytest.mark.parametrize(("rows", "columns"), [(2500, 2048), (592, 968), (224, 224), (100, 80)])
def test_any_size_becomes_one_tensor_in_0_to_1(rows: int, columns: int) -> None:
    tensor = cxr.image_tensor(thorax(rows, columns), PARAMETERS)
    assert tensor.shape == (1, 1, 224, 224)
    assert tensor.dtype == np.float32
    assert tensor.min() == 0.0
    assert tensor.max() == 1.0


def test_two_display_windows_of_one_image_give_nearly_the_same_tensor() -> None:
    grey = thorax(512, 512)
    np.testing.assert_allclose(
        cxr.image_tensor(grey, PARAMETERS), cxr.image_tensor(0.5 * grey + 0.2, PARAMETERS), atol=1e-5,
    )


def test_what_stands_in_the_margin_does_not_reach_the_network() -> None:
    grey, with_letters = thorax(400, 400), thorax(400, 400)
    with_letters[:18, :40] = 1.0
    with_letters[:, -15:] = 0.0
    np.testing.assert_array_equal(
        cxr.image_tensor(grey, PARAMETERS), cxr.image_tensor(with_letters, PARAMETERS),
    )


def test_a_blank_image_and_not_a_number_stay_finite() -> None:
    blank = np.full((300, 300), 0.4, np.float32)
    assert not cxr.image_tensor(blank, PARAMETERS).any()
    holed = thorax(300, 300)
    holed[100:110, 100:110] = np.nan
    assert np.isfinite(cxr.image_tensor(holed, PARAMETERS)).all()


def test_the_steps_of_a_manifest_are_those_that_training_runs() -> None:
    grey = thorax(500, 400)
    by_hand = grey
    for name in ("trim", "reduce", "resize", "stretch"):
        by_hand = cxr.STEPS[name](by_hand, PARAMETERS)
    tensor = cxr.image_tensor(grey, PARAMETERS, ("trim", "reduce", "resize", "stretch"))
    np.testing.assert_array_equal(tensor[0, 0], by_hand)


def test_a_large_image_reaches_the_network_no_sharper_than_a_small_copy_of_it() -> None:
    grain = np.random.default_rng(3).random((1536, 1152), np.float32)
    copy = grain.reshape(384, 4, 288, 4).mean(axis=(1, 3))
    steps = ("reduce", "resize", "stretch")
    large, small = (cxr.image_tensor(image, PARAMETERS, steps) for image in (grain, copy))
    np.testing.assert_allclose(large, small, atol=1e-4)
    assert np.abs(cxr.image_tensor(grain, PARAMETERS, steps[1:]) - small).mean() > 0.05, "shrunk in one go it differs"


def test_a_detectors_image_is_halved_on_its_way_and_shows_the_same() -> None:
    grey = thorax(2501, 2049)
    at_once = cv2.resize(grey, (round(2049 * 384 / 2501), 384), interpolation=cv2.INTER_AREA)
    reduced = cxr.reduce(grey, PARAMETERS)
    assert reduced.shape == at_once.shape
    np.testing.assert_allclose(reduced, at_once, atol=0.02)
    assert np.abs(reduced - at_once).mean() < 0.001


def test_an_image_that_is_small_enough_is_not_touched_by_reduce() -> None:
    grey = thorax(384, 200)
    assert cxr.reduce(grey, PARAMETERS) is grey


def test_what_is_no_number_does_not_spread_through_reduce() -> None:
    for rows, columns in ((1000, 800), (2500, 2000)):
        holed = thorax(rows, columns)
        holed[100:110, 100:110] = np.nan
        assert np.isfinite(cxr.reduce(holed, PARAMETERS)).all()


def test_the_input_is_left_unchanged() -> None:
    grey = thorax(300, 200)
    before = grey.copy()
    cxr.image_tensor(grey, PARAMETERS)
    np.testing.assert_array_equal(grey, before)


@pytest.mark.parametrize(("rows", "columns"), [(700, 700), (1000, 600), (333, 801)])
@pytest.mark.parametrize("place", [(1, 1), (5, 2), (3, 5)])
def test_the_strongest_place_lands_where_the_network_saw_it(rows: int, columns: int, place: tuple[int, int]) -> None:
    activation = np.full((7, 7), -2.0, np.float32)
    activation[place] = 5.0
    saliency = cxr.saliency_on_source(activation, rows, columns, PARAMETERS)
    assert saliency.shape == (rows, columns)
    assert saliency.max() <= 1.0
    top, left = 0.05 * rows, 0.05 * columns
    expected = (top + (place[0] + 0.5) / 7 * 0.9 * rows, left + (place[1] + 0.5) / 7 * 0.9 * columns)
    y, x = np.nonzero(saliency >= 0.95 * saliency.max())
    assert abs(y.mean() - expected[0]) < 0.03 * rows
    assert abs(x.mean() - expected[1]) < 0.03 * columns


def test_the_margin_shows_no_evidence() -> None:
    saliency = cxr.saliency_on_source(np.ones((7, 7), np.float32), 400, 400, PARAMETERS)
    assert not saliency[:20].any()
    assert not saliency[:, -20:].any()
    assert saliency[20:-20, 20:-20].min() == 1.0


def test_evidence_against_a_class_is_not_shown() -> None:
    assert not cxr.saliency_on_source(np.full((7, 7), -3.0, np.float32), 300, 300, PARAMETERS).any()


def test_weak_evidence_stays_faint() -> None:
    weak = np.zeros((7, 7), np.float32)
    weak[3, 3] = 0.1
    assert 0.0 < cxr.saliency_on_source(weak, 300, 300, PARAMETERS).max() <= 0.1


@pytest.mark.parametrize(("key", "value"), [
    ("rows_px", 0), ("columns_px", "224"), ("margin_fraction", 0.5), ("low_percentile", -1), ("high_percentile", 40),
    ("margin_fraction", None), ("longest_px", 8),
])
def test_a_bad_parameter_is_named(key: str, value: object) -> None:
    with pytest.raises(InvalidManifest, match=key):
        cxr.image_tensor(thorax(64, 64), {**PARAMETERS, key: value}, tuple(cxr.STEPS))


def test_a_bad_saliency_floor_is_named() -> None:
    with pytest.raises(InvalidManifest, match="saliency_floor"):
        cxr.saliency_on_source(np.zeros((7, 7), np.float32), 64, 64, {**PARAMETERS, "saliency_floor": 0})


def test_an_unknown_step_is_refused() -> None:
    with pytest.raises(InvalidManifest, match="sharpen"):
        cxr.image_tensor(thorax(64, 64), PARAMETERS, ("sharpen",))


@pytest.mark.parametrize("shape", [(1, 64, 64), (8, 64)])
def test_what_is_not_one_image_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="radiograph"):
        cxr.image_tensor(np.zeros(shape, np.float32), PARAMETERS)
