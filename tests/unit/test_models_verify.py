"""firstlook models verify, import, train: what is whole, what is refused, and what is said of it."""

from __future__ import annotations

import json
import re
import shutil
import sys
import tomllib
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from models.evaluation.__main__ import main
from models.evaluation.take_in import Refused, take_in
from service import cli
from service.domain.manifest import InvalidManifest, read_manifest
from service.infer.golden import shape_problems
from service.models_cli import run_module
from service.verify import verify
from tests.tiny_bundles import brightness_cxr, threshold_ct
from tests.tiny_data import SIDE, radiographs, sick, well

MODELS = Path(__file__).parents[2] / "models"

RECIPE = """
limitations = ["for tests only"]
[bundle]
version = "0.2.0"
title = "Somebody's network"
task = "cxr-classification"
[input]
steps = ["resize"]
[parameters]
rows_px = 32
columns_px = 32
margin_fraction = 0.0
saliency_floor = 1.0
[[outputs]]
name = "no_finding"
index = 0
code = "NO_FINDING"
[[outputs]]
name = "pneumonia"
index = 1
code = "PNEUMONIA"
urgency = "urgent"
[[outputs]]
name = "covid19"
index = 2
"""


class Parts:
    """The three files that an import takes, in a folder."""

    def __init__(self, folder: Path, channels: int = 1) -> None:
        self.model, self.recipe, self.golden = folder / "net.onnx", folder / "net.toml", folder / "in.npz"
        brightness_cxr(folder, "made", channels).model_path.rename(self.model)
        self.recipe.write_text(RECIPE)
        np.savez(self.golden, grey=np.linspace(0, 255, 40 * 50).reshape(40, 50).astype(np.uint8))
        self.out = folder / "models" / "mine"

    def change(self, old: str, new: str) -> None:
        """Change the recipe."""
        assert old in RECIPE
        self.recipe.write_text(RECIPE.replace(old, new))

    def take_in(self) -> list[str]:
        """Import."""
        return take_in(self.model, self.recipe, self.golden, self.out)


def renamed(path: Path, old: str, new: str) -> None:
    model = onnx.load(str(path))
    for value in (*model.graph.input, *model.graph.output):
        value.name = new if value.name == old else value.name
    for node in model.graph.node:
        node.input[:] = [new if n == old else n for n in node.input]
        node.output[:] = [new if n == old else n for n in node.output]
    onnx.save(model, str(path))


def test_an_imported_model_is_a_whole_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = Parts(tmp_path)
    assert main(["import", str(parts.model), "--recipe", str(parts.recipe), "--golden", str(parts.golden), "--out",
                 str(parts.out)]) == 0
    assert "made" in capsys.readouterr().out
    manifest = read_manifest(parts.out)
    assert (manifest.name, manifest.version, manifest.steps) == ("mine", "0.2.0", ("resize",))
    assert [o.name for o in manifest.outputs] == ["no_finding", "pneumonia", "covid19"]
    found = verify(parts.out)
    assert found.problems == [] and "1 golden case," in found.detail
    card = (parts.out / "MODEL_CARD.md").read_text()
    assert "No figure was measured here" in card and manifest.sha256 in card and "for tests only" in card
    assert sorted(p.name for p in parts.out.parent.iterdir()) == ["mine"]
    with np.load(parts.out / "golden" / "case-1.npz") as case:
        assert case["probabilities"][0, 1] == pytest.approx(0.5, abs=0.01) and case["grey"].shape == (40, 50)


