"""A Segmentation whose frames are encoded at once is, byte for byte, what highdicom makes of all slices."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from service.errors import Defect
from service.report import build as building
from service.report import segmentation as segmenting
from service.report.build import build
from tests import builders
from tests.contracts.assessed import NOW, STYLE, ct, masks


def encoded(made: Dataset) -> bytes:
    buffer = BytesIO()
    made.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def changed(made: Dataset, **values: Any) -> Dataset:
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def both(monkeypatch: pytest.MonkeyPatch, sources: list[Dataset], drawing: NDArray[np.uint8]) -> tuple[bytes, bytes]:
    """Return the file of our SEG, and that of the one that highdicom makes of all slices."""
    asked: list[Any] = []

    def noted(*arguments: Any) -> Any:
        asked.append(arguments)
        return segmenting.segmentation(*arguments)

    monkeypatch.setattr(building, "segmentation", noted)
    selection, said = ct(sources, masks=drawing)
    ours = next(m for m in build(selection, sources, said, STYLE, "d", 1, [], NOW) if m.kind == "seg")
    context, given, geometry, found = asked[0]
    theirs = segmenting._made(context, segmenting.grid(given, geometry), found, found.masks)
    segmenting._finish(theirs, context, found)
    return encoded(ours.dataset), encoded(theirs)


def random_masks(slices: int, size: int) -> NDArray[np.uint8]:
    drawing = np.random.default_rng(slices * size).integers(0, 8, (slices, size, size)).astype(np.uint8)
    drawing[0] = drawing[slices // 2] = 0
    return drawing


def one_segment(slices: int, size: int) -> NDArray[np.uint8]:
    return random_masks(slices, size) & np.uint8(2)


def one_voxel(slices: int, size: int) -> NDArray[np.uint8]:
    drawing = np.zeros((slices, size, size), np.uint8)
    drawing[slices - 2, 3, 3] = 1
    return drawing


SERIES: dict[str, Callable[[], list[Dataset]]] = {
    "as it comes": lambda: builders.ct_series(slices=9, size=32),
    "from the feet on": lambda: builders.ct_series(slices=9, size=32)[::-1],
    "no whole number of bytes": lambda: builders.ct_series(slices=9, size=17),
    "slices of two thicknesses": lambda: [
        changed(s, SliceThickness=str(1 + k % 2)) for k, s in enumerate(builders.ct_series(slices=9, size=32))],
    "a slice is missing": lambda: [s for k, s in enumerate(builders.ct_series(slices=10, size=32)) if k != 4],
    "lossy": lambda: builders.ct_series(slices=9, size=32, LossyImageCompression="01", LossyImageCompressionRatio="12.5",
                                        LossyImageCompressionMethod="ISO_15444_1"),
    "a name in Greek": lambda: builders.ct_series(slices=9, size=32, SpecificCharacterSet="ISO_IR 126",
                                                  PatientName="Διονυσιος"),
    "UIDs of odd length": lambda: [
        changed(s, SOPInstanceUID=f"1.2.3.{10 ** (k % 4)}.{k}")
        for k, s in enumerate(builders.ct_series(slices=9, size=32))],
}


@pytest.mark.parametrize("drawn", [masks, random_masks, one_segment, one_voxel])
@pytest.mark.parametrize("series", SERIES)
def test_the_file_is_the_one_that_highdicom_makes(
    monkeypatch: pytest.MonkeyPatch, series: str, drawn: Callable[[int, int], NDArray[np.uint8]],
) -> None:
    sources = SERIES[series]()
    ours, theirs = both(monkeypatch, sources, drawn(len(sources), int(sources[0].Rows)))
    padding = int(drawn in (random_masks, masks) and "bytes" in series)  # highdicom fills up to an even length with "0"
    assert ours[:len(ours) - padding] == theirs[:len(theirs) - padding]


def test_sources_of_two_sizes_or_series_are_our_defect() -> None:
    selection, said = ct(builders.ct_series(slices=6, size=32))
    for change in ({"Columns": 16}, {"SeriesInstanceUID": "1.2.9"}, {"FrameOfReferenceUID": "1.2.9"}):
        sources = builders.ct_series(slices=6, size=32)
        changed(sources[3], **change)
        with pytest.raises(Defect, match="one series, size"):
            build(selection, sources, said, STYLE, "d", 1, [], NOW)
