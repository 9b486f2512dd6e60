"""Outlines of the strong evidence: closed, around the right pixels, the strongest first."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from service.domain.finding import Outline
from service.infer.outline import outlines

SIZE = 200


def blob(row: float, column: float, height: float = 1.0, radius: float = 12) -> NDArray[np.float32]:
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    return (height * np.exp(-(((y - row) ** 2 + (x - column) ** 2) / radius**2))).astype(np.float32)


def filled(outline: Outline, size: int = SIZE) -> NDArray[np.bool_]:
    """Return the pixels whose centres an outline encloses or passes."""
    mask = np.zeros((size, size), np.uint8)
    cv2.fillPoly(mask, [np.round(np.array(outline) - 0.5).astype(np.int32)], 1)
    return mask > 0


def test_an_outline_encloses_what_is_at_least_half_of_the_strongest() -> None:
    evidence = blob(60, 120)
    (found,) = outlines(evidence)
    strong = evidence >= 0.5
    inside = filled(found)
    assert (inside & strong).sum() >= 0.97 * strong.sum() and (inside & ~strong).sum() <= 0.03 * strong.sum()


def test_on_a_detectors_image_it_encloses_the_same() -> None:
    evidence = cv2.resize(blob(60, 120), (15 * SIZE, 15 * SIZE))
    (found,) = outlines(evidence)
    strong = evidence >= 0.5
    inside = filled(found, 15 * SIZE)
    assert (inside & strong).sum() >= 0.97 * strong.sum() and (inside & ~strong).sum() <= 0.03 * strong.sum()


def test_an_outline_is_closed_and_counts_from_the_corner_of_the_first_pixel() -> None:
    evidence = np.zeros((SIZE, SIZE), np.float32)
    evidence[10:20, 30:50] = 1
    (found,) = outlines(evidence)
    assert found[0] == found[-1]
    assert set(found) == {(30.5, 10.5), (49.5, 10.5), (49.5, 19.5), (30.5, 19.5)}


def test_several_places_come_with_the_most_evidence_first_and_noise_is_left_out() -> None:
    evidence = blob(50, 50, 0.8) + blob(150, 150, 1.0, 25) + blob(20, 180, 0.9, 1.5)
    found = outlines(evidence)
    centres = [tuple(np.round(np.mean(np.array(o)[:-1], axis=0), -1)) for o in found]
    assert centres == [(150, 150), (50, 50)]


@pytest.mark.parametrize("evidence", [np.zeros((SIZE, SIZE), np.float32), np.zeros((0, 0), np.float32)])
def test_without_evidence_there_is_no_outline(evidence: NDArray[np.float32]) -> None:
    assert outlines(evidence) == ()


def test_places_that_do_not_count_are_cut_off() -> None:
    where = np.zeros((SIZE, SIZE), bool)
    where[:, :100] = True
    assert outlines(blob(60, 160), where) == ()
    (half,) = outlines(blob(60, 100), where)
    assert max(column for column, _ in half) <= 100


def test_a_single_pixel_has_no_outline() -> None:
    evidence = np.zeros((SIZE, SIZE), np.float32)
    evidence[5, 5] = 1
    assert outlines(evidence) == ()
