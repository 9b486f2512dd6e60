"""Volumes in HU from files, and the series whose values cannot be HU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import FileDataset

from service.domain.study import CtVolume, Header, VolumeGeometry
from service.errors import Defect, Reason, UnusableStudy
from service.prepare.hounsfield import load_volume, to_hu
from tests.builders import chest, ct_series, phantom_hu, write

SLICES, SIZE, SPACING = 12, 64, (5.0, 4.0, 4.0)


def series(**changes: object) -> list[FileDataset]:
    return ct_series(slices=SLICES, size=SIZE, spacing_mm=SPACING, **changes)


def truth() -> np.ndarray:
    return phantom_hu(SLICES, SPACING, SIZE, chest(SLICES, SPACING, SIZE)).astype(np.float32)


def header(ds: FileDataset) -> Header:
    return Header(
        sop_instance_uid=str(ds.SOPInstanceUID), sop_class_uid=str(ds.SOPClassUID), study_instance_uid="1.2",
        series_instance_uid="1.2.3", rescale_type=str(ds.get("RescaleType", "")),
        rescale_slope=None if "RescaleSlope" not in ds else float(ds.RescaleSlope),
        rescale_intercept=None if "RescaleIntercept" not in ds else float(ds.RescaleIntercept))


def load(made: list[FileDataset], folder: Path, size: int = SIZE) -> CtVolume:
    geometry = VolumeGeometry(tuple(5.0 * k for k in range(len(made))), SPACING, (1, 0, 0, 0, 1, 0), (0, 0, 1), size, size,
                              "1.2.4")
    return load_volume(write(made, folder), [header(ds) for ds in made], geometry)


def refusal(made: list[FileDataset], folder: Path, size: int = SIZE) -> UnusableStudy:
    with pytest.raises(UnusableStudy) as caught:
        load(made, folder, size)
    return caught.value


def test_volume_holds_the_values_of_the_scanned_object(tmp_path: Path) -> None:
    volume = load(series(), tmp_path)
    assert volume.hu.dtype == np.float32 and np.array_equal(volume.hu, truth())


def test_each_slice_has_its_own_slope_and_intercept(tmp_path: Path) -> None:
    made = series()
    stored = np.frombuffer(made[3].PixelData, "<u2")
    made[3].RescaleSlope, made[3].RescaleIntercept = 0.5, -1124
    made[3].PixelData = ((stored.astype(int) - 1024 + 1124) * 2).astype("<u2").tobytes()
    assert np.array_equal(load(made, tmp_path).hu, truth())


def test_slices_stay_in_the_order_that_was_given(tmp_path: Path) -> None:
    assert np.array_equal(load(series()[::-1], tmp_path).hu, truth()[::-1])


@pytest.mark.parametrize("representation, padding", [(1, -2000), (1, 63536), (0, 63536), (0, 4095)])
def test_padding_is_air_whether_declared_signed_or_unsigned(representation: int, padding: int, tmp_path: Path) -> None:
    made = series(PixelRepresentation=representation)
    for ds in made:
        kind = "<i2" if representation else "<u2"
        stored = np.frombuffer(ds.PixelData, kind).copy()
        stored[:40] = np.array([padding], np.int64).astype(kind)[0]
        ds.PixelData = stored.tobytes()
        ds.add_new("PixelPaddingValue", "SS" if padding < 0 else "US", padding)
    hu = load(made, tmp_path).hu
    assert (hu[:, 0, :40] == -1024).all() and np.array_equal(hu[:, 1:], truth()[:, 1:])


def test_padding_declared_unsigned_is_found_among_signed_values(tmp_path: Path) -> None:
    made = series(PixelRepresentation=1, RescaleIntercept=0)
    for ds in made:
        hu = np.frombuffer(ds.PixelData, "<i2") - 1024
        hu[:40] = -500
        ds.PixelData = hu.astype("<i2").tobytes()
        ds.add_new("PixelPaddingValue", "US", 65536 - 500)
    assert (load(made, tmp_path).hu[:, 0, :40] == -1024).all()


def test_padding_may_be_a_range(tmp_path: Path) -> None:
    made = series()
    for ds in made:
        stored = np.frombuffer(ds.PixelData, "<u2").copy()
        stored[:10], stored[10:20], stored[20:30] = 5000, 5500, 6001
        ds.PixelData, ds.PixelPaddingValue, ds.PixelPaddingRangeLimit = stored.tobytes(), 6000, 5000
    row = load(made, tmp_path).hu[0, 0]
    assert (row[:20] == -1024).all() and (row[20:30] == 6001 - 1024).all()


def test_undeclared_values_below_air_become_air() -> None:
    assert to_hu(np.array([-2000, -1024, 0, 60], np.int16), 1.0, 0.0).tolist() == [-1024, -1024, 0, 60]


@pytest.mark.parametrize("slope, intercept", [
    (None, 0.0), (0.0, 0.0), (float("nan"), 0.0), (float("inf"), 0.0), (1.0, None), (1.0, float("nan")),
])
def test_rescale_that_is_absent_or_impossible_is_refused(slope: float | None, intercept: float | None) -> None:
    with pytest.raises(UnusableStudy) as caught:
        to_hu(np.zeros((2, 2), np.int16), slope, intercept)
    assert caught.value.reason is Reason.INVALID_RESCALE


def test_one_slice_without_intercept_refuses_the_volume(tmp_path: Path) -> None:
    made = series()
    del made[7].RescaleIntercept
    assert refusal(made, tmp_path).reason is Reason.INVALID_RESCALE


@pytest.mark.parametrize("rescale_type, accepted", [("HU", True), ("US", True), (None, True), ("OD", False)])
def test_rescale_type_other_than_hu_is_refused(rescale_type: str | None, accepted: bool, tmp_path: Path) -> None:
    made = series(RescaleType=rescale_type)
    if accepted:
        assert len(load(made, tmp_path).hu) == SLICES
    else:
        assert refusal(made, tmp_path).detail == "RescaleType is OD; accepted: HU"


def test_values_that_are_not_hu_are_refused(tmp_path: Path) -> None:
    assert "lowest value" in refusal(series(RescaleIntercept=0), tmp_path / "a").detail
    assert "exceed" in refusal(series(RescaleSlope=20), tmp_path / "b").detail


def test_slice_of_another_size_is_refused(tmp_path: Path) -> None:
    assert refusal(series(), tmp_path, size=SIZE + 1).reason is Reason.VARIABLE_GEOMETRY


def test_undecodable_slice_refuses_the_volume(tmp_path: Path) -> None:
    made = series()
    made[5].PixelData = made[5].PixelData[:-100]
    assert refusal(made, tmp_path).reason is Reason.UNREADABLE_PIXELS


def test_file_with_another_instance_is_our_defect(tmp_path: Path) -> None:
    made = series()
    paths = write(made, tmp_path)
    geometry = VolumeGeometry(tuple(5.0 * k for k in range(SLICES)), SPACING, (1, 0, 0, 0, 1, 0), (0, 0, 1), SIZE, SIZE, "")
    with pytest.raises(Defect):
        load_volume(paths[::-1], [header(ds) for ds in made], geometry)