def test_names_of_the_graph_are_rewritten_where_the_recipe_asks_for_it(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    renamed(parts.model, "image", "x")
    renamed(parts.model, "activation", "maps")
    with pytest.raises(Refused, match=r"inputs are x; .* needs image.*\[rename\]"):
        parts.take_in()
    parts.change("[bundle]", '[rename]\nx = "image"\nmaps = "activation"\n[bundle]')
    assert parts.take_in() == []


@pytest.mark.parametrize(("old", "new", "words"), [
    ("[bundle]", '[rename]\nnobody = "image"\n[bundle]', "'nobody' is neither input nor output"),
    ('task = "cxr-classification"', 'task = "mri"', "'mri' is unknown; accepted: ct-segmentation"),
    ('version = "0.2.0"', "", "lacks version"),
    ('limitations = ["for tests only"]', "", "limitations missing"),
    ('"resize"', '"shrink"', "'shrink'; accepted: trim, reduce, resize, stretch"),
    ('task = "cxr-classification"', 'task = "ct-segmentation"', "needs the array 'hu'"),
    ("index = 2", "index = 3", "not numbered"),
    ("margin_fraction = 0.0", "", "margin_fraction must be a number"),
    ("saliency_floor = 1.0", "", "saliency_floor must be a number"),
    ('[[outputs]]\nname = "covid19"\nindex = 2', "", r"probabilities|needed: \d axes with 2 channels"),
])
def test_a_recipe_that_does_not_fit_is_refused_and_nothing_is_left(tmp_path: Path, old: str, new: str, words: str) -> None:
    parts = Parts(tmp_path)
    parts.change(old, new)
    with pytest.raises((Refused, InvalidManifest), match=words):
        parts.take_in()
    assert not parts.out.exists() and list(tmp_path.glob("models/.*")) == []


def test_an_unknown_code_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = Parts(tmp_path)
    parts.change('"PNEUMONIA"', '"SHADOW"')
    assert main(["import", str(parts.model), "--recipe", str(parts.recipe), "--golden", str(parts.golden), "--out",
                 str(parts.out)]) == 2
    assert "'SHADOW' is not in service/domain/codes.py" in capsys.readouterr().err and not parts.out.exists()


def test_a_missing_input_file_or_model_is_refused(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    parts.golden.unlink()
    with pytest.raises(Refused, match="golden input is missing"):
        parts.take_in()
    other = Parts(tmp_path / "other")
    other.model.write_bytes(b"no network")
    with pytest.raises(Refused, match=r"cannot be loaded"):
        other.take_in()
    other.out.mkdir(parents=True)
    with pytest.raises(Refused, match="exists"):
        other.take_in()


def test_a_network_that_answers_differently_each_time_is_refused(tmp_path: Path) -> None:
    parts = Parts(tmp_path)
    model = onnx.load(str(parts.model))
    for node in model.graph.node:
        node.output[:] = ["sure" if name == "probabilities" else name for name in node.output]
    model.graph.node.extend([
        onnx.helper.make_node("RandomUniformLike", ["sure"], ["noise"]),
        onnx.helper.make_node("Add", ["sure", "noise"], ["probabilities"]),
    ])
    onnx.save(model, str(parts.model))
    with pytest.raises(Refused, match="not deterministic"):
        parts.take_in()


def test_a_network_of_three_channels_or_a_fixed_batch_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"needed: float \(n, 1, 32, 32\)"):
        Parts(tmp_path, channels=3).take_in()
    fixed = threshold_ct(tmp_path, side_px=64)
    model = onnx.load(str(fixed.model_path))
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, str(fixed.model_path))
    assert shape_problems(fixed) == ["the first axis of slices is fixed to 1; it must be free"]
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 65
    onnx.save(model, str(fixed.model_path))
    assert "needed: float (n, 1, 64, 64)" in shape_problems(fixed)[0]


