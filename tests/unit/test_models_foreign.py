"""Models of other projects become bundles: MONAI bundles, TorchXRayVision state dicts, and graphs that need a change."""

from __future__ import annotations

import json
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from models.evaluation.__main__ import main
from models.evaluation.onnx_graph import Refused, changed
from models.evaluation.take_in import take_in
from service import cli
from service.domain.manifest import read_manifest
from service.verify import verify

LUNGS = """
limitations = ["for tests only"]
[bundle]
version = "0.1.0"
title = "Lung fields of somebody"
task = "cxr-segmentation"
[input]
steps = ["resize"]
[parameters]
rows_px = 32
columns_px = 32
margin_fraction = 0.0
[graph]
output = "softmax"
[[outputs]]
name = "background"
index = 0
[[outputs]]
name = "lung"
index = 1
"""


def logits_net(path: Path, given: str = "image_in", answer: str = "pred") -> Path:
    """A graph with two channels: -x and x."""
    nodes = [helper.make_node("Neg", [given], ["minus"]), helper.make_node("Concat", ["minus", given], [answer], axis=1)]
    shapes = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", c, 32, 32]) for n, c in ((given, 1), (answer, 2))]
    graph = helper.make_graph(nodes, "net", shapes[:1], shapes[1:])
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    return path


def metadata(**changes: Any) -> dict[str, Any]:
    image = {"type": "image", "num_channels": 1, "spatial_shape": [32, 32], "value_range": [-1, 1]}
    image |= changes.get("image", {})
    scores = {"type": "image", "num_channels": 2, "channel_def": {"0": "background", "1": "lung"}, **changes.get("pred", {})}
    layout = {"inputs": {"image_in": image}, "outputs": {"pred": scores}, **changes.get("layout", {})}
    return {"version": "0.3.0", "network_data_format": layout}


def monai(folder: Path, script: bool = False, **changes: Any) -> Path:
    """A MONAI bundle's folder with that network."""
    (folder / "configs").mkdir(parents=True)
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata(**changes)))
    if script:
        torch = pytest.importorskip("torch")

        class Net(torch.nn.Module):  # type: ignore[misc, name-defined]
            def forward(self, x):  # type: ignore[no-untyped-def]
                return torch.cat([-x, x], dim=1)

        (folder / "models").mkdir()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            torch.jit.trace(Net(), torch.rand(1, 1, 32, 32)).save(str(folder / "models" / "model.ts"))
    else:
        logits_net(folder / "models" / "model.onnx")
    return folder


def imported(model: Path, folder: Path, recipe: str = LUNGS) -> Path:
    """Import with a golden image that is dark on the left and bright on the right; returns the bundle."""
    (folder / "r.toml").write_text(recipe)
    grey = np.zeros((64, 64), np.uint8)
    grey[:, 32:] = 255
    np.savez(folder / "in.npz", grey=grey)
    out = folder / "models" / "theirs"
    assert take_in(model, folder / "r.toml", folder / "in.npz", out) == []
    return out


@pytest.mark.parametrize("kind", ["onnx", "zip", "script"])
def test_a_monai_bundle_becomes_a_bundle_with_the_range_it_was_trained_on(kind: str, tmp_path: Path) -> None:
    model = monai(tmp_path / "lungs_monai", script=kind == "script")
    if kind == "zip":
        with zipfile.ZipFile(tmp_path / "lungs.zip", "w") as archive:
            for path in sorted(model.rglob("*")):
                archive.write(path, f"lungs_monai/{path.relative_to(model)}")
        model = tmp_path / "lungs.zip"
    out = imported(model, tmp_path)
    assert verify(out).problems == []
    with np.load(out / "golden" / "case-1.npz") as case:
        lung = case["probabilities"][0, 1]
    bright, dark = 1 / (1 + np.exp(-2.0)), 1 / (1 + np.exp(2.0))
    assert lung[:, 20:] == pytest.approx(bright, abs=1e-3) and lung[:, :12] == pytest.approx(dark, abs=1e-3)


@pytest.mark.parametrize(("changes", "words"), [
    ({"image": {"num_channels": 3}}, "reads 3 channels; needed: 1"),
    ({"image": {"spatial_shape": [32, 32, 32]}}, "reads 3 axes"),
    ({"image": {"spatial_shape": [64, 32]}}, "rows_px is 32; the model reads 64"),
    ({"pred": {"num_channels": 4}}, "gives 4 channels, the recipe has 2 outputs"),
    ({"pred": {"channel_def": {"0": "background", "1": "spleen"}}}, "output 1 of the MONAI bundle is 'spleen'"),
    ({"layout": {"inputs": {"a": {}, "b": {}}}}, r"has 2 inputs \(a, b\)"),
    ({"layout": {"inputs": None}}, "network_data_format with one input"),
])
def test_a_monai_bundle_that_does_not_fit_is_refused(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=words):
        imported(monai(tmp_path / "m", **changes), tmp_path)
    assert not (tmp_path / "models" / "theirs").exists()


