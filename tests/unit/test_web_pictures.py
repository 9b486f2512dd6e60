"""Pictures of result objects: the PNG shows what the object holds."""

from __future__ import annotations

from pathlib import Path

import cv2
import highdicom as hd
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import FileDataset
from pydicom.sr.codedict import codes

from service.prepare.codestream import decode_frame
from service.web.pictures import NoPicture, capture_png, montage
from tests import builders
from tests.browser.seed import secondary_capture

SLICES = 24


def _decoded(png: bytes) -> NDArray[np.uint8]:
    """Return (y, x, 3) blue, green, red."""
    return np.asarray(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR), np.uint8)


def _segmentation(series: list[FileDataset], masks: NDArray[np.uint8]) -> FileDataset:
    """Return a SEG of two segments: (z, y, x, segment)."""
    algorithm = hd.AlgorithmIdentificationSequence("test", codes.DCM.ArtificialIntelligence, "1")
    described = [
        hd.seg.SegmentDescription(
            number, label, codes.SCT.AnatomicalStructure, codes.SCT.Lung,
            hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC, algorithm, display_color=hd.color.CIELabColor.from_rgb(*rgb))
        for number, label, rgb in ((1, "lung", (0, 0, 255)), (2, "infection", (255, 0, 0)))
    ]
    return hd.seg.Segmentation(
        series, masks, hd.seg.SegmentationTypeValues.BINARY, described, "1.2.3", 1, "1.2.4", 1, "Maker", "Model", "1",
        "1", omit_empty_frames=True)


@pytest.fixture
def series(tmp_path: Path) -> list[FileDataset]:
    made = builders.ct_series(slices=SLICES, size=64, spacing_mm=(5.0, 5.0, 5.0))
    builders.write(made, tmp_path / "spool")
    return made


def _sources(series: list[FileDataset]) -> dict[str, str]:
    return {str(ds.SOPInstanceUID): f"{n:04d}.dcm" for n, ds in enumerate(series)}


def test_a_capture_keeps_its_colours(tmp_path: Path) -> None:
    secondary_capture().save_as(tmp_path / "sc.dcm", enforce_file_format=True)
    picture = _decoded(capture_png(tmp_path / "sc.dcm"))
    assert picture.shape == (512, 512, 3)
    assert picture[300, 150].tolist() == [40, 60, 220]


def test_a_large_capture_is_made_smaller(tmp_path: Path) -> None:
    builders.radiograph(size=64).save_as(tmp_path / "small.dcm")
    ds = secondary_capture(2000)
    ds.save_as(tmp_path / "sc.dcm", enforce_file_format=True)
    assert _decoded(capture_png(tmp_path / "sc.dcm")).shape == (1600, 1600, 3)


@pytest.mark.parametrize("content", [None, b"", b"not DICOM" * 40])
def test_an_object_that_is_gone_or_unreadable_has_no_picture(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "object.dcm"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(NoPicture):
        capture_png(path)
    with pytest.raises(NoPicture):
        montage(tmp_path, decode_frame, path, {})


def test_a_montage_shows_slices_of_the_last_segment_with_contours(
    tmp_path: Path, series: list[FileDataset],
) -> None:
    masks = np.zeros((SLICES, 64, 64, 2), np.uint8)
    masks[2:22, 10:50, 10:50, 0] = 1
    masks[8:20, 20:30, 20:30, 1] = 1
    _segmentation(series, masks).save_as(tmp_path / "seg.dcm")
    picture = _decoded(montage(tmp_path / "spool", decode_frame, tmp_path / "seg.dcm", _sources(series))).astype(int)
    assert picture.shape == (2 * 448 + 32, 3 * 448, 3), "six slices in two lines, and the legend"
    assert (picture[-32:, :60, 0] - picture[-32:, :60, 1]).max() > 150, "the legend names the lung in its blue"
    blue, green, red = picture[..., 0], picture[..., 1], picture[..., 2]
    for line in range(2):
        for column in range(3):
            tile = np.s_[line * 448:(line + 1) * 448, column * 448:(column + 1) * 448]
            assert ((red - green)[tile] > 150).sum() > 200, "the infection is outlined in red"
            assert ((blue - green)[tile] > 150).sum() > 800, "the lung is outlined in blue"
    edges = np.nonzero((red - green)[:448, :448] > 150)
    assert [(round(e.min() / 7), round(e.max() / 7)) for e in edges] == [(20, 30), (20, 30)], "where the mask is"


def test_a_montage_needs_its_images(tmp_path: Path, series: list[FileDataset]) -> None:
    masks = np.zeros((SLICES, 64, 64, 2), np.uint8)
    masks[5:9, 20:30, 20:30, :] = 1
    _segmentation(series, masks).save_as(tmp_path / "seg.dcm")
    made = montage(tmp_path / "spool", decode_frame, tmp_path / "seg.dcm", _sources(series))
    assert _decoded(made).shape == (928, 1344, 3)
    with pytest.raises(NoPicture):
        montage(tmp_path / "spool", decode_frame, tmp_path / "seg.dcm", {})
    with pytest.raises(NoPicture):
        montage(tmp_path / "gone", decode_frame, tmp_path / "seg.dcm", _sources(series))
