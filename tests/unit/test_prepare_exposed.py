"""What of a radiograph is picture: shutter, collimator, white borders; and the way back to the source grid."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydicom.dataset import FileDataset

from service.domain.study import RadiographImage
from service.prepare.display import to_grey
from service.prepare.exposed import box_of
from tests.builders import radiograph, ribs

RECTANGLE = {"LeftVerticalEdge": 11, "RightVerticalEdge": 90, "UpperHorizontalEdge": 21, "LowerHorizontalEdge": 80}


def shown(size: int = 100, **changes: Any) -> tuple[RadiographImage, tuple[str, ...]]:
    return to_grey(radiograph(size=size, **changes))


def rectangular(kind: str, **changes: Any) -> dict[str, Any]:
    return {f"{kind}Shape": "RECTANGULAR"} | {f"{kind}{edge}": at for edge, at in (RECTANGLE | changes).items()}


@pytest.mark.parametrize("kind", ["Shutter", "Collimator"])
def test_what_a_rectangle_shuts_off_is_black_and_not_looked_at(kind: str) -> None:
    whole, _ = shown()
    image, told = shown(**rectangular(kind))
    assert image.inner == (20, 80, 10, 90) and told == ()
    np.testing.assert_array_equal(image.exposed, whole.grey[20:80, 10:90])
    outside = np.ones((100, 100), bool)
    outside[20:80, 10:90] = False
    assert not image.grey[outside].any() and whole.inner is None


def test_a_circle_and_a_polygon_shut_off_what_lies_outside() -> None:
    image, _ = shown(ShutterShape="CIRCULAR", CenterOfCircularShutter=[51, 46], RadiusOfCircularShutter=40)
    y, x = np.mgrid[0:100, 0:100]
    np.testing.assert_array_equal(image.grey == 0, (y - 50) ** 2 + (x - 45) ** 2 > 1600)
    assert image.inner == (10, 91, 5, 86)
    image, _ = shown(CollimatorShape="POLYGONAL", VerticesOfThePolygonalCollimator=[1, 1, 1, 100, 100, 50])
    assert image.grey[10, 50] > 0 and image.grey[80, 5] == 0 and image.grey[80, 95] == 0


def test_shutter_and_collimator_both_count_and_several_shapes_too() -> None:
    image, _ = shown(**rectangular("Shutter"), **rectangular("Collimator", LeftVerticalEdge=31))
    assert image.inner == (20, 80, 30, 90)
    both = rectangular("Shutter") | {
        "ShutterShape": ["RECTANGULAR", "CIRCULAR"], "CenterOfCircularShutter": [50, 50], "RadiusOfCircularShutter": 35}
    assert shown(**both)[0].inner == (20, 80, 14, 85)


def test_inversion_and_percentiles_do_not_see_what_is_shut_off() -> None:
    image = ribs(100) * 0.5
    image[:20] = 1.0
    plain, _ = to_grey(radiograph(image=image[20:], WindowCenter=None, WindowWidth=None))
    shut = rectangular("Shutter", LeftVerticalEdge=1, RightVerticalEdge=100, LowerHorizontalEdge=100)
    masked, _ = to_grey(radiograph(image=image, WindowCenter=None, WindowWidth=None, **shut))
    np.testing.assert_allclose(masked.exposed, plain.grey, atol=0.02)
    inverted, _ = to_grey(radiograph(image=image, PhotometricInterpretation="MONOCHROME1", **shut))
    assert not inverted.grey[:20].any()


@pytest.mark.parametrize("changes", [
    rectangular("Shutter", RightVerticalEdge=12), {"ShutterShape": "RECTANGULAR"}, {"ShutterShape": "CIRCULAR"},
    {"ShutterShape": "POLYGONAL", "VerticesOfThePolygonalShutter": [1, 1, 5]},
    rectangular("Shutter", LeftVerticalEdge=500, RightVerticalEdge=600),
])
def test_a_shutter_that_cannot_be_or_leaves_nothing_is_not_followed(changes: dict[str, Any]) -> None:
    image, told = shown(**changes)
    assert image.inner is None and "shutter" in told[0]
    np.testing.assert_array_equal(image.grey, shown()[0].grey)


def test_a_shape_that_nobody_knows_and_edges_beyond_the_image_do_no_harm() -> None:
    assert shown(ShutterShape="STAR")[0].inner is None
    wide = rectangular("Collimator", LeftVerticalEdge=-50, RightVerticalEdge=900, UpperHorizontalEdge=-3,
                       LowerHorizontalEdge=400)
    assert shown(**wide)[0].inner is None


def test_a_white_border_is_left_out_and_a_bright_picture_is_not_taken_for_one() -> None:
    framed = ribs(100)
    framed[:7], framed[:, 95:] = 1.0, 1.0
    assert to_grey(radiograph(image=framed))[0].inner == (7, 100, 0, 95)
    bright = np.ones((100, 100), np.float32)
    assert box_of(None, bright) is None
    half = np.ones((100, 100), np.float32)
    half[50:] = 0.5
    assert box_of(None, half) is None


def test_a_map_of_the_inner_part_comes_back_to_its_place() -> None:
    image = RadiographImage("1.2", np.zeros((10, 12), np.float32), (2, 7, 3, 9))
    part = np.arange(30, dtype=np.float32).reshape(5, 6)
    back = image.whole(np.stack([part, part]))
    assert back.shape == (2, 10, 12) and back.sum() == 2 * part.sum()
    np.testing.assert_array_equal(back[1, 2:7, 3:9], part)


def test_a_file_gives_its_shutter_too(tmp_path: Any) -> None:
    ds: FileDataset = radiograph(size=100, **rectangular("Shutter"))
    ds.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    assert to_grey(tmp_path / "a.dcm")[0].inner == (20, 80, 10, 90)
