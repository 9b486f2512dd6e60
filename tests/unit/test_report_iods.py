"""What is remembered of the tables of the standard is what highdicom finds in them."""

from __future__ import annotations

import highdicom
import pytest
from highdicom import _standard_utils
from pydicom import Dataset

import service.report.segmentation  # noqa: F401 - has highdicom ask here
from service.report import iods

CT, ENHANCED_CT, SEG = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.66.4"


def test_it_is_written_for_this_release_of_highdicom() -> None:
    assert highdicom.__version__ == "0.28.2"


@pytest.mark.parametrize("sop_class_uid", [CT, ENHANCED_CT, SEG])
@pytest.mark.parametrize("attribute", ["NumberOfFrames", "PixelData", "ContentDate", "TotalPixelMatrixRows", "PatientName"])
@pytest.mark.parametrize("excluded", [None, ["IconImageSequence"]])
def test_the_answer_is_that_of_the_tables(attribute: str, sop_class_uid: str, excluded: list[str] | None) -> None:
    asked = _standard_utils.is_attribute_in_iod
    assert asked is iods.is_attribute_in_iod
    for _ in range(2):
        assert asked(attribute, sop_class_uid, excluded) == iods._search(attribute, sop_class_uid, excluded)


def test_images_of_the_same_class_are_looked_up_once() -> None:
    image = Dataset()
    image.SOPClassUID = ENHANCED_CT
    iods._known.cache_clear()
    assert [_standard_utils.is_multiframe_image(image) for _ in range(3)] == [True] * 3
    assert iods._known.cache_info().misses == 1


def test_a_class_without_an_iod_is_told_each_time() -> None:
    for _ in range(2):
        with pytest.raises(KeyError, match="No IOD"):
            iods.is_attribute_in_iod("PixelData", "1.2.3")
