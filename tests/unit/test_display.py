"""Radiographs as a viewer would show them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileDataset

from service.errors import Reason, UnusableStudy
from service.prepare.display import to_grey
from tests.builders import radiograph, ribs, write

RAMP = np.linspace(0, 1, 64)[None, :] * np.ones((64, 1))


def ramp(**changes: Any) -> FileDataset:
    """Return 64 x 64 pixels that run from 0 to 4095 along each row."""
    return radiograph(image=RAMP, **changes)


def stored(ds: FileDataset) -> np.ndarray:
    return np.frombuffer(ds.PixelData, "<u2").reshape(ds.Rows, ds.Columns).astype(np.float64)


def grey(ds: FileDataset) -> np.ndarray:
    return to_grey(ds)[0].grey


def test_window_is_applied_and_dense_is_bright(tmp_path: Any) -> None:
    ds = radiograph(image=ribs(64))
    path, = write([ds], tmp_path)
    image, limitations = to_grey(path)
    assert image.sop_instance_uid == ds.SOPInstanceUID and image.grey.dtype == np.float32
    assert image.grey == pytest.approx(ribs(64), abs=0.002)
    assert limitations == ()


def test_linear_window_is_that_of_the_standard() -> None:
    ds = ramp(WindowCenter=1000, WindowWidth=500)
    expected = np.clip((stored(ds) - 999.5) / 499 + 0.5, 0, 1)
    assert grey(ds) == pytest.approx(expected, abs=1e-5)


def test_first_of_several_windows_counts() -> None:
    assert np.array_equal(grey(ramp(WindowCenter=[1000, 2000], WindowWidth=[500, 4000])),
                          grey(ramp(WindowCenter=1000, WindowWidth=500)))


def test_exact_and_sigmoid_windows_are_those_of_the_standard() -> None:
    exact = ramp(WindowCenter=1000, WindowWidth=500, VOILUTFunction="LINEAR_EXACT")
    assert grey(exact) == pytest.approx(np.clip((stored(exact) - 1000) / 500 + 0.5, 0, 1), abs=1e-5)
    sigmoid = ramp(WindowCenter=1000, WindowWidth=500, VOILUTFunction="SIGMOID")
    assert grey(sigmoid) == pytest.approx(1 / (1 + np.exp(-4 * (stored(sigmoid) - 1000) / 500)), abs=1e-5)


def test_rescale_comes_before_the_window() -> None:
    ds = ramp(RescaleSlope=2, RescaleIntercept=-100, WindowCenter=1900, WindowWidth=1000)
    assert grey(ds) == pytest.approx(np.clip((2 * stored(ds) - 100 - 1899.5) / 999 + 0.5, 0, 1), abs=1e-5)


def test_monochrome1_is_inverted_after_the_window() -> None:
    window = {"WindowCenter": 1000, "WindowWidth": 500}
    assert grey(ramp(PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE", **window)) == pytest.approx(
        1 - grey(ramp(**window)))


@pytest.mark.parametrize("photometric, shape, told", [
    ("MONOCHROME1", "IDENTITY", True), ("MONOCHROME2", "INVERSE", True), ("MONOCHROME2", "IDENTITY", False),
    ("MONOCHROME1", "INVERSE", False),
])
def test_contradicting_presentation_shape_is_told_and_not_followed(photometric: str, shape: str, told: bool) -> None:
    image, limitations = to_grey(ramp(PhotometricInterpretation=photometric, PresentationLUTShape=shape))
    assert bool(image.grey[0, 0] > 0.9) is (photometric == "MONOCHROME1")
    assert any("contradicts" in text for text in limitations) is told


@pytest.mark.parametrize("changes, words", [
    ({"WindowCenter": None, "WindowWidth": None}, "window absent: percentiles used"),
    ({"WindowWidth": None}, "window absent: percentiles used"),
    ({"WindowWidth": 0}, "window absent: percentiles used"),
    ({"WindowCenter": 90000, "WindowWidth": 100}, "window unusable: percentiles used"),
    ({"WindowCenter": 2048, "WindowWidth": 1_000_000}, "window unusable: percentiles used"),
    ({"WindowCenter": 2048, "WindowWidth": 1}, "window unusable: percentiles used"),
])
def test_unusable_window_gives_way_to_percentiles(changes: dict[str, Any], words: str) -> None:
    image, limitations = to_grey(ramp(**changes))
    assert words in limitations
    assert image.grey[0] == pytest.approx(np.linspace(0, 1, 64), abs=0.02)


def test_voi_lut_wins_over_the_window() -> None:
    ds = ramp(WindowCenter=1000, WindowWidth=500)
    ds.VOILUTSequence = [lut(4096, 0, 12, (np.arange(4096) // 2).astype(np.uint16))]
    assert grey(ds) == pytest.approx(stored(ds) // 2 / 4095, abs=1e-5)


def test_damaged_voi_lut_gives_way_to_the_window() -> None:
    ds = ramp(WindowCenter=1000, WindowWidth=500)
    ds.VOILUTSequence = [lut(4096, 0, 12, np.arange(100, dtype=np.uint16))]
    assert np.array_equal(grey(ds), grey(ramp(WindowCenter=1000, WindowWidth=500)))


@pytest.mark.parametrize("as_bytes", [False, True])
def test_modality_lut_comes_first(as_bytes: bool) -> None:
    ds = ramp(WindowCenter=2048, WindowWidth=4096, RescaleSlope=None, RescaleIntercept=None)
    ds.ModalityLUTSequence = [lut(2000, 1000, 12, np.linspace(0, 4000, 2000).astype(np.uint16), as_bytes)]
    table = np.linspace(0, 4000, 2000).astype(np.uint16)
    mapped = table[np.clip(stored(ds).astype(int) - 1000, 0, 1999)]
    assert grey(ds) == pytest.approx(np.clip((mapped - 2047.5) / 4095 + 0.5, 0, 1), abs=1e-5)


def test_lut_of_65536_entries_is_written_as_zero_and_may_have_8_bits() -> None:
    ds = ramp()
    entries = (np.arange(65536) >> 4).clip(0, 255).astype(np.uint8)
    ds.VOILUTSequence = [lut(0, 0, 8, entries, as_bytes=True)]
    assert grey(ds) == pytest.approx((stored(ds).astype(int) >> 4).clip(0, 255) / 255, abs=1e-5)


def test_damaged_modality_lut_is_refused() -> None:
    ds = ramp()
    ds.ModalityLUTSequence = [lut(4096, 0, 12, np.arange(100, dtype=np.uint16))]
    assert refusal(ds) is Reason.INVALID_PIXEL_DESCRIPTION


def test_padding_is_black_and_does_not_shift_the_percentiles() -> None:
    padded_ramp = RAMP.copy()
    padded_ramp[:30] = 1.0
    ds = radiograph(image=padded_ramp * 0.5 + 0.5 * (padded_ramp == 1.0), WindowCenter=None, WindowWidth=None,
                    PhotometricInterpretation="MONOCHROME1", PixelPaddingValue=4095)
    shown = grey(ds)
    assert (shown[:30] == 0).all()
    assert shown[40, 0] == pytest.approx(1, abs=0.02) and shown[40, 62] == pytest.approx(0, abs=0.02)


def test_bright_padding_is_black_too() -> None:
    shown = grey(ramp(PixelPaddingValue=4095))
    assert (shown[:, -1] == 0).all() and (shown[:, -2] > 0.9).all()


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
def test_colour_that_is_grey_is_accepted_and_real_colour_refused(photometric: str) -> None:
    ds = coloured(photometric, tint=0)
    assert grey(ds)[0] == pytest.approx(np.linspace(0, 1, 64), abs=0.01)
    assert refusal(coloured(photometric, tint=40)) is Reason.INVALID_PIXEL_DESCRIPTION


@pytest.mark.parametrize("changes", [
    {"PhotometricInterpretation": "PALETTE COLOR"}, {"NumberOfFrames": 2}, {"BitsStored": 20},
])
def test_other_kinds_of_image_are_refused(changes: dict[str, Any]) -> None:
    ds = ramp()
    if "NumberOfFrames" in changes:
        ds.PixelData = ds.PixelData * 2
    for keyword, value in changes.items():
        setattr(ds, keyword, value)
    assert refusal(ds) is Reason.INVALID_PIXEL_DESCRIPTION


def test_rescale_of_zero_is_refused() -> None:
    assert refusal(ramp(RescaleSlope=0)) is Reason.INVALID_RESCALE


def test_unknown_spacing_and_lossy_compression_are_told() -> None:
    _, limitations = to_grey(ramp(ImagerPixelSpacing=None, LossyImageCompression="01"))
    assert limitations == ("spacing unknown", "lossy compressed")


def test_image_of_one_value_is_refused() -> None:
    with pytest.raises(UnusableStudy) as caught:
        to_grey(radiograph(image=np.full((32, 32), 0.5)))
    assert caught.value.reason is Reason.BLANK_IMAGE


def lut(count: int, first: int, bits: int, entries: np.ndarray, as_bytes: bool = False) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [count, first, bits])
    if as_bytes:
        item.add_new("LUTData", "OW", entries.tobytes())
    else:
        item.add_new("LUTData", "US", entries.tolist())
    return item


def coloured(photometric: str, tint: int) -> FileDataset:
    ds = ramp(WindowCenter=128, WindowWidth=256)
    values = np.round(RAMP * 255).astype(int)
    rest = np.full_like(values, 128 + tint)
    planes = [values, rest, rest] if photometric == "YBR_FULL" else [np.clip(values + tint, 0, 255), values, values]
    ds.SamplesPerPixel, ds.PlanarConfiguration, ds.PhotometricInterpretation = 3, 0, photometric
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
    ds.PixelData = np.stack(planes, axis=-1).astype(np.uint8).tobytes()
    return ds


def refusal(ds: FileDataset) -> Reason:
    with pytest.raises(UnusableStudy) as caught:
        to_grey(ds)
    return caught.value.reason