def test_a_folder_or_zip_that_is_no_monai_bundle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.zip").write_bytes(b"no zip")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme", "x")
    for name, words in (("empty", "no configs/metadata.json"), ("bad.zip", "not a readable zip"), ("other.zip", "no MONAI")):
        with pytest.raises(Refused, match=words):
            imported(tmp_path / name, tmp_path)
    folder = monai(tmp_path / "m")
    (folder / "models" / "model.onnx").unlink()
    with pytest.raises(Refused, match=r"neither models/model.onnx nor models/model.ts"):
        imported(folder, tmp_path)


def test_a_script_that_is_none_is_refused(tmp_path: Path) -> None:
    folder = monai(tmp_path / "m", script=True)
    (folder / "models" / "model.ts").write_bytes(b"no script")
    with pytest.raises(Refused, match="cannot be turned into ONNX"):
        imported(folder, tmp_path)


@pytest.mark.parametrize(("table", "expected"), [
    ({"input_from": [-1000, 500], "input_range": [0, 1]}, 0.6), ({"input_range": [-5, 5]}, -1005.0),
    ({"input_range": [0, 2]}, -200.0),
])
def test_the_range_of_the_input_is_put_into_the_graph(table: dict[str, Any], expected: float, tmp_path: Path) -> None:
    model = logits_net(tmp_path / "net.onnx", "image", "probabilities")
    changed(model, table, {}, "image", tmp_path / "out.onnx")
    session = onnxruntime.InferenceSession((tmp_path / "out.onnx").read_bytes(), providers=["CPUExecutionProvider"])
    found = session.run(None, {"image": np.full((2, 1, 32, 32), -100, np.float32)})[0]
    assert found[:, 1] == pytest.approx(expected, rel=1e-5) and found[:, 0] == pytest.approx(-expected, rel=1e-5)


@pytest.mark.parametrize(("table", "words"), [
    ({"output": "tanh"}, "accepted: probabilities, softmax, sigmoid"), ({"input_range": [1, 0]}, "low below high"),
    ({"input_from": "x"}, "input_from is 'x'"), ({"last": "softmax"}, "'last' is unknown"),
    ({"input_range": [0, 2]}, "needs an input 'slices'"), ({"output": "softmax"}, "needs an output 'probabilities'"),
])
def test_a_change_that_cannot_be_made_is_refused(table: dict[str, Any], words: str, tmp_path: Path) -> None:
    model = logits_net(tmp_path / "net.onnx")
    with pytest.raises(Refused, match=words):
        changed(model, table, {}, "slices", tmp_path / "out.onnx")


def test_a_graph_that_fits_is_copied_byte_by_byte(tmp_path: Path) -> None:
    model = logits_net(tmp_path / "net.onnx")
    changed(model, {}, {}, "image", tmp_path / "out.onnx")
    assert (tmp_path / "out.onnx").read_bytes() == model.read_bytes()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch announces the end of its TorchScript
@pytest.mark.parametrize("name", ["monai", "densenet"])
def test_the_worked_examples_of_the_readme_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("torch")
    readme = (Path(__file__).parents[2] / "models" / "README.md").read_text(encoding="utf-8")
    example = readme.split(f"<!-- {name}: begin -->")[1].split(f"<!-- {name}: end -->")[0]
    recipe, script, commands = re.findall(r"```[a-z]*\n(.*?)```", example, re.S)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FIRSTLOOK_INFER__MODELS_DIR", str(tmp_path / "models"))
    exec(script, {})
    lines = commands.strip().splitlines()
    Path(lines[0].split("--recipe ")[1].split()[0]).write_text(recipe)
    for line in lines:
        assert line.startswith("firstlook models ")
        assert cli.main(line.split()[1:]) == 0, (line, capfd.readouterr())
    assert f"ok    {lines[1].split()[-1]}" in capfd.readouterr().out


