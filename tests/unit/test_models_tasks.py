"""The figures of every task, on bundles whose answers can be worked out by hand."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from models.evaluation.__main__ import main
from models.evaluation.evaluate import Evaluation, Request, evaluate
from models.evaluation.exposures import changed, drawn
from models.evaluation.gate_scores import stopped
from tests.tiny_data import SIDE, lesion, lung, radiographs, sick, square, well
from tests.tiny_tasks import covid_slices, findings, gate, linear, lung_fields


def figures(found: Evaluation, subset: str = "all", part: str = "") -> dict[tuple[str, str], Any]:
    return {(f.name, f.of): f for f in found.figures if f.subset == subset and part in ("", f.part)}


def paper_slices(data: Path) -> Path:
    """Five slices of papers: two bright ones of one paper with COVID-19, a dark one, and two without."""
    for kind, name, grey in (("covid", "a-p1-1", 250), ("covid", "a-p2-2", 200), ("covid", "b-p1-1", 60),
                             ("noncovid", "7", 30), ("noncovid", "11_0", 240)):
        folder = data / "ct_slices" / kind
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"{name}.png"), np.full((SIDE, SIDE), grey, np.uint8))
    return data


def nih(grey: int, **columns: Any) -> dict[str, Any]:
    return {"grey": grey, "source": "nih-one", "Effusion": "", "Mass": "", "Pneumonia": "", **columns}


def nih_data(folder: Path) -> Path:
    """Findings of two NIH sources and one of children: bright images have effusion, dark ones nothing."""
    rows = [
        nih(230, Effusion=1, Mass=0, Pneumonia=0, no_finding=0), nih(200, Effusion=1, Mass=1, Pneumonia=1, no_finding=0),
        nih(60, Effusion=0, Mass=0, Pneumonia=0, no_finding=1, source="nih-two"),
        nih(20, Effusion=0, Mass=0, Pneumonia=0, no_finding=1, source="nih-two"),
        nih(120, Pneumonia=1, no_finding=0, source="kermany"), nih(100, Pneumonia=0, no_finding=1, source="kermany"),
    ]
    return radiographs(folder / "data", rows)


def test_findings_stand_alone_and_empty_labels_are_masked(tmp_path: Path) -> None:
    found = evaluate(findings(tmp_path), Request(nih_data(tmp_path), resamples=100))
    of = figures(found)
    assert (of["AUC", "Effusion"].value, of["AUC", "Effusion"].n) == (1.0, 4)
    assert (of["AUC", "mass"].value, of["AUC", "mass"].n) == (0.5, 4)
    pneumonia = of["AUC", "pneumonia"]
    assert (pneumonia.value, pneumonia.n) == (pytest.approx(2 / 8), 6)
    assert of["AUC, mean of 3 findings", ""].value == pytest.approx((1 + 0.5 + 0.25) / 3)
    assert of["sensitivity", "Effusion"].value == of["specificity", "Effusion"].value == 1.0
    assert of["calibration error", "mass"].value == pytest.approx(0.25)
    assert ("accuracy", "") not in of and found.as_json()["confusion"] is None


def test_abnormal_against_no_finding_is_measured_within_the_family_of_sources(tmp_path: Path) -> None:
    found = evaluate(findings(tmp_path), Request(nih_data(tmp_path), resamples=100))
    within = figures(found, "sources nih-*")
    assert within["AUC", "abnormal against no finding"].value == 1.0
    assert within["AUC", "abnormal against no finding"].n == 4
    assert figures(found)["AUC", "abnormal against no finding"].n == 6
    assert figures(found, "source nih-two") == {} and figures(found, "source nih-one")
    assert figures(found, "source kermany")["AUC", "pneumonia"].value == 0.0


def test_whether_classes_exclude_each_other_is_declared_or_seen_in_their_sums(tmp_path: Path) -> None:
    data = nih_data(tmp_path)
    seen = linear(tmp_path, "cxr-classification", (("no_finding", "NO_FINDING", 0.5), ("mass", "MASS", 0.5)),
                  (0, 0), (0.9, 0.9), "seen")
    assert evaluate(seen, Request(data, resamples=5)).scores.independent
    sums = linear(tmp_path, "cxr-classification", (("no_finding", "NO_FINDING", 0.5), ("mass", "MASS", 0.5)),
                  (-1, 1), (1, 0), "sums")
    assert not evaluate(sums, Request(data, resamples=5)).scores.independent


def test_slices_of_papers_give_covid_or_not(tmp_path: Path) -> None:
    found = evaluate(covid_slices(tmp_path), Request(paper_slices(tmp_path / "data"), resamples=100))
    of = figures(found, part="ct_slices")
    assert of["accuracy", "covid19 or not"].value == pytest.approx(3 / 5)
    assert of["F1", "covid19 or not"].value == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert of["AUC", "covid19"].value == pytest.approx((2 + 1 + 1) / 6)
    assert (of["AUC", "covid19"].n, of["AUC", "covid19"].groups) == (5, 4)
    assert of["sensitivity", "covid19"].value == pytest.approx(2 / 3) and ("accuracy", "") not in of
    assert found.problems.absent == ["ct_lesions", "ct_lungs"]


def test_a_folder_of_an_outputs_name_gives_that_class(tmp_path: Path) -> None:
    data = paper_slices(tmp_path / "data")
    for name, grey in (("normal", 20), ("other_abnormal", 10)):
        (data / "ct_slices" / name).mkdir()
        cv2.imwrite(str(data / "ct_slices" / name / "x.png"), np.full((SIDE, SIDE), grey, np.uint8))
    of = figures(evaluate(covid_slices(tmp_path), Request(data, resamples=20)), part="ct_slices")
    assert (of["accuracy", ""].n, of["AUC", "normal"].n, of["AUC", "covid19"].n) == (5, 5, 7)
    assert of["accuracy", ""].value == pytest.approx(3 / 5)


def test_slices_in_hu_without_infection_are_not_covid(tmp_path: Path) -> None:
    data = paper_slices(tmp_path / "data")
    lung(data, "ID_1_Z_1", np.full((SIDE, SIDE), -1000), square(1))
    of = figures(evaluate(covid_slices(tmp_path), Request(data, resamples=20)), part="ct_lungs")
    assert (of["specificity", "covid19"].value, of["specificity", "covid19"].n) == (1.0, 1)


def test_a_whole_case_is_the_mean_of_its_top_slices(tmp_path: Path) -> None:
    data = paper_slices(tmp_path / "data")
    for case, greys in (("one", (255, 90, 30, 0)), ("two", (140, 90, 30, 0))):
        for number, grey in enumerate(greys):
            lesion(data, case, number, square(2))
            cv2.imwrite(str(data / "ct_lesions" / case / f"{number:03}-ct.png"), np.full((SIDE, SIDE), grey, np.uint8))
    of = figures(evaluate(covid_slices(tmp_path), Request(data, resamples=20)), part="ct_lesions")
    cases = of["whole cases, sensitivity", "covid19"]
    assert (cases.value, cases.n, cases.groups) == (0.5, 2, 2)
    assert of["sensitivity", "covid19"].value == pytest.approx(2 / 8)


def lungs_data(folder: Path) -> Path:
    """Three radiographs with lung masks: one marked rightly, one half, one without any contrast."""
    rows = [well(source="a", lung_mask=f"{n}.png", sex=sex) for n, sex in enumerate("FMF")]
    data = radiographs(folder / "data", [*rows, well()])
    true = square(255, slice(8, 24), slice(8, 24)).astype(np.uint8)
    half = square(255, slice(8, 24), slice(8, 16)).astype(np.uint8)
    for number, grey in enumerate((true, half, np.full((SIDE, SIDE), 10, np.uint8))):
        cv2.imwrite(str(data / "cxr" / "images" / f"{number:03}.png"), grey)
        cv2.imwrite(str(data / "cxr" / f"{number}.png"), true)
    return data


def test_dice_of_lung_fields_by_hand(tmp_path: Path) -> None:
    found = evaluate(lung_fields(tmp_path), Request(lungs_data(tmp_path), resamples=100))
    of = figures(found)
    dice, iou = of["lung Dice, mean of images", ""], of["lung IoU, mean of images", ""]
    assert (dice.value, dice.n) == (pytest.approx((1 + 2 / 3 + 0) / 3), 3)
    assert iou.value == pytest.approx(0.5) and dice.low < dice.value < dice.high
    assert of["images with a lung Dice under 0.9", ""].value == pytest.approx(2 / 3)
    assert figures(found, "sex F")["lung Dice, mean of images", ""].value == pytest.approx(0.5)
    assert figures(found, "source a")["lung Dice, mean of images", ""].n == 3


def test_the_gate_lets_through_what_its_rules_say(tmp_path: Path) -> None:
    rows = [well(230, population="adult", source="a"), well(140, population="paediatric", source="b"), well(100, source="b")]
    found = evaluate(gate(tmp_path), Request(radiographs(tmp_path / "data", rows), resamples=50))
    assert figures(found, "kind as it is")["let through", ""].value == pytest.approx(2 / 3)
    assert figures(found, "kind inverted")["let through", ""].value == pytest.approx(1 / 3)
    assert figures(found, "source a, as it is")["let through", ""].value == 1.0
    assert figures(found, "source b, as it is")["let through", ""].value == 0.5
    assert {f"kind {k}" for k in ("rotated_90", "rotated_180", "rotated_270", "clipped", "noise", "gradient", "text")} \
        <= {f.subset for f in found.figures}
    assert figures(found)["specificity", "child"].n >= 1 and figures(found)["sensitivity", "child"].n >= 1
    stops = stopped(found.scores)
    assert stops.sum() == sum(p[0] < 0.5 or p[3] >= 0.5 for p in found.scores.probabilities)


def test_what_is_done_to_an_image_is_its_label(tmp_path: Path) -> None:
    found = evaluate(gate(tmp_path), Request(radiographs(tmp_path / "data", [well(230)]), resamples=5))
    names = [o.name for o in found.manifest.outputs]
    by_kind = {i.kind: dict(zip(names, i.labels, strict=True)) for i in found.scores.images}
    assert by_kind["inverted"]["inverted"] and not by_kind["as it is"]["inverted"]
    assert by_kind["rotated_90"]["rotated_90"] and not by_kind["rotated_90"]["rotated_270"]
    assert by_kind["noise"]["other"] is True and by_kind["noise"]["child"] is None
    assert by_kind["as it is"]["child"] is None and by_kind["as it is"]["frontal"] is True


def test_a_turned_image_is_turned_clockwise_and_a_cut_one_loses_a_side() -> None:
    grey = np.zeros((20, 30), np.float32)
    grey[0, :] = 1.0
    random = np.random.default_rng(0)
    assert (changed(grey, "rotated_90", random)[:, -1] == 1).all()
    assert (changed(grey, "rotated_180", random)[-1] == 1).all()
    assert (changed(grey, "rotated_270", random)[:, 0] == 1).all()
    for _ in range(8):
        rows, columns = changed(grey, "clipped", random).shape
        assert (rows, columns) != (20, 30) and (rows in (20,) or columns in (30,))
        assert 0.5 <= rows * columns / 600 <= 0.7
    np.testing.assert_array_equal(changed(grey, "inverted", random), 1 - grey)


@pytest.mark.parametrize("kind", ["noise", "gradient", "text"])
def test_drawn_pictures_differ_by_seed_and_stay_in_range(kind: str) -> None:
    one, other, again = (drawn(kind, np.random.default_rng(seed)) for seed in (1, 2, 1))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other) and 0.0 <= one.min() < one.max() <= 1.0


def test_unfamiliar_images_are_counted_where_the_manifest_has_a_limit(tmp_path: Path) -> None:
    bundle = linear(tmp_path, "cxr-classification", (("no_finding", "NO_FINDING", 0.5), ("pneumonia", "PNEUMONIA", 0.5)),
                    (-1, 1), (1, 0), "far", unfamiliar=True)
    data = radiographs(tmp_path / "data", [sick(230), sick(240), well(10), well(20)])
    assert ("refused as unfamiliar", "") not in figures(evaluate(bundle, Request(data, resamples=5)))
    limited = type(bundle)(**{**vars(bundle), "accepts": type(bundle.accepts)(most_unfamiliarity=0.92)})
    assert figures(evaluate(limited, Request(data, resamples=5)))["refused as unfamiliar", ""].value == 0.25


@pytest.mark.parametrize(("make", "data", "column"), [
    (findings, nih_data, "true Effusion"), (gate, nih_data, "stopped"), (lung_fields, lungs_data, "dice"),
    (covid_slices, lambda folder: paper_slices(folder / "data"), "true covid19"),
])
def test_every_task_writes_tables_and_rows(
    make: Any, data: Any, column: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    given = ["--data", str(data(tmp_path)), "--resamples", "10", "--out", str(out)]
    assert main(["evaluate", str(make(tmp_path).folder), *given]) == 0
    assert "Research use only" in capsys.readouterr().out
    with (out / "images.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows and column in rows[0]
    assert main(["compare", *[str(tmp_path / p.name) for p in [next(tmp_path.glob("tiny-*"))] * 2], *given[:4]]) == 0
    assert "a - b" in capsys.readouterr().out
