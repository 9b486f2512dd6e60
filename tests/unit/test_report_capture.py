"""The saliency picture: the radiograph stays visible, and the warning is burned in."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from service.errors import Defect
from service.report.build import build
from service.report.capture import LONGEST_SIDE, blended
from tests import builders
from tests.contracts.assessed import NOW, STYLE, cxr, pictures


def bar_of(picture: np.ndarray, grey: np.ndarray) -> int:
    """Return the height of the band above (and below) the radiograph."""
    return (picture.shape[0] - round(picture.shape[1] * grey.shape[0] / grey.shape[1])) // 2


def inside(picture: np.ndarray, grey: np.ndarray) -> np.ndarray:
    """Return the part of a picture that is the radiograph."""
    bar = bar_of(picture, grey)
    return picture[bar:picture.shape[0] - bar]


def test_where_nothing_matters_the_radiograph_is_unchanged():
    grey = builders.ribs(256).astype(np.float32)
    shown = inside(blended(grey, np.zeros_like(grey)), grey)
    for channel in range(3):
        np.testing.assert_allclose(shown[..., channel], grey * 255, atol=1)


def test_where_it_matters_the_picture_is_coloured_there_and_only_there():
    grey = np.full((200, 300), 0.5, np.float32)
    saliency = np.zeros_like(grey)
    saliency[20:60, 200:280] = 1
    shown = inside(blended(grey, saliency), grey).astype(int)
    coloured = shown.max(axis=2) - shown.min(axis=2) > 20
    np.testing.assert_array_equal(coloured, saliency > 0)


def test_a_trace_of_saliency_is_not_coloured():
    grey = np.full((200, 300), 0.5, np.float32)
    shown = inside(blended(grey, np.full_like(grey, 0.1)), grey)
    assert len(np.unique(shown)) == 1


@pytest.mark.parametrize("shape", [(2500, 2048), (300, 400), (40, 30), (3000, 900)])
def test_the_longest_side_is_bounded_and_the_ratio_is_kept(shape):
    picture = blended(np.zeros(shape, np.float32), np.zeros(shape, np.float32))
    height = picture.shape[0] - 2 * max(12, picture.shape[1] // 24)
    assert max(height, picture.shape[1]) == min(LONGEST_SIDE, max(shape))
    assert height / picture.shape[1] == pytest.approx(shape[0] / shape[1], rel=0.02)


def test_the_warning_and_the_legend_are_burned_in_outside_the_radiograph():
    grey = np.zeros((600, 500), np.float32)
    picture = blended(grey, np.zeros_like(grey))
    bar = bar_of(picture, grey)
    told = blended(grey, np.zeros_like(grey), "pneumonia 80%")
    assert len(told) == len(picture) + bar and (told[-2 * bar:-bar] > 200).sum() > 100
    assert (picture[:bar] > 200).sum() > 500
    assert (picture[-bar:, 200:] > 200).sum() > 300
    assert len(np.unique(picture[-bar:, :160].reshape(-1, 3), axis=0)) > 50


def test_values_that_are_not_numbers_do_no_harm():
    grey = np.full((50, 50), np.nan, np.float32)
    assert blended(grey, grey).dtype == np.uint8


def test_the_object_is_marked_as_derived_burned_in_and_of_its_source():
    source = builders.radiograph()
    selection, said = cxr([source])
    sc = build(selection, [source], said, STYLE, "d", 1, [], NOW, pictures([source]))[0].dataset
    assert list(sc.ImageType) == ["DERIVED", "SECONDARY"]
    assert (sc.BurnedInAnnotation, sc.PhotometricInterpretation, sc.SeriesNumber) == ("YES", "RGB", 902)
    assert sc.SourceImageSequence[0].ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert sc.StudyInstanceUID == source.StudyInstanceUID
    assert sc.SeriesInstanceUID != source.SeriesInstanceUID
    assert "Research use only" in sc.ImageComments
    assert len(sc.PixelData) >= sc.Rows * sc.Columns * 3


@pytest.mark.parametrize("without", ["saliency", "pictures", "style"])
def test_without_saliency_picture_or_wish_there_is_no_capture(without):
    source = builders.radiograph()
    selection, said = cxr([source], saliency={}) if without == "saliency" else cxr([source])
    style = dataclasses.replace(STYLE, secondary_capture=without != "style")
    shown = None if without == "pictures" else pictures([source])
    made = build(selection, [source], said, style, "d", 1, [], NOW, shown)
    assert [m.kind for m in made] == ["sr"]


def test_a_saliency_of_another_size_is_our_defect():
    source = builders.radiograph()
    selection, said = cxr([source])
    with pytest.raises(Defect):
        build(selection, [source], said, STYLE, "d", 1, [], NOW, {str(source.SOPInstanceUID): np.zeros((9, 9), np.float32)})
