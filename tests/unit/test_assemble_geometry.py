"""How slices are ordered and what is wrong with how they lie."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from service.assemble.geometry import GeometryRules, stack
from service.domain.study import CT_IMAGE_STORAGE, Header
from service.errors import Reason, UnusableStudy

RULES = GeometryRules(min_slices=5, max_slice_gap_mm=5.0)


def slices(count: int = 12, spacing_mm: float = 2.5, **changes: object) -> list[Header]:
    made = [
        Header(
            sop_instance_uid=f"1.2.{k}", sop_class_uid=CT_IMAGE_STORAGE, study_instance_uid="1.2", instance_number=count - k,
            series_instance_uid="1.3", rows=64, columns=48, pixel_spacing=(0.7, 0.8), frame_of_reference_uid="1.9",
            image_orientation_patient=(1, 0, 0, 0, 1, 0), image_position_patient=(-100.0, -90.0, -50 + k * spacing_mm),
            rescale_slope=1.0, rescale_intercept=-1024.0)
        for k in range(count)
    ]
    return [replace(h, **changes) for h in made]


def never_same(_one: Header, _other: Header) -> bool:
    return False


def refusal(headers: list[Header]) -> UnusableStudy:
    with pytest.raises(UnusableStudy) as caught:
        stack(headers, RULES, never_same)
    return caught.value


def test_slices_are_ordered_by_position_not_by_instance_number() -> None:
    shuffled = slices()
    np.random.default_rng(1).shuffle(shuffled)  # type: ignore[arg-type]
    ordered, geometry, limitations = stack(shuffled, RULES, never_same)
    assert [h.image_position_patient[2] for h in ordered] == sorted(h.image_position_patient[2] for h in ordered)
    assert geometry.spacing_mm == pytest.approx((2.5, 0.7, 0.8))
    assert (geometry.rows, geometry.columns) == (64, 48)
    assert geometry.voxel_volume_ml == pytest.approx(2.5 * 0.7 * 0.8 / 1000)
    assert limitations == ()


def test_slices_turned_upside_down_ascend_along_their_own_normal() -> None:
    turned = slices(image_orientation_patient=(-1, 0, 0, 0, 1, 0))
    ordered, geometry, _ = stack(turned, RULES, never_same)
    assert geometry.normal == pytest.approx((0, 0, -1))
    assert ordered[0].image_position_patient[2] > ordered[-1].image_position_patient[2]
    assert geometry.positions_mm == tuple(sorted(geometry.positions_mm))


def test_one_missing_slice_is_a_limitation_that_says_where() -> None:
    headers = slices()
    del headers[5]
    ordered, geometry, limitations = stack(headers, RULES, never_same)
    assert len(ordered) == 11 and geometry.spacing_mm[0] == pytest.approx(2.5)
    assert limitations == ("one slice is missing after position -40.0 mm; volumes leave it out",)


def test_two_missing_slices_refuse_the_volume() -> None:
    neighbours, apart = slices(), slices()
    del neighbours[5:7]
    del apart[8], apart[3]
    assert refusal(neighbours).reason is Reason.MISSING_SLICES
    assert refusal(apart).reason is Reason.MISSING_SLICES


def test_repeated_slice_is_dropped_when_its_pixels_are_the_same_and_refused_otherwise() -> None:
    headers = slices()
    headers.append(replace(headers[3], sop_instance_uid="1.2.99"))
    ordered, _, limitations = stack(headers, RULES, lambda one, other: True)
    assert len(ordered) == 12 and "1 repeated" in limitations[0]
    assert refusal(headers).reason is Reason.CONFLICTING_DUPLICATES


@pytest.mark.parametrize(("changes", "reason"), [
    ({"image_orientation_patient": (1, 0, 0, 0, 0, -1)}, Reason.NOT_AXIAL),
    ({"image_orientation_patient": (0, 1, 0, 0, 0, -1)}, Reason.NOT_AXIAL),
    ({"image_orientation_patient": (0, 0, 0, 0, 0, 0)}, Reason.INVALID_GEOMETRY),
    ({"image_orientation_patient": (1, 0, 0, 1, 0, 0)}, Reason.INVALID_GEOMETRY),
    ({"image_orientation_patient": ()}, Reason.INVALID_GEOMETRY),
    ({"image_position_patient": ()}, Reason.INVALID_GEOMETRY),
    ({"image_position_patient": (0.0, 0.0, float("nan"))}, Reason.INVALID_GEOMETRY),
    ({"pixel_spacing": (0.0, 0.7)}, Reason.INVALID_GEOMETRY),
    ({"pixel_spacing": (-0.7, 0.7)}, Reason.INVALID_GEOMETRY),
    ({"pixel_spacing": (float("nan"), 0.7)}, Reason.INVALID_GEOMETRY),
    ({"pixel_spacing": ()}, Reason.INVALID_GEOMETRY),
    ({"frame_of_reference_uid": ""}, Reason.INVALID_GEOMETRY),
])
def test_impossible_geometry_is_refused(changes: dict[str, object], reason: Reason) -> None:
    assert refusal(slices(**changes)).reason is reason


@pytest.mark.parametrize("change", [
    {"rows": 65}, {"pixel_spacing": (0.9, 0.8)}, {"frame_of_reference_uid": "1.8"},
    {"image_orientation_patient": (0.98, 0.199, 0, -0.199, 0.98, 0)},
])
def test_one_slice_on_another_grid_refuses_the_volume(change: dict[str, object]) -> None:
    headers = slices()
    headers[4] = replace(headers[4], **change)
    assert refusal(headers).reason is Reason.VARIABLE_GEOMETRY


def test_uneven_distances_too_thick_and_too_few_are_refused() -> None:
    uneven = slices()
    uneven[4] = replace(uneven[4], image_position_patient=(-100.0, -90.0, -50 + 4.3 * 2.5))
    assert refusal(uneven).reason is Reason.VARIABLE_GEOMETRY
    assert refusal(slices(spacing_mm=7.0)).reason is Reason.SLICES_TOO_THICK
    assert refusal(slices(count=4)).reason is Reason.TOO_FEW_SLICES


def test_tilted_gantry_is_a_limitation() -> None:
    tilted = [
        replace(h, image_position_patient=(-100.0, -90.0 + 0.2 * k * 2.5, h.image_position_patient[2]))
        for k, h in enumerate(slices())
    ]
    assert "tilted gantry" in stack(tilted, RULES, never_same)[2][0]


def at(*positions: float) -> list[Header]:
    made = slices(len(positions))
    return [replace(h, image_position_patient=(-100.0, -90.0, p)) for h, p in zip(made, positions, strict=True)]


def test_runs_of_different_distances_make_a_volume_counted_slice_by_slice() -> None:
    positions = [*np.arange(0, 10, 1.25), *np.arange(10, 30, 2.5)]
    _, geometry, limitations = stack(at(*positions), RULES, never_same)
    assert geometry.varies and len(geometry.positions_mm) == len(positions) == len(geometry.thickness_mm)
    assert sum(geometry.thickness_mm) == pytest.approx(positions[-1] - positions[0] + (1.25 + 2.5) / 2)
    assert limitations == ("slice distances vary from 1.25 to 2.50 mm; volumes are counted slice by slice",)


@pytest.mark.parametrize("positions", [
    [*np.arange(0, 10, 1.0), *np.arange(10, 60, 7.0)],  # one run too wide
    [0, 1, 2, 3, 4, 6, 7, 8, 9, 11, 12, 13, 14, 15],  # two single gaps
    [0, 1, 2.5, 3.5, 5, 6, 7.5, 8.5, 10, 11],  # no rule
])
def test_other_uneven_distances_are_refused(positions: list[float]) -> None:
    assert refusal(at(*positions)).reason in (Reason.VARIABLE_GEOMETRY, Reason.MISSING_SLICES)
