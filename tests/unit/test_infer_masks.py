"""Repairs of masks, on arrays small enough to see."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from service.domain.box import box_of
from service.infer.air import BACKGROUND, INFECTION, LUNG, AirRules, believable
from service.infer.lungs import LEFT, RIGHT, LungRules, middle_column, sides_of
from service.infer.masks import masks_of
from service.infer.presentation import Presentation
from service.infer.tidy import Components, carried, without_holes, without_single_slices
from tests.unit.test_infer_ct import volume_of

SPACING = (2.5, 2.0, 2.0)
RULES = AirRules(min_piece_ml=1.0)


def block(*places: tuple[slice, slice, slice]) -> np.ndarray:
    mask = np.zeros((20, 60, 60), np.bool_)
    for place in places:
        mask[place] = True
    return mask


AIRY = slice(5, 15), slice(10, 40), slice(5, 25)
BELLY = slice(0, 5), slice(10, 40), slice(30, 50)


def test_soft_tissue_called_lung_is_not_believed() -> None:
    labels = block(AIRY, BELLY).astype(np.uint8) * LUNG
    hu = np.where(block(AIRY), -850, -90).astype(np.float32)
    kept, misread = believable(labels, hu, SPACING, RULES)
    assert np.array_equal(kept > 0, block(AIRY)) and not misread.any()


def test_masks_are_made_in_steps_between_which_others_may_go_first() -> None:
    lungs = block(AIRY, (slice(5, 15), slice(10, 40), slice(35, 55)))
    classes, hu = lungs.astype(np.uint8) * LUNG, np.where(lungs, -850, 30).astype(np.float32)
    stood = list[int]()
    masks, _ = masks_of(classes, hu, SPACING, 0.5, lambda: stood.append(len(stood)))
    assert len(stood) == 2 and np.array_equal(masks > 0, lungs)


def test_infection_is_not_believed_in_a_slice_whose_lung_is_mostly_soft_tissue() -> None:
    hu = np.where(block(AIRY), -850, -90).astype(np.float32)
    labels = block(AIRY).astype(np.uint8) * LUNG
    labels[5, 10:15, 5:25], labels[9, 10:15, 5:25] = INFECTION, INFECTION
    labels[5, :, 26:] = LUNG
    kept, misread = believable(labels, hu, SPACING, RULES)
    assert misread.tolist() == [k == 5 for k in range(20)]
    assert not (kept[5] == INFECTION).any() and (kept[9] == INFECTION).sum() == 100


def test_dense_infection_counts_where_it_joins_aerated_lung_even_through_other_slices() -> None:
    lobe = slice(2, 5), slice(10, 40), slice(5, 25)
    far = slice(8, 10), slice(50, 58), slice(50, 58)
    other_lung = slice(0, 15), slice(10, 40), slice(35, 55)
    hu = np.where(block(AIRY, other_lung), -850, 30).astype(np.float32)
    labels = block(AIRY, other_lung).astype(np.uint8) * LUNG
    labels[block(lobe, far)] = INFECTION
    kept, _ = believable(labels, hu, SPACING, RULES)
    assert np.array_equal(kept == INFECTION, block(lobe))


def test_vessels_and_walls_close_to_air_stay_lung() -> None:
    hu = np.where(block(AIRY), -850, 40).astype(np.float32)
    hu[7:12, 20:22, 10:12] = 60
    labels = block(AIRY).astype(np.uint8) * LUNG
    labels[5:15, 10:40, 25:27] = LUNG
    kept, _ = believable(labels, hu, SPACING, RULES)
    assert (kept[7:12, 20:22, 10:12] == LUNG).all() and (kept[5:15, 11:39, 25] == LUNG).all()


def test_small_gas_elsewhere_is_not_lung() -> None:
    gas = slice(0, 3), slice(50, 54), slice(50, 54)
    hu = np.where(block(AIRY, gas), -850, 40).astype(np.float32)
    kept, _ = believable(block(AIRY, gas).astype(np.uint8) * LUNG, hu, SPACING, RULES)
    assert np.array_equal(kept > 0, block(AIRY))


def test_nothing_called_lung_stays_nothing() -> None:
    kept, misread = believable(np.zeros((4, 32, 32), np.uint8), np.zeros((4, 32, 32), np.float32), SPACING, RULES)
    assert (kept == BACKGROUND).all() and not misread.any()


def test_holes_are_filled_up_to_an_area_and_notches_are_left() -> None:
    mask = np.zeros((40, 40), np.bool_)
    mask[5:35, 5:35] = True
    mask[10:13, 10:13], mask[18:28, 18:28], mask[5:9, 20:22] = False, False, False
    filled = without_holes(mask, 9)
    assert filled[10:13, 10:13].all() and not filled[18:28, 18:28].any() and not filled[5:9, 20:22].any()
    assert without_holes(np.zeros((4, 4), np.bool_), 9).sum() == 0
    pierced = np.tri(12, dtype=np.bool_)
    pierced[8, 3] = False
    assert np.array_equal(without_holes(pierced, 900), np.tri(12, dtype=np.bool_))


def test_specks_are_removed_by_their_number_of_voxels() -> None:
    mask = block((slice(2, 4), slice(2, 4), slice(2, 4)), (slice(10, 13), slice(10, 13), slice(10, 13)))
    found = Components.of(mask)
    assert sorted(found.sizes) == [0, 8, 27]
    assert np.array_equal(found.only(found.sizes >= 9).sampled(1), block((slice(10, 13), slice(10, 13), slice(10, 13))))
    assert np.array_equal(found.only(found.sizes >= 8).sampled(1), mask)


def test_a_mask_of_nothing_has_no_components() -> None:
    nothing = np.zeros((3, 4, 5), np.bool_)
    found = Components.of(nothing)
    assert found.sizes.tolist() == [0] and np.array_equal(found.only(found.medians(nothing) >= 0).sampled(1), nothing)


def test_the_box_of_a_mask_begins_on_the_coarse_grid() -> None:
    mask = block((slice(3, 6), slice(5, 9), slice(7, 8)))
    assert box_of(mask) == (slice(3, 6), slice(5, 9), slice(7, 8))
    assert box_of(mask, 4) == (slice(3, 6), slice(4, 9), slice(4, 8))
    assert box_of(np.zeros_like(mask)) is None
    bits = mask * np.uint8(2)
    bits[0, 0, 0] = 1
    assert box_of(bits, bits=2) == (slice(3, 6), slice(5, 9), slice(7, 8)) and box_of(bits, bits=4) is None


def test_patch_of_a_single_slice_is_removed_when_slices_are_close() -> None:
    lone, pair = (slice(3, 4), slice(5, 15), slice(5, 15)), (slice(8, 10), slice(5, 15), slice(5, 15))
    mask = block(lone, pair)
    assert np.array_equal(without_single_slices(mask, SPACING), block(pair))
    assert np.array_equal(without_single_slices(mask, (6.0, 2.0, 2.0)), mask)
    thin = block(*((slice(8 + n, 9 + n), slice(5, 15), slice(5, 15)) for n in range(2)))
    assert not without_single_slices(thin, (1.0, 2.0, 2.0)).any()


def test_patch_as_pale_as_lung_is_removed() -> None:
    pale, dense = (slice(2, 5), slice(5, 15), slice(5, 15)), (slice(9, 12), slice(5, 15), slice(5, 15))
    hu = np.where(block(dense), -600, -850).astype(np.float32)
    for values in (hu, np.asfortranarray(hu)):
        found = Components.of(block(pale, dense))
        assert found.medians(values)[1:].tolist() == [-850, -600]
        assert np.array_equal(found.only(found.medians(values) >= -750).sampled(1), block(dense))


@pytest.mark.parametrize("step", [1, 2, 3])
def test_coarse_values_reach_every_fine_voxel_of_the_mask(step: int) -> None:
    mask = np.zeros((2, 31, 29), np.bool_)
    mask[1, 4:23, 3:20] = True
    coarse = mask[:, ::step, ::step].astype(np.uint8) * LEFT
    assert np.array_equal(carried(coarse, mask, step), mask * np.uint8(LEFT))


def test_lungs_joined_by_a_wide_bridge_are_divided_at_the_middle() -> None:
    lung = block((slice(2, 18), slice(10, 50), slice(5, 55)))
    sides = sides_of(lung, middle_column(np.full(lung.shape, 40, np.float32)), SPACING, LungRules())
    assert (sides[lung & (np.arange(60) < 29)] == RIGHT).all() and (sides[lung & (np.arange(60) > 30)] == LEFT).all()


def test_lungs_that_touch_in_a_patient_off_centre_are_parted_at_the_bridge() -> None:
    right, left = (slice(2, 18), slice(10, 50), slice(5, 30)), (slice(2, 18), slice(10, 50), slice(32, 44))
    bridge = slice(8, 10), slice(12, 15), slice(30, 32)
    hu = np.full((20, 60, 60), 40, np.float32)
    hu[:, :, 50:] = -1000
    sides = sides_of(block(right, left, bridge), middle_column(hu), SPACING, LungRules())
    assert (sides[block(right)] == RIGHT).all() and (sides[block(left)] == LEFT).all()


@pytest.mark.parametrize("orientation", [
    (1, 0, 0, 0, 1, 0), (-1, 0, 0, 0, 1, 0), (1, 0, 0, 0, -1, 0), (0, 1, 0, 1, 0, 0), (0, -1, 0, 1, 0, 0),
    (0.99, 0.1, 0, -0.1, 0.99, 0),
])
def test_turning_back_undoes_turning(orientation: tuple[float, ...]) -> None:
    geometry = replace(volume_of(slices=1).geometry, orientation=orientation)
    values = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    presentation = Presentation.of(geometry)
    assert np.array_equal(presentation.turn_back(presentation.turn(values)), values)
