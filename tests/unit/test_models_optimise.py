"""firstlook models optimise: a file is adopted only where no figure falls and, for int8, where it is faster."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.training.guarded import Figures
from models.training.quantise import RECIPES, Recipe, to_fp16, to_int8
from models.training.variants import judged, main, optimise, times_faster
from service.domain.manifest import Manifest, read_manifest
from service.domain.variant import Precision, Use, Variant
from service.infer.catalogue import Catalogue
from tests.tiny_bundles import brightness_cxr
from tests.tiny_data import radiographs, sick, well

pytest.importorskip("sympy")


@pytest.fixture
def bundle(tmp_path: Path) -> Manifest:
    return brightness_cxr(tmp_path / "models")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return radiographs(tmp_path / "data", [
        *(sick(200 + 5 * n, patient=f"s{n}") for n in range(6)), *(well(20 + 5 * n, patient=f"w{n}") for n in range(6))])


def fast(manifest: Manifest, variant: Variant, tensors: np.ndarray) -> float:
    return 2.0


def convolutions(path: Path) -> Path:
    """Write a network of a first, a depthwise and a last convolution, and a scaling of the last."""
    random = np.random.default_rng(0)
    shapes = {"w1": (8, 1, 3, 3), "w2": (8, 1, 3, 3), "w3": (2, 8, 1, 1)}
    weights = [numpy_helper.from_array(random.normal(size=s).astype(np.float32), n) for n, s in shapes.items()]
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["a"], "first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("Conv", ["b", "w2"], ["c"], "depthwise", pads=[1, 1, 1, 1], group=8),
        helper.make_node("Conv", ["c", "w3"], ["d"], "last"),
        helper.make_node("Mul", ["d", "half"], ["answer"], "scale"),
    ]
    tensors = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s)
               for n, s in (("image", ["n", 1, 8, 8]), ("answer", ["n", 2, 8, 8]))]
    graph = helper.make_graph(nodes, "net", tensors[:1], tensors[1:], [
        *weights, numpy_helper.from_array(np.array(0.5, np.float32), "half")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    return path


def answer(path: Path, images: np.ndarray) -> np.ndarray:
    found: np.ndarray = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(
        None, {"image": images})[0]
    return found


@pytest.mark.parametrize(("recipe", "count"), [(RECIPES[0], 3), (RECIPES[1], 1), (RECIPES[2], 0), (RECIPES[3], 1)])
def test_int8_leaves_out_what_the_recipe_says(tmp_path: Path, recipe: Recipe, count: int) -> None:
    plain = convolutions(tmp_path / "plain.onnx")
    images = np.random.default_rng(1).random((6, 1, 8, 8), dtype=np.float32)
    to_int8(plain, tmp_path / "int8.onnx", images, recipe)
    model = onnx.load(str(tmp_path / "int8.onnx"))
    made_by = {name: node.op_type for node in model.graph.node for name in node.output}
    convolved = [n for n in model.graph.node if n.op_type == "Conv" and made_by.get(n.input[1]) == "DequantizeLinear"]
    assert len(convolved) == count
    scales = {t.name: t.dims for t in model.graph.initializer if t.name.startswith("w") and t.name.endswith("_scale")}
    assert all(len(dims) == 1 and dims[0] > 1 for dims in scales.values()), "a scale for each channel"
    wanted = answer(plain, images)
    assert np.abs(answer(tmp_path / "int8.onnx", images) - wanted).max() < 0.05 * np.abs(wanted).max()


def test_fp16_keeps_its_inputs_and_outputs(tmp_path: Path) -> None:
    plain = convolutions(tmp_path / "plain.onnx")
    to_fp16(plain, tmp_path / "fp16.onnx")
    model = onnx.load(str(tmp_path / "fp16.onnx"))
    kinds = {v.type.tensor_type.elem_type for v in (*model.graph.input, *model.graph.output)}
    assert kinds == {TensorProto.FLOAT}
    assert {t.data_type for t in model.graph.initializer} == {TensorProto.FLOAT16}


def test_figures_that_hold_and_speed_adopt_both_files(bundle: Manifest, data: Path) -> None:
    found = optimise(bundle, data, calibrate=4, timer=fast)
    manifest = read_manifest(bundle.folder)
    assert [(v.precision, v.use) for v in manifest.others] == [(Precision.INT8, Use.CPU), (Precision.FP16, Use.GPU)]
    assert len(Catalogue.load(bundle.folder.parent)) == 1, "every sha256 is that of its file"
    assert manifest.outputs == bundle.outputs and manifest.parameters == bundle.parameters
    kept = json.loads((bundle.folder / "figures.json").read_text())["variants"]
    assert kept == json.loads(json.dumps(found)) and kept["int8"][-1]["adopted"] and kept["images"] == 12
    assert len(kept["calibration_images"]) == 4 and "may have been trained on" in kept["note"]
    assert kept["int8"][-1]["sha256"] == hashlib.sha256((bundle.folder / "model.int8.onnx").read_bytes()).hexdigest()


def test_a_file_that_is_not_faster_is_left_out(bundle: Manifest, data: Path) -> None:
    found = optimise(bundle, data, calibrate=4, timer=lambda *_: 1.01)
    assert len(found["int8"]) == len(RECIPES) and not any(t["adopted"] for t in found["int8"])
    assert "not faster" in found["int8"][0]["why"]
    assert [v.precision for v in read_manifest(bundle.folder).others] == [Precision.FP16]
    assert not (bundle.folder / "model.int8.onnx").exists()


@pytest.mark.parametrize(("figures", "faster", "adopted", "why"), [
    ({"AUC": 0.9, "accuracy": 0.7952}, 1.05, True, "adopted for the cpu"),
    ({"AUC": 0.95, "accuracy": 0.794}, 2.0, False, "accuracy gets worse by 0.0060"),
    ({"AUC": 0.9}, 2.0, False, "accuracy gets worse by 1.8000"),
    ({"AUC": 0.9, "accuracy": 0.8}, 1.04, False, "not faster"),
    ({"AUC": 0.9, "accuracy": 0.8}, None, True, "adopted"),
])
def test_a_figure_that_falls_leaves_the_file_out(
    bundle: Manifest, figures: dict[str, float], faster: float | None, adopted: bool, why: str,
) -> None:
    (bundle.folder / "model.int8.onnx").write_bytes(b"12345")
    trial = judged("made", bundle, Variant(Precision.INT8, "0", Use.CPU), Figures({"AUC": 0.9, "accuracy": 0.8}), figures,
                   faster)
    assert trial.adopted is adopted and why in trial.why and trial.bytes == 5


def test_ranges_are_of_training_images_and_figures_of_held_out_ones(bundle: Manifest, data: Path) -> None:
    held = [f"images/{n:03}.png" for n in (0, 1, 10, 11)]
    (bundle.folder / "held_out.json").write_text(json.dumps({"images": held}))
    found = optimise(bundle, data, calibrate=5, timer=fast)
    assert found["images"] == 4 and found["note"].startswith("Figures on held-out images")
    assert len(found["calibration_images"]) == 5 and not set(held) & set(found["calibration_images"])


def test_a_file_that_does_not_give_a_golden_case_again_is_left_out(bundle: Manifest, data: Path) -> None:
    (bundle.folder / "golden").mkdir()
    image = np.full((1, 1, 16, 16), 0.2, np.float32)
    said = np.array([[0.8, 0.2, 0.0]], np.float32) + np.float32(0.1)  # not what model.onnx says
    np.savez(bundle.folder / "golden" / "case-1.npz", grey=np.full((16, 16), 51, np.uint8), image=image,
             probabilities=said, activation=np.zeros((1, 3, 1, 1), np.float32))
    found = optimise(bundle, data, calibrate=4, timer=fast)
    assert "golden" not in str(found["fp32"]) and found["fp16"]["why"].startswith("left out: ")
    assert not found["fp16"]["adopted"] and not read_manifest(bundle.folder).others


def test_running_it_again_replaces_the_files(bundle: Manifest, data: Path) -> None:
    optimise(bundle, data, calibrate=4, timer=fast)
    optimise(read_manifest(bundle.folder), data, calibrate=4, timer=lambda *_: 0.5)
    assert [v.precision for v in read_manifest(bundle.folder).others] == [Precision.FP16]
    assert (bundle.folder / "manifest.toml").read_text().count("[variants") == 2


def test_a_file_beside_itself_is_about_as_fast(bundle: Manifest) -> None:
    content = bundle.model_path.read_bytes()
    (bundle.folder / "model.int8.onnx").write_bytes(content)
    variant = Variant(Precision.INT8, hashlib.sha256(content).hexdigest(), Use.CPU)
    assert 0.2 < times_faster(bundle, variant, np.zeros((4, 1, 32, 32), np.float32)) < 5


@pytest.mark.parametrize("arguments", [["nothing", "--data", "."], ["tiny-cxr", "--data", "nowhere"]])
def test_wrong_usage_is_said(bundle: Manifest, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--models", str(bundle.folder.parent), *arguments]) == 2
    assert capsys.readouterr().err.startswith("firstlook: ")
