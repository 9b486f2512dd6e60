"""The frames of an enhanced CT, as if each were an image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import FileDataset

from service.assemble.choose import choose
from service.assemble.geometry import GeometryRules
from service.domain.study import Header, Selection
from service.errors import Reason, UnusableStudy
from service.prepare.frames import frame_datasets, frame_headers
from service.prepare.hounsfield import load_volume
from service.receive.header import read_file_header
from tests.builders import ct_series, enhanced_ct, write

RULES = GeometryRules(min_slices=5, max_slice_gap_mm=5.0)
PER_FRAME = ("PixelValueTransformationSequence", "PlaneOrientationSequence", "PixelMeasuresSequence")


def slices(**changes: object) -> list[FileDataset]:
    return ct_series(slices=12, size=32, spacing_mm=(4.0, 8.0, 8.0), **changes)


def on_disk(folder: Path, *images: FileDataset) -> tuple[list[Path], list[Header]]:
    paths = write(images, folder)
    return paths, [read_file_header(p) for p in paths]


def chosen(folder: Path, *images: FileDataset) -> tuple[Selection, list[Path]]:
    paths, headers = on_disk(folder, *images)
    by_uid = {h.sop_instance_uid: p for p, h in zip(paths, headers, strict=True)}
    selection = choose(headers, RULES, lambda a, b: True, lambda h: frame_headers(by_uid[h.sop_instance_uid], h))
    return selection, [by_uid[h.stored_uid] for h in selection.headers]


@pytest.mark.parametrize("per_frame", [(), PER_FRAME])
def test_an_enhanced_ct_is_the_same_volume_as_its_slices(per_frame: tuple[str, ...], tmp_path: Path) -> None:
    singles = slices()
    frames = [singles[k] for k in (3, 0, 7, 1, 2, 11, 4, 5, 6, 10, 8, 9)]
    one, one_paths = chosen(tmp_path / "one", enhanced_ct(frames, per_frame))
    many, many_paths = chosen(tmp_path / "many", *singles)
    assert one.geometry == many.geometry and one.geometry is not None
    assert [h.frame_number for h in one.headers] == [2, 4, 5, 1, 7, 8, 9, 3, 11, 12, 10, 6]
    assert len({h.sop_instance_uid for h in one.headers}) == 12 and len({h.stored_uid for h in one.headers}) == 1
    assert {h.convolution_kernel for h in one.headers} == {"STANDARD"}
    hu = load_volume(one_paths, one.headers, one.geometry).hu
    np.testing.assert_array_equal(hu, load_volume(many_paths, many.headers, one.geometry).hu)


def test_each_frame_has_its_own_rescale(tmp_path: Path) -> None:
    singles = slices()
    truth = load_volume(*reversed_args(chosen(tmp_path / "many", *singles))).hu
    stored = np.frombuffer(singles[3].PixelData, "<u2").astype(int)
    singles[3].RescaleSlope, singles[3].RescaleIntercept = 0.5, -1124
    singles[3].PixelData = ((stored - 1024 + 1124) * 2).astype("<u2").tobytes()
    made = enhanced_ct(singles, ["PixelValueTransformationSequence"])
    np.testing.assert_array_equal(load_volume(*reversed_args(chosen(tmp_path / "one", made))).hu, truth)


def reversed_args(found: tuple[Selection, list[Path]]) -> tuple[list[Path], tuple[Header, ...], object]:
    return found[1], found[0].headers, found[0].geometry


def test_a_scout_among_the_frames_is_left_out(tmp_path: Path) -> None:
    made = enhanced_ct(slices())
    kind = type(made.PerFrameFunctionalGroupsSequence[0])()
    kind.FrameType = ["ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"]
    made.PerFrameFunctionalGroupsSequence[11].CTImageFrameTypeSequence = [kind]
    selection, _ = chosen(tmp_path, made)
    assert len(selection.headers) == 11 and "1 localizer" in " ".join(selection.limitations)


def test_a_frame_becomes_a_data_set_with_the_elements_of_its_groups(tmp_path: Path) -> None:
    singles = slices()
    [path], [header] = on_disk(tmp_path, enhanced_ct(singles, PER_FRAME))
    frames = frame_headers(path, header)
    made, other = frame_datasets(path, [frames[5], frames[6]])
    assert other.ImagePositionPatient == singles[6].ImagePositionPatient != made.ImagePositionPatient
    assert other.SOPInstanceUID == frames[6].sop_instance_uid
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope", "RescaleIntercept",
                    "PatientName", "StudyInstanceUID", "FrameOfReferenceUID", "Rows"):
        assert made[keyword] == singles[5][keyword], keyword
    assert made.SOPInstanceUID == frames[5].sop_instance_uid
    assert "NumberOfFrames" not in made and "PerFrameFunctionalGroupsSequence" not in made


@pytest.mark.parametrize(("spoil", "reason"), [
    (lambda d: d.PerFrameFunctionalGroupsSequence.pop(), Reason.INVALID_GEOMETRY),
    (lambda d: delattr(d, "PerFrameFunctionalGroupsSequence"), Reason.INVALID_GEOMETRY),
    (lambda d: setattr(d, "NumberOfFrames", 100_000), Reason.INVALID_GEOMETRY),
    (lambda d: delattr(d.PerFrameFunctionalGroupsSequence[4], "PlanePositionSequence"), Reason.INVALID_GEOMETRY),
    (lambda d: delattr(d.SharedFunctionalGroupsSequence[0], "PixelMeasuresSequence"), Reason.INVALID_GEOMETRY),
    (lambda d: delattr(d.SharedFunctionalGroupsSequence[0], "PixelValueTransformationSequence"), Reason.INVALID_RESCALE),
])
def test_functional_groups_that_do_not_tell_a_volume_are_refused(spoil, reason, tmp_path: Path) -> None:
    made = enhanced_ct(slices())
    spoil(made)
    with pytest.raises(UnusableStudy) as caught:
        chosen(tmp_path, made)
    assert caught.value.reason is reason


def test_multi_frame_images_of_other_classes_are_refused(tmp_path: Path) -> None:
    made = enhanced_ct(slices())
    _, [header] = on_disk(tmp_path, made)
    with pytest.raises(UnusableStudy) as caught:
        choose([replace(header, sop_class_uid="1.2.840.10008.5.1.4.1.1.2")], RULES, lambda a, b: True)
    assert caught.value.reason is Reason.MULTIFRAME
