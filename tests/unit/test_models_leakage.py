"""A split that shares a patient, a group, a case, a paper or a picture is refused."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from models.evaluation.leakage import Leakage, check_split, find_leaks, members_of, near_duplicates
from tests.tiny_data import lesion, lung, radiographs, well


def textured(seed: int, side: int = 64) -> np.ndarray:
    """A picture like no other: smooth noise, 8 bits."""
    noise = np.random.default_rng(seed).random((8, 8)).astype(np.float32)
    return (cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC).clip(0, 1) * 255).astype(np.uint8)


def four(folder: Path, **of_last: str) -> tuple[Path, list[str]]:
    """Four radiographs of four patients; the last with other columns."""
    data = radiographs(folder / "data", [well(), well(), well(), well(**of_last)])
    names = [f"images/{n:03}.png" for n in range(4)]
    for number, name in enumerate(names):
        cv2.imwrite(str(data / "cxr" / name), textured(number))
    return data, names


def test_a_clean_split_passes(tmp_path: Path) -> None:
    data, names = four(tmp_path)
    check_split(data, {"training": names[:2], "validation": names[2:3], "test": names[3:]})


@pytest.mark.parametrize("column", ["patient", "group"])
def test_a_patient_or_a_group_on_both_sides_is_named(column: str, tmp_path: Path) -> None:
    value = "p0" if column == "patient" else "g0"
    data, names = four(tmp_path, **{column: value})
    with pytest.raises(Leakage, match=rf"in 1 place: images/000.png and images/003.png \(both {column} {value}\)"):
        check_split(data, {"training": names[:3], "test": names[3:]})
    check_split(data, {"training": [names[0], names[3]], "test": names[1:3]})


def test_the_same_name_on_both_sides_is_a_leak_although_no_patient_is_known(tmp_path: Path) -> None:
    data, names = four(tmp_path, patient="", group="")
    with pytest.raises(Leakage, match=r"both picture images/003.png"):
        check_split(data, {"training": names, "test": names[3:]})


@pytest.mark.parametrize("changed", ["size", "brighter", "compressed"])
def test_a_nearly_equal_picture_of_another_patient_is_found(changed: str, tmp_path: Path) -> None:
    data, names = four(tmp_path)
    grey = textured(0)
    if changed == "size":
        grey = cv2.resize(grey, (150, 90), interpolation=cv2.INTER_CUBIC)
    elif changed == "brighter":
        grey = (grey.astype(float) * 0.6 + 60).astype(np.uint8)
    else:
        grey = cv2.imdecode(cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, 20])[1], cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(data / "cxr" / names[3]), grey)
    (leak,) = find_leaks(data, {"training": names[:3], "test": names[3:]})
    assert (leak.one, leak.other) == ("training images/000.png", "test images/003.png") and "near-duplicate" in leak.why
    assert [pair[:2] for pair in near_duplicates(data, names)] == [("images/000.png", "images/003.png")]
    assert find_leaks(data, {"training": names[:3], "test": names[3:]}, least_correlation=1.01) == []


def test_every_pair_of_folds_is_compared(tmp_path: Path) -> None:
    data, names = four(tmp_path, patient="p2")
    with pytest.raises(Leakage, match="both patient p2"):
        check_split(data, {"fold 0": names[:1], "fold 1": names[1:2], "fold 2": names[2:3], "fold 3": names[3:]})


def test_slices_of_one_case_or_paper_may_not_be_torn_apart(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for case in ("one", "two"):
        for number in range(2):
            lesion(data, case, number, np.where(textured(number + 2 * (case == "two"), 32) > 127, 2, 1))
    lung(data, "ID_1_Z_1", textured(7).astype(int), textured(7) > 99)
    for name in ("paper-p1-1.png", "paper-p9-2.png"):
        (data / "ct_slices" / "covid").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(data / "ct_slices" / "covid" / name), textured(len(name) * 7 + name.count("9")))
    check_split(data, {"training": ["one", "ct_lungs/ID_1_Z_1-hu.png"], "test": ["two"]})
    with pytest.raises(Leakage, match="both ct_lesions one"):
        check_split(data, {"training": ["ct_lesions/one/000-ct.png"], "test": ["ct_lesions/one/001-ct.png"]})
    with pytest.raises(Leakage, match="both ct_slices covid paper"):
        check_split(data, {"training": ["ct_slices/covid/paper-p1-1.png"], "test": ["ct_slices/covid/paper-p9-2.png"]})


def test_what_cannot_be_compared_is_refused_and_not_passed(tmp_path: Path) -> None:
    data, names = four(tmp_path)
    with pytest.raises(Leakage, match=r"'images/9.png' of the split is neither a picture nor a CT case"):
        check_split(data, {"training": names, "test": ["images/9.png"]})
    (data / "cxr" / names[1]).write_bytes(b"no picture")
    with pytest.raises(Leakage, match=r"images/001.png cannot be compared: unreadable"):
        check_split(data, {"training": names[:2], "test": names[2:]})
    assert members_of(data)[names[1]].belongs == ("patient p1", "group g1")


def test_pictures_without_contrast_are_like_nothing(tmp_path: Path) -> None:
    data = radiographs(tmp_path / "data", [well(), well()])
    assert find_leaks(data, {"training": ["images/000.png"], "test": ["images/001.png"]}) == []