def test_verify_names_what_is_wrong_with_each_bundle(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts = Parts(tmp_path)
    parts.take_in()
    threshold_ct(tmp_path / "models")
    monkeypatch.setenv("FIRSTLOOK_INFER__MODELS_DIR", str(tmp_path / "models"))
    assert cli.main(["models", "verify", "mine"]) == 0
    assert cli.main(["models", "verify"]) == 1
    ok, first, second = capsys.readouterr().out.splitlines()
    assert ok.startswith("ok    mine") and first == ok
    assert second.startswith("FAIL  tiny-ct") and "no golden case" in second and "MODEL_CARD.md is missing" in second
    with (parts.out / "model.onnx").open("ab") as file:
        file.write(b"\x00")
    (parts.out / "MODEL_CARD.md").write_text("of other weights")
    assert cli.main(["models", "verify", "mine", "nobody"]) == 1
    first, second = capsys.readouterr().out.splitlines()
    assert "sha256 of model.onnx is" in first and "of other weights" in first
    assert "nobody" in second and "cannot be read" in second


@pytest.mark.parametrize(("key", "words"), [
    ("probabilities", "case-1.npz: probabilities differs by up to 0.1"), ("image", "the preparation differs"),
    ("activation", "the array activation is missing"),
])
def test_verify_finds_a_golden_case_that_does_not_reproduce(tmp_path: Path, key: str, words: str) -> None:
    parts = Parts(tmp_path)
    parts.take_in()
    file = parts.out / "golden" / "case-1.npz"
    with np.load(file) as stored:
        case = {name: stored[name] for name in stored.files}
    if key == "activation":
        del case[key]
    else:
        case[key] = case[key] + np.float32(0.1)
    np.savez(file, **case)
    (problem,) = verify(parts.out).problems
    assert words in problem


@pytest.mark.parametrize("name", ["ct-lung-infection", "cxr-pattern"])
def test_a_card_written_again_is_the_card(name: str, tmp_path: Path) -> None:
    shutil.copytree(MODELS / name, tmp_path / name)
    card = tmp_path / name / "MODEL_CARD.md"
    before = card.read_text()
    card.write_text("lost")
    assert main(["card", str(tmp_path / name)]) == 0
    assert card.read_text() == before


def test_commands_are_passed_on_with_the_folder_of_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:
    brightness_cxr(tmp_path / "bundles")
    radiographs(tmp_path / "data", [sick(), sick(), well()])
    monkeypatch.chdir(tmp_path)
    Path("own.toml").write_text(f'[infer]\nmodels_dir = "{tmp_path}/bundles"\n')
    assert cli.main(["models", "evaluate", "tiny-cxr", "--settings", "own.toml", "--data", "data", "--limit", "2",
                     "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert told["bundle"]["name"] == "tiny-cxr" and told["data"] == {
        "folder": "data", "absent": [], "images": 2, "held_out_only": False, "limit": 2}
    assert cli.main(["models", "evaluate", "nobody", "--settings", "own.toml", "--data", "data"]) == 2
    assert "in " + str(tmp_path / "bundles") + ": tiny-cxr" in capfd.readouterr().err
    assert cli.main(["models", "compare", "--help"]) == 0
    assert "firstlook models compare" in capfd.readouterr().out


def test_a_package_that_is_not_there_is_named_with_the_places(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_module(tmp_path / "models", "nothing", []) == 2
    said = capsys.readouterr().err
    assert "models.nothing is not here" in said and str(tmp_path / "models") in said and "infer.models_dir" in said


def test_training_without_torch_names_the_lock(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    for command in ("train", "export"):
        assert cli.main(["models", command, "cxr-pattern", "--data", "x"]) == 2
        assert "requirements/train.lock" in capsys.readouterr().err


def test_training_commands_are_passed_on_with_their_options(capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    assert cli.main(["models", "train", "--help"]) == 0
    assert "--fold" in capfd.readouterr().out
    assert cli.main(["models", "export", "cxr-lungs", "--run", "x"]) == 2
    assert "the following arguments are required: --data" in capfd.readouterr().err
    assert cli.main(["models", "export", "nobody", "--run", "x", "--data", "y"]) == 2
    assert "invalid choice: 'nobody'" in capfd.readouterr().err


def test_the_worked_example_of_the_readme_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:
    readme = (MODELS / "README.md").read_text(encoding="utf-8")
    example = readme.split("<!-- example: begin -->")[1].split("<!-- example: end -->")[0]
    recipe, script, commands = re.findall(r"```[a-z]*\n(.*?)```", example, re.S)
    assert tomllib.loads(recipe)["bundle"]["task"] == "cxr-classification"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FIRSTLOOK_INFER__MODELS_DIR", str(tmp_path / "models"))
    brightness_cxr(tmp_path, "made").model_path.rename(tmp_path / "my-net.onnx")
    Path("my-net.toml").write_text(recipe)
    exec(script, {})
    data = Path("DATA/cxr")
    data.mkdir(parents=True)
    (data / "labels.csv").write_text("file,Pneumonia,no_finding\na.png,1,0\nb.png,0,1\n")
    for name, grey in (("a", 250), ("b", 5)):
        cv2.imwrite(str(data / f"{name}.png"), np.full((SIDE, SIDE), grey, np.uint8))
    for line in commands.strip().splitlines():
        assert line.startswith("firstlook models ")
        assert cli.main(line.split()[1:]) == 0, (line, capfd.readouterr())
    said = capfd.readouterr().out
    assert "made models/my-net" in said and "ok    my-net" in said and '"bundle"' in said
