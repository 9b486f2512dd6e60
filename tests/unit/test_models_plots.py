"""Plots and pictures of a card: what they are drawn from, what may be shown, and how the card links them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from models.evaluation.__main__ import main
from models.evaluation.bundles import Network
from models.evaluation.evaluate import Request, evaluate
from models.evaluation.examples import SIDE_PX, TEXT_PX, attribution_of, best_and_worst, montage
from models.evaluation.plots import MOST_BYTES, precision_recall, reliability, write_plots
from models.evaluation.recard import link_plots
from models.evaluation.score_table import InvalidTable, table_from, table_of
from service.domain.manifest import Manifest
from tests.tiny_bundles import brightness_cxr, threshold_ct
from tests.tiny_data import lesion, radiographs, sick, square, well
from tests.tiny_tasks import findings, gate, lung_fields
from tests.unit.test_models_evaluate import ct_data
from tests.unit.test_models_tasks import lungs_data, nih_data

MODELS = Path(__file__).parents[2] / "models"
TABLE = {"classes": ["well", "sick"], "y_true": [[1, 0], [0, 1], [0, 1], [1, 0]],
         "y_score": [[0.9, 0.1], [0.3, 0.7], [0.6, 0.4], [0.8, 0.2]], "group": ["a", "b", "c", "c"]}


def described(path: Path) -> str:
    with Image.open(path) as image:
        assert max(image.size) < 1200
        return str(image.info["Description"])


def test_a_table_is_the_same_from_a_mapping_and_from_files(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(TABLE))
    np.savez(tmp_path / "a.npz", **{k: np.array(v) for k, v in TABLE.items()})
    for table in (table_from(TABLE), table_from(tmp_path / "a.json"), table_from(tmp_path / "a.npz")):
        assert table.classes == ("well", "sick") and table.exclusive and table.extent == "4 images of 3 patients or groups"
        np.testing.assert_array_equal(table.labelled(1)[0], [False, True, True, False])


@pytest.mark.parametrize(("change", "words"), [
    ({"classes": ["well"]}, "one column for each of `classes`"), ({"y_true": [[1, 0]]}, r"must both be \(n, 2\)"),
    ({"group": ["a"]}, "group has 1 values for 4 images"), ({"y_score": [[np.nan, 0]] * 4}, "not a number"),
    ({"y_score": "x"}, "cannot be read"),
    ({"organ": ["lung"], "case": [], "dice": []}, "cannot be read"),
])
def test_a_table_that_does_not_fit_is_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidTable, match=words):
        table_from({**TABLE, **change})


def test_precision_and_recall_by_hand() -> None:
    recall, precision, mean = precision_recall(np.array([True, False, True, True]), np.array([0.9, 0.8, 0.7, 0.7]))
    np.testing.assert_allclose(recall, [1 / 3, 1 / 3, 1])
    np.testing.assert_allclose(precision, [1, 1 / 2, 3 / 4])
    assert mean == pytest.approx(1 / 3 + 2 / 3 * 3 / 4)


def test_reliability_by_hand() -> None:
    middle, share, count = reliability(np.array([0.05, 0.07, 0.91, 1.0]), np.array([False, True, True, True]))
    np.testing.assert_allclose(middle, [0.06, 0.955])
    np.testing.assert_allclose(share, [0.5, 1.0])
    assert count.tolist() == [2, 2]


def test_every_plot_is_small_and_says_what_it_is_of(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "card").mkdir()
    (tmp_path / "card" / "old.png").write_bytes(b"")
    cases = [f"case-{n}" for n in range(90)]
    table = {**TABLE, "thresholds": [0.5, 0.3], "organ": ["lung"] * 90, "case": cases, "dice": np.linspace(0.4, 1, 90)}
    written = write_plots(tmp_path, table, "out-of-fold")
    assert [p.name for p in written] == ["roc.png", "precision-recall.png", "reliability.png", "confusion.png",
                                         "dice-lung.png"]
    assert sorted(tmp_path.glob("card/*")) == sorted(written)
    assert all(500 < p.stat().st_size < MOST_BYTES for p in written)
    assert described(written[0]).endswith("4 images of 3 patients or groups (out-of-fold)")
    assert described(written[4]) == "Dice of the lung, 90 cases, mean 0.700; the lowest 70 (out-of-fold)"


def test_classes_that_stand_alone_have_no_confusion_and_fifteen_of_them_fit(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    random = np.random.default_rng(0)
    truth = random.integers(-1, 2, (200, 15))
    truth[:, 3] = 0
    table = {"classes": [f"finding {k}" for k in range(15)], "y_true": truth, "y_score": random.random((200, 15))}
    assert [p.stem for p in write_plots(tmp_path, table)] == ["roc", "precision-recall", "reliability"]


def test_the_same_table_gives_the_same_files(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    one, other = ({p.name: p.read_bytes() for p in write_plots(tmp_path / n, TABLE)} for n in "ab")
    assert one == other


@pytest.mark.parametrize(("source", "may"), [
    ("nih-starter", True), ("kermany", True), ("coronacases-01", True), ("covid-chestxray", False), ("covid-cxnet", False),
    ("", False), ("somewhere", False),
])
def test_only_sources_whose_licence_permits_it_are_shown(source: str, may: bool) -> None:
    assert (attribution_of(source) is not None) == may


def test_worst_and_best_cases_of_other_patients_come_from_such_sources_only(tmp_path: Path) -> None:
    rows = [sick(10, source="covid-chestxray"), sick(20, source="kermany", group="x"), sick(21, source="kermany", group="x"),
            well(30, source="nih-one"), sick(220, source="nih-one"), *[well(60 + n, source="kermany") for n in range(8)]]
    bundle = brightness_cxr(tmp_path)
    found = evaluate(bundle, Request(radiographs(tmp_path / "data", rows), resamples=2))
    examples = best_and_worst(Network(bundle), found.scores)
    assert len(examples) == 8
    assert examples[0].lines[0] in ("is pneumonia", "is not no_finding") and int(examples[0].picture[0, 0, 0]) == 20
    assert 21 not in {int(e.picture[0, 0, 0]) for e in examples}
    assert "Kermany" in examples[0].attribution
    png = tmp_path / "m.png"
    png.write_bytes(montage(examples))
    assert "Kermany et al. 2018, CC BY 4.0" in described(png) and "NIH" in described(png)
    with Image.open(png) as image:
        assert image.size == (4 * SIDE_PX, 2 * (SIDE_PX + TEXT_PX)) and png.stat().st_size < MOST_BYTES
    assert montage([]) == b""


def test_outlines_of_truth_and_answer_are_drawn_on_slices_and_radiographs(tmp_path: Path) -> None:
    data = tmp_path / "data"
    lesion(data, "coronacases-01", 0, square(2), np.zeros((32, 32), bool))
    bundle = threshold_ct(tmp_path)
    scores = evaluate(bundle, Request(data, resamples=2)).scores
    (example,) = best_and_worst(Network(bundle), scores)
    green = (example.picture == (0, 255, 0)).all(axis=2)
    assert green[8, 8] and green[15, 23] and not green[11, 15] and "Dice 0.00" in example.lines[1]
    fields = lung_fields(tmp_path)
    data = lungs_data(tmp_path / "x")
    labels = data / "cxr" / "labels.csv"
    labels.write_text(labels.read_text().replace(",a,", ",nih-a,"))
    scores = evaluate(fields, Request(data, resamples=2)).scores
    examples = best_and_worst(Network(fields), scores)
    assert len(examples) == 3 and "Dice 0.00" in examples[0].lines[1]
    assert (examples[-1].picture == (255, 64, 64)).all(axis=2).any()


@pytest.mark.parametrize(("make", "data", "stems"), [
    (findings, nih_data, {"roc", "precision-recall", "reliability"}),
    (gate, nih_data, {"roc", "precision-recall", "reliability"}),
    (lung_fields, lungs_data, {"dice-lung"}), (threshold_ct, lambda f: ct_data(f / "data"), {"dice-infection", "dice-lung"}),
])
def test_the_scores_of_every_task_can_be_drawn(make: object, data: object, stems: set[str], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    bundle: Manifest = make(tmp_path)  # type: ignore[operator]
    found = evaluate(bundle, Request(data(tmp_path), resamples=2))  # type: ignore[operator]
    assert {p.stem for p in write_plots(bundle.folder, table_of(found.scores))} == stems


def test_plots_are_linked_once_before_the_known_shortcuts(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    card = tmp_path / "MODEL_CARD.md"
    card.write_text("# X\n\n## Figures\n\nsome\n\n## Known shortcuts and weaknesses\n\nmany\n")
    write_plots(tmp_path, TABLE, "held out")
    link_plots(tmp_path)
    once = card.read_text()
    link_plots(tmp_path)
    assert card.read_text() == once and once.count("card/roc.png") == 1
    assert once.index("## Figures") < once.index("![ROC](card/roc.png)") < once.index("![Confusion]") \
        < once.index("## Known shortcuts")
    assert "4 images of 3 patients or groups (held out)." in once
    shutil.rmtree(tmp_path / "card")
    link_plots(tmp_path)
    assert card.read_text() == "# X\n\n## Figures\n\nsome\n\n## Known shortcuts and weaknesses\n\nmany\n"


def test_the_card_command_draws_from_a_table_or_from_held_out_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("matplotlib")
    bundle = tmp_path / "cxr-pattern"
    shutil.copytree(MODELS / "cxr-pattern", bundle)
    (tmp_path / "s.json").write_text(json.dumps(TABLE))
    assert main(["card", str(bundle), "--scores", str(tmp_path / "s.json")]) == 0
    assert "(out-of-fold)" in (bundle / "MODEL_CARD.md").read_text()
    data = radiographs(tmp_path / "data", [sick(source="kermany"), well(source="kermany"), well(), sick()])
    for place in range(4):
        grey = cv2.resize(np.random.default_rng(place).random((6, 6)), (64, 64)) * 255
        cv2.imwrite(str(data / "cxr" / "images" / f"{place:03}.png"), grey.astype(np.uint8))
    (bundle / "held_out.json").write_text(json.dumps({"images": [f"images/{n:03}.png" for n in range(3)]}))
    assert main(["card", str(bundle), "--data", str(data)]) == 0
    card = (bundle / "MODEL_CARD.md").read_text()
    assert "3 images of 3 patients or groups (held out)" in card and "card/pictures.png" in card
    assert "Kermany et al. 2018, CC BY 4.0" in card
    (bundle / "held_out.json").unlink()
    assert main(["card", str(bundle), "--data", str(data)]) == 2
    assert main(["card", str(bundle), "--scores", str(tmp_path / "none.json")]) == 2
    assert "none.json: not a readable" in capsys.readouterr().err


def test_an_independent_table_says_so_itself() -> None:
    assert not table_from({**TABLE, "exclusive": False}).exclusive
    assert not table_from({**TABLE, "y_score": [[0.9, 0.9]] * 4}).exclusive
    assert replace(table_from(TABLE), group=()).extent == "4 images"
