"""--held-out goes by the names in the bundle's held_out.json, and needs neither torch nor a recipe."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models.evaluation.compare import compare
from models.evaluation.evaluate import Request, evaluate, found
from models.evaluation.held_out import CannotTell, held_out_of, names_of
from models.evaluation.problems import Problems
from service.domain.manifest import Manifest, read_manifest
from tests.tiny_bundles import brightness_cxr, threshold_ct
from tests.tiny_data import radiographs, sick, well
from tests.tiny_tasks import covid_slices, gate
from tests.unit.test_models_evaluate import ct_data
from tests.unit.test_models_tasks import paper_slices

MODELS = Path(__file__).parents[2] / "models"
ROWS = [sick(), sick(140), well(), well(90), sick(60), well(10)]


def names(bundle: Manifest, **table: list[str]) -> Manifest:
    (bundle.folder / "held_out.json").write_text(json.dumps(table))
    return bundle


def image(number: int) -> str:
    return f"images/{number:03}.png"


def test_only_the_named_radiographs_are_measured(tmp_path: Path) -> None:
    data = radiographs(tmp_path / "data", ROWS)
    bundle = names(brightness_cxr(tmp_path), images=[image(1), image(3), image(4)])
    evaluation = evaluate(bundle, Request(data, held_out=True, resamples=20))
    assert evaluation.scores.names == [image(1), image(3), image(4)] and evaluation.problems.rows == []
    assert evaluation.as_json()["data"]["held_out_only"] is True and "Held-out images only" in evaluation.notes[0]


def test_names_that_are_not_in_the_data_are_counted(tmp_path: Path) -> None:
    data = radiographs(tmp_path / "data", ROWS)
    bundle = names(brightness_cxr(tmp_path), images=[image(1), image(77), image(78)])
    evaluation = evaluate(bundle, Request(data, held_out=True, resamples=20))
    assert evaluation.problems.rows == [("held_out.json", "held out but not in this data: 2 of 3 names")]


@pytest.mark.parametrize(("table", "words"), [
    ('{"images": ["images/999.png"]}', "nothing that was held out is in this data"),
    ('{"images": []}', "trained on all of its data"), ("[1]", "not readable"), ('{"images": 3}', "not readable"),
    ("{", "not readable"), (None, "has no held_out.json"),
])
def test_a_table_that_tells_nothing_is_refused(table: str | None, words: str, tmp_path: Path) -> None:
    bundle = brightness_cxr(tmp_path)
    if table is not None:
        (bundle.folder / "held_out.json").write_text(table)
    data = radiographs(tmp_path / "data", ROWS)
    with pytest.raises(CannotTell, match=words):
        evaluate(bundle, Request(data, held_out=True))


def test_cases_and_lung_slices_are_kept_and_papers_that_were_never_trained_on(tmp_path: Path) -> None:
    data = ct_data(tmp_path / "data")
    bundle = names(threshold_ct(tmp_path), cases=["two"], lung_slices=["ID_2_Z_1-hu.png"])
    paper_slices(data)
    kept = {i.name for i in found(bundle, Request(data, held_out=True), Problems())}
    papers = {name for name in kept if name.startswith("ct_slices")}
    assert kept - papers == {"ct_lesions/two/000-ct.png", "ct_lungs/ID_2_Z_1-hu.png"} and len(papers) == 5


def test_slices_of_papers_are_named_with_or_without_their_folder(tmp_path: Path) -> None:
    data = paper_slices(tmp_path / "data")
    for prefix in ("", "ct_slices/"):
        chosen = [f"{prefix}covid/a-p1-1.png", f"{prefix}noncovid/7.png"]
        bundle = names(covid_slices(tmp_path, f"b{len(prefix)}"), images=chosen)
        kept = found(bundle, Request(data, held_out=True), Problems())
        assert [i.name for i in kept] == ["ct_slices/covid/a-p1-1.png", "ct_slices/noncovid/7.png"]
    assert names_of(kept) == {"images": ["ct_slices/covid/a-p1-1.png", "ct_slices/noncovid/7.png"]}


def test_the_table_that_an_export_writes_is_the_one_that_is_read(tmp_path: Path) -> None:
    data = ct_data(tmp_path / "data")
    bundle = threshold_ct(tmp_path)
    everything = found(bundle, Request(data), Problems())
    chosen = [i for i in everything if i.group in ("two", "ID_2")]
    names(bundle, **names_of(chosen))
    assert found(bundle, Request(data, held_out=True), Problems()) == chosen


def test_two_bundles_are_compared_on_what_neither_was_trained_on(tmp_path: Path) -> None:
    data = radiographs(tmp_path / "data", ROWS)
    one = names(brightness_cxr(tmp_path, "one"), images=[image(n) for n in (0, 1, 2, 3)])
    other = names(brightness_cxr(tmp_path, "other"), images=[image(n) for n in (1, 2, 3, 4)])
    both = compare(one, other, Request(data, held_out=True, resamples=20))
    assert both.images == 3 and both.notes[0].startswith("Images that neither bundle was trained on")
    (other.folder / "held_out.json").unlink()
    half = compare(one, other, Request(data, held_out=True, resamples=20))
    assert half.images == 4 and half.notes[0].startswith("other has no held_out.json")
    (one.folder / "held_out.json").unlink()
    with pytest.raises(CannotTell):
        compare(one, other, Request(data, held_out=True))


def test_a_gate_is_shown_held_out_ct_slices_only(tmp_path: Path) -> None:
    data = paper_slices(radiographs(tmp_path / "data", ROWS))
    bundle = names(gate(tmp_path), images=[image(1), "ct_slices/covid/b-p1-1.png"])
    shown = evaluate(bundle, Request(data, held_out=True, resamples=2)).scores.images
    assert {i.name for i in shown if i.kind == "CT slice"} == {"CT slice ct_slices/covid/b-p1-1.png"}
    assert {i.group for i in shown if i.kind in ("as it is", "inverted")} == {i.group for i in shown if i.name == image(1)}


@pytest.mark.parametrize("name", sorted(p.parent.name for p in MODELS.glob("*/held_out.json")))
def test_the_tables_of_the_shipped_bundles_can_be_read(name: str) -> None:
    manifest = read_manifest(MODELS / name)
    if json.loads((manifest.folder / "held_out.json").read_text()):
        held = held_out_of(manifest)
        assert held.images or held.cases or held.lung_slices
    else:
        with pytest.raises(CannotTell, match="its card has the figures of cross-validation"):
            held_out_of(manifest)
        assert json.loads((manifest.folder / "figures.json").read_text())["cross_validation"]["folds"]
