"""The SEG holds exactly the masks, on the source grid, overlap and all."""

from __future__ import annotations

import dataclasses
import tracemalloc
from io import BytesIO

import highdicom as hd
import numpy as np
import pytest

from service.domain import codes
from service.domain.finding import Assessment
from service.errors import Defect, UnusableStudy
from service.report.build import build
from service.report.content import key_slices
from service.report.segmentation import drawn
from tests import builders
from tests.contracts.assessed import NOW, SEGMENTS, STYLE, ct, masks


def seg_of(sources, said_masks, **changes):
    """Return (SEG read back by highdicom, (z, y, x, segment) array in the order of the masks)."""
    selection, said = ct(sources, masks=said_masks, **changes)
    made = next(m for m in build(selection, sources, said, STYLE, "d", 1, [], NOW) if m.kind == "seg")
    buffer = BytesIO()
    made.dataset.save_as(buffer, enforce_file_format=True)
    buffer.seek(0)
    seg = hd.seg.segread(buffer)
    planes = seg.get_pixels_by_source_instance([str(s.SOPInstanceUID) for s in sources], ignore_spatial_locations=True,
                                               assert_missing_frames_are_empty=True)
    return seg, planes


@pytest.mark.parametrize("size", [16, 17])
def test_every_voxel_comes_back_also_when_a_frame_is_no_whole_number_of_bytes(size):
    drawing = np.random.default_rng(1).integers(0, 8, (6, size, size)).astype(np.uint8)
    drawing[2] = 0
    seg, planes = seg_of(builders.ct_series(slices=6, size=size), drawing)
    for place in range(3):
        np.testing.assert_array_equal(planes[..., place], (drawing >> place) & 1)
    assert seg.NumberOfFrames == 15


def test_overlap_is_declared_only_when_segments_overlap():
    sources = builders.ct_series(slices=6, size=32)
    assert seg_of(sources, masks(6, 32))[0].SegmentsOverlap == "YES"
    assert seg_of(sources, masks(6, 32) & np.uint8(3))[0].SegmentsOverlap == "NO"


def test_an_empty_segment_is_left_out_and_the_others_are_numbered_without_gaps():
    drawing = masks(6, 32) & np.uint8(0b110)
    seg, planes = seg_of(builders.ct_series(slices=6, size=32), drawing)
    assert [s.SegmentLabel for s in seg.SegmentSequence] == ["left lung", "infection"]
    np.testing.assert_array_equal(planes[..., 0], drawing >> 1 & 1)
    np.testing.assert_array_equal(planes[..., 1], drawing >> 2 & 1)


def test_bits_that_belong_to_no_segment_are_not_written():
    drawing = masks(6, 32)
    seg, planes = seg_of(builders.ct_series(slices=6, size=32), drawing & np.uint8(3) | np.uint8(0x80))
    np.testing.assert_array_equal(planes[..., 0], drawing & 1)
    assert seg.SegmentsOverlap == "NO"


def test_slices_in_descending_order_keep_their_masks():
    drawing = masks(6, 32)
    drawing[1] = 1
    sources = builders.ct_series(slices=6, size=32)[::-1]
    _, planes = seg_of(sources, drawing)
    np.testing.assert_array_equal(planes[..., 0], drawing & 1)


def test_segments_are_described_by_code_side_colour_and_algorithm():
    seg, _ = seg_of(builders.ct_series(slices=6, size=32), masks(6, 32))
    right, _, infection = seg.SegmentSequence
    kind = right.SegmentedPropertyTypeCodeSequence[0]
    assert (kind.CodeValue, kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning) == ("39607008", "Right")
    assert infection.SegmentedPropertyCategoryCodeSequence[0].CodeMeaning == "Morphologically Abnormal Structure"
    assert hd.color.CIELabColor.from_dicom_value(right.RecommendedDisplayCIELabValue).to_rgb() == (90, 160, 220)
    algorithm = right.SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("ct-lung-infection", "1.0.0")
    assert algorithm.AlgorithmFamilyCodeSequence[0].CodeValue == "123110"
    assert len({s.TrackingUID for s in seg.SegmentSequence}) == 3
    assert seg.ContentDescription == "Research use only. Not for clinical diagnosis."


def test_a_slice_thickness_that_lies_does_not_change_the_spacing():
    sources = builders.ct_series(slices=6, size=32, SliceThickness=99, SpacingBetweenSlices=-1)
    seg, _ = seg_of(sources, masks(6, 32))
    assert seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices == 5.0


def test_a_missing_slice_does_not_take_the_spacing_away():
    sources = [s for k, s in enumerate(builders.ct_series(slices=8, size=32)) if k != 4]
    seg, _ = seg_of(sources, masks(7, 32))
    assert seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices == 5.0


def test_orientations_that_differ_in_the_last_digit_do_not_stop_the_report():
    sources = builders.ct_series(slices=6, size=32)
    sources[3].ImageOrientationPatient = [1, 0, 0.0000001, 0, 1, 0]
    assert seg_of(sources, masks(6, 32))[0].NumberOfFrames > 0


@pytest.mark.parametrize("change", [
    {"ImagePositionPatient": None}, {"FrameOfReferenceUID": None}, {"ImageOrientationPatient": None},
    {"NumberOfFrames": 4}])
def test_sources_without_a_plane_of_their_own_are_refused(change):
    whole = builders.ct_series(slices=6, size=32)
    selection, said = ct(whole)
    with pytest.raises(UnusableStudy):
        build(selection, builders.ct_series(slices=6, size=32, **change), said, STYLE, "d", 1, [], NOW)


def test_masks_of_another_size_are_our_defect():
    sources = builders.ct_series(slices=6, size=32)
    selection, said = ct(sources)
    with pytest.raises(Defect):
        build(selection, sources, dataclasses.replace(said, masks=masks(6, 16)), STYLE, "d", 1, [], NOW)


def test_key_slices_show_the_largest_infection_of_each_third():
    drawing = np.zeros((30, 8, 8), np.uint8)
    drawing[:, 0, 0] = 1
    for z, voxels in ((10, 2), (11, 5), (12, 3), (13, 3), (14, 6), (15, 1)):
        drawing[z, 1, :voxels] = 5
    found = drawn(Assessment(ct(builders.ct_series(slices=30, size=8))[1].bundle, (), segments=SEGMENTS, masks=drawing))
    assert found is not None
    assert key_slices(found) == [11, 12, 14]


def test_without_an_infection_key_slices_show_the_lungs():
    said = ct(builders.ct_series(slices=9, size=32), infection=False)[1]
    found = drawn(said)
    assert found is not None
    assert all(s.category == codes.ANATOMICAL_STRUCTURE for s in found.segments)
    assert len(key_slices(found)) == 3


def test_memory_stays_far_below_one_array_for_each_segment():
    slices, size = 60, 256
    stack = []
    for k in range(slices):
        ds = builders.ct_series(slices=1, size=8)[0]
        ds.Rows = ds.Columns = size
        ds.SOPInstanceUID, ds.ImagePositionPatient = builders.uid(1, 1, 1, k + 1), [0, 0, 2.0 * k]
        stack.append(ds)
    selection, said = ct(stack, masks=masks(slices, size))
    tracemalloc.start()
    build(selection, stack, said, STYLE, "d", 1, [], NOW)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * slices * size * size