XRV = """
limitations = ["for tests only"]
[bundle]
version = "0.1.0"
title = "Findings of a network trained elsewhere"
task = "cxr-classification"
[input]
steps = ["resize"]
[parameters]
rows_px = 224
columns_px = 224
margin_fraction = 0.0
saliency_floor = 1.0
[weights]
network = "torchxrayvision-densenet121"
classes = ["Effusion", "Pneumonia"]
[[outputs]]
name = "effusion"
index = 0
code = "PLEURAL_EFFUSION"
threshold = 0.5
urgency = "urgent"
[[outputs]]
name = "pneumonia"
index = 1
code = "PNEUMONIA"
threshold = 0.5
urgency = "urgent"
"""


def state(path: Path, **changes: Any) -> Any:
    """Write a state dict of that network with random weights; returns the network."""
    torch = pytest.importorskip("torch")
    from models.training.densenet121 import DenseNet121

    torch.manual_seed(0)
    network = DenseNet121(18).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 1.5)
    torch.save({**network.state_dict(), **changes}, path)
    return network


def test_the_densenet_has_the_parameters_that_are_published(tmp_path: Path) -> None:
    network = state(tmp_path / "w.pt")
    shapes = {k: tuple(v.shape) for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    assert len(shapes) == 606 and sum(p.numel() for p in network.parameters()) == 6_966_034
    assert shapes["features.conv0.weight"] == (64, 1, 7, 7) and shapes["classifier.weight"] == (18, 1024)
    assert shapes["features.denseblock3.denselayer24.conv1.weight"] == (128, 992, 1, 1)
    assert shapes["features.transition2.conv.weight"] == (256, 512, 1, 1) and shapes["features.norm5.bias"] == (1024,)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch announces the end of its TorchScript
def test_a_state_dict_becomes_a_bundle_that_answers_as_the_network_does(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    points = torch.full((18,), 0.2)
    points[8] = torch.nan
    network = state(tmp_path / "w.pt", op_threshs=points)
    out = imported(tmp_path / "w.pt", tmp_path, XRV)
    manifest = read_manifest(out)
    assert verify(out).problems == [] and manifest.parameters["independent"] is True
    with np.load(out / "golden" / "case-1.npz") as case:
        image, found, maps = case["image"], case["probabilities"], case["activation"]
    with torch.no_grad():
        logits = network(torch.from_numpy(image) * 2048 - 1024)[0].numpy()[[7, 8]]
    given = 1 / (1 + np.exp(-logits.astype(float)))
    effusion = given[0] / 0.4 if given[0] < 0.2 else 1 - (1 - given[0]) / 1.6
    np.testing.assert_allclose(found[0], [effusion, given[1]], atol=1e-3)
    assert maps.shape == (1, 2, 7, 7)
    np.testing.assert_allclose(maps.mean(axis=(2, 3))[0], logits, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize(("old", "new", "words"), [
    ('"Pneumonia"]', '"Nausea"]', "'Nausea'; the network has: Atelectasis"), (', "Pneumonia"]', "]", "classes names 1"),
    ("rows_px = 224", "rows_px = 320", "rows_px is 320; the model reads 224"),
    ('network = "torchxrayvision-densenet121"', 'network = "resnet"', "must say"),
    ('task = "cxr-classification"', 'task = "cxr-quality"', "for the task cxr-classification"),
])
def test_a_recipe_that_does_not_fit_the_densenet_is_refused(old: str, new: str, words: str, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    (tmp_path / "w.pt").write_bytes(b"")
    assert old in XRV
    with pytest.raises(Refused, match=words):
        imported(tmp_path / "w.pt", tmp_path, XRV.replace(old, new))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch announces the end of its TorchScript
@pytest.mark.parametrize(("content", "words"), [
    (b"no weights", "not a state dict"), ({"classifier.weight": 3}, r"classifier\.weight is missing"),
    ("short", r"parameters differ from those of a DenseNet-121, the first: features\.conv0\.weight is \(3,\)"),
])
def test_weights_of_another_network_are_refused(content: Any, words: str, tmp_path: Path, capsys: Any) -> None:
    torch = pytest.importorskip("torch")
    path = tmp_path / "w.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "short":
        state(path, **{"features.conv0.weight": torch.zeros(3)})
    else:
        torch.save(content, path)
    with pytest.raises(Refused, match=words):
        imported(path, tmp_path, XRV)
    (tmp_path / "in2.npz").write_bytes((tmp_path / "in.npz").read_bytes())
    assert main(["import", str(path), "--recipe", str(tmp_path / "r.toml"), "--golden", str(tmp_path / "in2.npz"), "--out",
                 str(tmp_path / "models" / "x")]) == 1
    assert capsys.readouterr().err.startswith("firstlook: ")
