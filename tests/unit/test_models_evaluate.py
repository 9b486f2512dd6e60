"""Evaluation on made-up folders: figures that can be worked out by hand, and data that is broken."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from models.evaluation.__main__ import main
from models.evaluation.evaluate import Evaluation, Request, evaluate
from models.evaluation.slices import CtSlice, paper_of, read_plane, read_slice
from service.prepare import ct
from service.prepare.arguments import run_steps
from tests.tiny_bundles import brightness_cxr, threshold_ct
from tests.tiny_data import SIDE, lesion, lung, radiographs, sick, square, well


def figures(found: Evaluation, part: str = "", subset: str = "all") -> dict[tuple[str, str], Any]:
    return {(f.name, f.of): f for f in found.figures if part in ("", f.part) and f.subset == subset}


def run_cxr(folder: Path, rows: list[dict[str, Any]], **request: Any) -> Evaluation:
    data = radiographs(folder / "data", rows)
    return evaluate(brightness_cxr(folder), Request(data, **{"resamples": 200, **request}))


def test_a_perfect_classifier_has_the_figures_of_one(tmp_path: Path) -> None:
    found = run_cxr(tmp_path, [sick() for _ in range(6)] + [well() for _ in range(4)])
    of = figures(found)
    assert of["accuracy", ""].value == of["AUC", "pneumonia"].value == of["AUC", "no_finding"].value == 1.0
    assert of["sensitivity", "pneumonia"].value == of["specificity", "pneumonia"].value == 1.0
    assert of["accuracy", ""].low == pytest.approx(0.025 ** 0.1)
    assert (of["sensitivity", "pneumonia"].n, of["specificity", "pneumonia"].n, of["AUC", "pneumonia"].n) == (6, 4, 10)
    assert of["calibration error", ""].value == pytest.approx(25 / 255, abs=1e-6)
    assert found.as_json()["confusion"]["rows_true"] == [[4, 0, 0], [0, 6, 0], [0, 0, 0]]
    assert ("AUC", "covid19") not in of and of["specificity", "covid19"].value == 0.4


def test_a_useless_classifier_has_the_figures_of_one(tmp_path: Path) -> None:
    of = figures(run_cxr(tmp_path, [sick(204) for _ in range(6)] + [well(204) for _ in range(4)]))
    assert of["AUC", "pneumonia"].value == of["AUC", "no_finding"].value == 0.5
    assert of["accuracy", ""].value == pytest.approx(0.6)
    assert (of["sensitivity", "pneumonia"].value, of["specificity", "pneumonia"].value) == (1.0, 0.0)
    assert of["calibration error", ""].value == pytest.approx(0.2, abs=1e-6)
    assert of["accuracy", ""].low < 0.6 < of["accuracy", ""].high


def test_an_empty_label_is_left_out_and_not_a_negative(tmp_path: Path) -> None:
    bright = {"grey": 250, "covid19": 1, "no_finding": 0, "Pneumonia": ""}
    found = run_cxr(tmp_path, [sick(), sick(), well(), well(), bright, bright])
    of = figures(found)
    assert (of["AUC", "pneumonia"].n, of["AUC", "pneumonia"].value) == (4, 1.0)
    assert (of["specificity", "pneumonia"].n, of["specificity", "pneumonia"].value) == (2, 1.0)
    assert (of["AUC", "covid19"].n, of["AUC", "covid19"].value) == (6, 1.0)
    assert of["accuracy", ""].n == 6 and of["sensitivity", "any finding"].n == 4


def test_an_image_with_two_classes_is_in_no_accuracy_but_in_each_auc(tmp_path: Path) -> None:
    found = run_cxr(tmp_path, [sick(), well(), {"grey": 100, "covid19": 1, "no_finding": 1, "Pneumonia": ""}])
    assert figures(found)["accuracy", ""].n == 2 and figures(found)["AUC", "no_finding"].n == 3
    assert found.as_json()["confusion"]["without_one_class"] == 1
    assert figures(found)["specificity", "any finding"].n == 1


def test_figures_are_given_within_sources_of_two_classes_and_by_subgroup(tmp_path: Path) -> None:
    rows = [
        sick(source="a", sex="F", age="5", view="AP"), well(source="a", sex="F", age="17", view="PA"),
        sick(60, source="a", sex="M", age="18", population="adult"), well(source="a", sex="M", age="93"),
        sick(source="b", age=""), sick(source="b", age="x"),
    ]
    found = run_cxr(tmp_path, rows)
    subsets = {f.subset for f in found.figures}
    assert {"source a", "sex F", "sex M", "sex unknown", "age 0-17", "age 18-39", "age 80+", "age unknown", "view AP",
            "view PA", "view unknown", "population adult", "population unknown"} <= subsets
    assert "source b" not in subsets and any("source: b." in note for note in found.notes)
    assert figures(found, subset="sex F")["accuracy", ""].value == 1.0
    assert figures(found, subset="sex M")["accuracy", ""].value == 0.5
    assert ("images/005.png", "not an age, image kept: 'x'") in found.problems.rows


def test_rows_that_share_a_patient_or_a_group_are_one_group(tmp_path: Path) -> None:
    rows = [sick(patient="p", group="x"), sick(patient="q", group="x"), sick(patient="q", group="y"), sick(patient="z"),
            well(patient="", group=""), well(patient="", group="")]
    assert figures(run_cxr(tmp_path, rows))["accuracy", ""].groups == 4


def test_broken_rows_are_named_counted_and_skipped(tmp_path: Path) -> None:
    rows = [sick(), well(), sick(None), sick(covid19="maybe"), well(), well(None, file="")]
    data = radiographs(tmp_path / "data", rows)
    (data / "cxr" / "images" / "004.png").write_bytes(b"no picture")
    found = evaluate(brightness_cxr(tmp_path), Request(data))
    assert figures(found)["accuracy", ""].n == 2
    assert dict(found.problems.rows) == {
        "images/002.png": "missing file", "images/003.png": "unknown label: covid19 is 'maybe'",
        "images/004.png": "unreadable image", "(a row without a file)": "missing file",
    }
    assert found.as_json()["skipped"]["count"] == 4


def test_saliency_inside_the_lungs_is_measured_where_there_is_a_mask(tmp_path: Path) -> None:
    data = radiographs(tmp_path / "data", [sick(lung_mask="lung.png"), sick(lung_mask="small.png"), well()])
    lung(data / "x", "m", square(0), square(1, slice(0, 32), slice(0, 8)))
    (data / "x" / "ct_lungs" / "m-mask.png").rename(data / "cxr" / "lung.png")
    lesion(data / "x", "c", 0, np.zeros((20, 20), int))
    (data / "x" / "ct_lesions" / "c" / "000-mask.png").rename(data / "cxr" / "small.png")
    found = evaluate(brightness_cxr(tmp_path), Request(data))
    of = figures(found)
    assert of["saliency inside the lungs", ""].n == 1
    assert of["saliency inside the lungs", ""].value == pytest.approx(0.25, abs=1e-3)
    assert of["share of the image that is lung", ""].value == 0.25 and of["accuracy", ""].n == 3
    assert found.problems.rows[0][1].startswith("lung mask left out: mask of another size")


def ct_data(data: Path) -> Path:
    """A case seen rightly, one where half of the infection is missed; lung slices: right, false alarm, no lung."""
    sixteen_by_eight = square(2, on=square(1, slice(4, 28), slice(4, 28)))
    half = square(1, slice(8, 12)).astype(bool)
    for number in range(2):
        lesion(data, "one", number, sixteen_by_eight)
    lesion(data, "two", 0, sixteen_by_eight, half)
    air = square(-800, on=np.full((SIDE, SIDE), 100))
    lung(data, "ID_1_Z_1", air, air < 0)
    lung(data, "ID_2_Z_1", square(-300, slice(8, 10), on=air), air < 0)
    lung(data, "ID_4_Z_1", np.full((SIDE, SIDE), 100), air < -1000)
    return data


def test_dice_and_false_alarms_by_hand(tmp_path: Path) -> None:
    found = evaluate(threshold_ct(tmp_path), Request(ct_data(tmp_path / "data"), resamples=300))
    lesions, lungs = figures(found, "ct_lesions"), figures(found, "ct_lungs")
    assert figures(found, "ct_lesions", "case one")["infection Dice", ""].value == 1.0
    assert figures(found, "ct_lesions", "case two")["infection Dice", ""].value == pytest.approx(2 / 3)
    mean = lesions["infection Dice, mean of cases", ""]
    assert mean.value == pytest.approx(5 / 6) and (mean.n, mean.groups) == (2, 2)
    assert (mean.low, mean.high) == (pytest.approx(2 / 3), 1.0)
    expected = (2 * 128 / (128 + 576) + 2 * 64 / (64 + 576)) / 2
    assert lesions["lung Dice, mean of cases", ""].value == pytest.approx(expected)
    dice = lungs["lung Dice, mean of slices", ""]
    assert (dice.value, dice.n) == (1.0, 2)
    alarm = lungs["% of lung called infected, slices without infection", ""]
    assert (alarm.value, alarm.low, alarm.high, alarm.n) == (pytest.approx(12.5), 0.0, pytest.approx(25.0), 3)
    told = figures(found, "ct_lesions + ct_lungs")["AUC of slices by infected share", "infection"]
    assert told.value == 1.0 and told.n == 6
    assert lesions["slices over the threshold, sensitivity", "infection"].value == 1.0
    assert found.problems.absent == ["ct_slices"]


def test_broken_slices_are_named_counted_and_skipped(tmp_path: Path) -> None:
    data = ct_data(tmp_path / "data")
    cases = data / "ct_lesions"
    (cases / "one" / "001-mask.png").unlink()
    lesion(data, "three", 0, square(3))
    lesion(data, "three", 1, np.zeros((20, 20), int))
    (cases / "three" / "001-ct.png").write_bytes((cases / "one" / "000-ct.png").read_bytes())
    (data / "ct_lungs" / "ID_3_Z_1-hu.png").write_bytes((cases / "one" / "000-ct.png").read_bytes())
    found = evaluate(threshold_ct(tmp_path), Request(data, resamples=50))
    assert dict(found.problems.rows) == {
        "ct_lesions/one/001-ct.png": "missing mask",
        "ct_lesions/three/000-ct.png": "unknown label in the mask: 3; known are 0 to 2",
        "ct_lesions/three/001-ct.png": "mask of another size: (20, 20), its image is (32, 32)",
        "ct_lungs/ID_3_Z_1-hu.png": "not a 16-bit grey image",
    }
    assert figures(found, "ct_lesions")["infection Dice, mean of cases", ""].n == 2


def test_slices_of_papers_are_told_apart_and_grouped_by_paper(tmp_path: Path) -> None:
    data = tmp_path / "data"
    lesion(data, "x", 0, square(2))
    lesion(data, "x", 1, square(0))
    for kind, number, names in (("covid", 0, ("2020.01.24.9-p27-1.png", "2020.01.24.9-p28-2.png")),
                                ("noncovid", 1, ("7.png", "11_0.png", "11_1.png"))):
        (data / "ct_slices" / kind).mkdir(parents=True)
        for name in names:
            (data / "ct_slices" / kind / name).write_bytes((data / f"ct_lesions/x/{number:03}-ct.png").read_bytes())
    found = evaluate(threshold_ct(tmp_path), Request(data, resamples=50))
    told = figures(found, "ct_slices")["AUC of slices by infected share", "infection"]
    assert (told.value, told.n, told.groups) == (1.0, 5, 3)
    assert paper_of("kjr-21-e25-p1-8") == "kjr-21-e25"


def test_only_the_steps_that_a_slice_has_not_been_through_are_run(tmp_path: Path) -> None:
    steps = ("air", "square", "resize", "stretch", "equalise")
    parameters = {"side_px": 64, "window_hu": [-1000, 1000], "clahe_clip_limit": 7.0, "clahe_tiles": 2}
    bundle = replace(threshold_ct(tmp_path), steps=steps, parameters=parameters)
    ramp = np.tile(np.linspace(50, 200, 64), (48, 1)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), ramp)
    item = CtSlice("ct_slices", tmp_path / "a.png", "a", "a", None, True)
    paper, labels, shape = read_slice(item, bundle)
    Image.fromarray(np.zeros((48, 64), np.uint8)).save(tmp_path / "m.png")
    seen, _, _ = read_slice(replace(item, part="ct_lesions", mask=tmp_path / "m.png"), bundle)
    assert labels is None and shape == (48, 64) and paper.shape == seen.shape == (64, 64)
    np.testing.assert_array_equal(seen[8:56], ramp.astype(np.float32) / np.float32(255.0))
    assert (seen[:8] == np.float32(50 / 255)).all() and (seen[56:] == np.float32(50 / 255)).all()
    grey = ramp.astype(np.float32) / np.float32(255.0)
    np.testing.assert_array_equal(paper, run_steps(np.float32(-1000) + grey * np.float32(2000), steps, ct.STEPS, parameters))
    no_window = replace(bundle, parameters={k: v for k, v in parameters.items() if k != "window_hu"})
    np.testing.assert_array_equal(read_plane(item, no_window), ct.equalise(ct.stretch(seen, parameters), parameters))


def test_the_limit_is_drawn_by_the_seed(tmp_path: Path) -> None:
    data = radiographs(tmp_path / "data", [sick() for _ in range(20)] + [well() for _ in range(20)])
    bundle = brightness_cxr(tmp_path)
    found = [evaluate(bundle, Request(data, limit=8, seed=seed, resamples=5)) for seed in (1, 1, 2)]
    names = [[image.name for image in f.scores.images] for f in found]
    assert len(names[0]) == 8 and names[0] == names[1] != names[2]


def test_json_is_all_that_stands_on_standard_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = radiographs(tmp_path / "data", [sick(sex="F"), sick(), well(), well(None)])
    brightness_cxr(tmp_path / "models")
    out = tmp_path / "out"
    bundle = ["--models", str(tmp_path / "models"), "evaluate", "tiny-cxr"]
    assert main([*bundle, "--data", str(data), "--json", "--out", str(out)]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["bundle"]["name"] == "tiny-cxr" and "Research use only" in told["notice"]
    assert told["skipped"]["rows"] == [{"what": "images/003.png", "why": "missing file"}]
    assert {"value", "low", "high", "n", "groups", "name", "of", "part", "subset"} == set(told["figures"][0])
    assert json.loads((out / "evaluation.json").read_text()) == told
    with (out / "images.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [r["true pneumonia"] for r in rows] == ["1", "1", "0"] and float(rows[0]["pneumonia"]) > 0.9
    assert "images/003.png" in (out / "evaluation.txt").read_text()


def test_the_tables_tell_figures_skipped_rows_and_notes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = radiographs(tmp_path / "data", [sick(), well(), well(None)])
    folder = brightness_cxr(tmp_path).folder
    assert main(["evaluate", str(folder), "--data", str(data), "--resamples", "20"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "1.000" in said and "skipped 1: missing file" in said and "may be among these" in said
    assert "Research use only" in said


@pytest.mark.parametrize(("arguments", "code", "words"), [
    (["evaluate", "nobody", "--data", "."], 2, "no such bundle"),
    (["evaluate", "tiny-cxr", "--data", "nowhere"], 2, "no such folder"),
    (["evaluate", "tiny-cxr", "--data", ".", "--held-out"], 2, "has no held_out.json"),
    (["compare", "tiny-cxr", "tiny-ct", "--data", "."], 2, "nothing to compare"),
    (["evaluate", "tiny-cxr", "--data", "."], 1, ""),
])
def test_what_cannot_be_done_is_said(
    arguments: list[str], code: int, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    brightness_cxr(tmp_path / "models")
    threshold_ct(tmp_path / "models")
    monkeypatch.chdir(tmp_path)
    assert main(["--models", str(tmp_path / "models"), *arguments]) == code
    assert words in capsys.readouterr().err


def test_a_table_without_the_column_of_files_is_said(tmp_path: Path) -> None:
    data = radiographs(tmp_path / "data", [sick()])
    (data / "cxr" / "labels.csv").write_text("image,Pneumonia\na.png,1\n")
    found = evaluate(brightness_cxr(tmp_path), Request(data))
    assert found.figures == [] and found.problems.rows == [("cxr/labels.csv", "the table has no column `file`")]
