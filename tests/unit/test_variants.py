"""A bundle's further ONNX files: named in the manifest, checked, used where they are for, and spoken of by their digest."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest

from service.domain.identity import device_uid
from service.domain.manifest import InvalidManifest, Manifest, read_manifest
from service.domain.study import RadiographImage
from service.domain.variant import Precision, Use
from service.infer.catalogue import Catalogue
from service.infer.cxr import CxrTransform, assess_cxr
from service.infer.engine import Engine
from service.infer.processor import multiplies_bytes
from service.verify import verify
from tests.tiny_bundles import brightness_cxr, threshold_ct

WHOLE = CxrTransform(lambda grey: grey[np.newaxis, np.newaxis], lambda evidence, rows, columns: evidence)


def add(manifest: Manifest, precision: str, use: str, scale: float = 1.0) -> Manifest:
    """Give a bundle another file: the same rule, its constant "one" scaled, so that its answers tell it apart."""
    model = onnx.load(str(manifest.model_path))
    for tensor in model.graph.initializer:
        if tensor.name == "one":
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.array(scale, np.float32), "one"))
    model.doc_string = precision
    content = model.SerializeToString()
    (manifest.folder / f"model.{precision}.onnx").write_bytes(content)
    with (manifest.folder / "manifest.toml").open("a") as file:
        file.write(f'\n[variants.{precision}]\nsha256 = "{hashlib.sha256(content).hexdigest()}"\nuse = "{use}"\n')
    return read_manifest(manifest.folder)


def score_of_nothing(engine: Engine) -> float:
    return float(engine.run("tiny-cxr", {"image": np.zeros((1, 1, 4, 4), np.float32)})["probabilities"][0, 0])


def test_manifest_names_the_file_of_each_place(tmp_path: Path) -> None:
    plain = brightness_cxr(tmp_path)
    assert plain.variant_for(Use.CPU) == plain.variant_for(Use.GPU) == plain.variants[0]
    add(plain, "int8", "cpu")
    manifest = add(plain, "fp16", "")
    assert [v.file_name for v in manifest.variants] == ["model.onnx", "model.int8.onnx", "model.fp16.onnx"]
    assert manifest.variant_for(Use.CPU).precision is Precision.INT8
    assert manifest.variant_for(Use.GPU).precision is Precision.FP32
    assert manifest.variant_of(Precision.FP16).use is Use.NOWHERE


@pytest.mark.parametrize(("text", "words"), [
    ('[variants.int4]\nsha256 = "0"', "variants.int4 is unknown; accepted: int8, fp16"),
    ('[variants.int8]\nuse = "cpu"', "variants.int8 must be a table of sha256 and use"),
    ('[variants.int8]\nsha256 = "0"\nspeed = 2', "variants.int8 must be a table of sha256 and use"),
    ('[variants]\nint8 = "0"', "variants.int8 must be a table of sha256 and use"),
    ('[variants.int8]\nsha256 = "0"\nuse = "tpu"', 'variants.int8.use is \'tpu\'; accepted: "cpu" | "gpu"'),
    ('[variants.int8]\nsha256 = "0"\nuse = "cpu"\n[variants.fp16]\nsha256 = "0"\nuse = "cpu"', "for the cpu; accepted: one"),
])
def test_a_mistake_in_variants_is_named(tmp_path: Path, text: str, words: str) -> None:
    folder = threshold_ct(tmp_path).folder
    with (folder / "manifest.toml").open("a") as file:
        file.write(f"\n{text}\n")
    with pytest.raises(InvalidManifest) as caught:
        read_manifest(folder)
    assert words in str(caught.value)


def test_each_file_is_checked_by_its_sha256(tmp_path: Path) -> None:
    manifest = add(brightness_cxr(tmp_path), "int8", "cpu")
    Catalogue.load(tmp_path)
    (manifest.folder / "model.int8.onnx").write_bytes(manifest.model_path.read_bytes())
    with pytest.raises(InvalidManifest, match=r"model.int8.onnx: sha256 is .* the manifest says"):
        Catalogue.load(tmp_path)
    (manifest.folder / "model.int8.onnx").unlink()
    with pytest.raises(InvalidManifest, match=r"model.int8.onnx: cannot be read"):
        Catalogue.load(tmp_path)


@pytest.mark.parametrize(("precision", "use", "asked", "ran"), [
    ("int8", "cpu", "auto", 2.0), ("int8", "cpu", "fp32", 1.0), ("int8", "", "auto", 1.0), ("int8", "", "int8", 2.0),
    ("fp16", "gpu", "auto", 1.0), ("fp16", "gpu", "int8", 1.0),
])
def test_engine_runs_the_file_for_its_device_unless_another_is_asked_for(
    tmp_path: Path, precision: str, use: str, asked: str, ran: float,
) -> None:
    add(brightness_cxr(tmp_path), precision, use, scale=2.0)
    engine = Engine(Catalogue.load(tmp_path), "cpu", threads=1, precision=asked, eight_bits=lambda: True)
    assert score_of_nothing(engine) == ran


@pytest.mark.parametrize(("asked", "ran"), [("auto", 1.0), ("int8", 2.0)])
def test_a_processor_that_cannot_multiply_bytes_gets_model_onnx_unless_int8_is_asked_for(
    tmp_path: Path, asked: str, ran: float,
) -> None:
    manifest = add(brightness_cxr(tmp_path), "int8", "cpu", scale=2.0)
    engine = Engine(Catalogue.load(tmp_path), "cpu", threads=1, precision=asked, eight_bits=lambda: False)
    assert score_of_nothing(engine) == ran
    assert (engine.identity("tiny-cxr").digest == manifest.sha256) is (asked == "auto")


@pytest.mark.parametrize(("line", "able"), [
    ("flags\t\t: fpu avx2 avx512f avx512_vnni", True), ("flags\t\t: fpu avx2 avx_vnni", True),
    ("Features\t: fp asimddp", True),
    ("flags\t\t: fpu avx2 avx512f", False), ("model name\t: avx_vnni", False),
])
def test_what_a_processor_can_do_is_read_from_its_flags(tmp_path: Path, line: str, able: bool) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{line}\n")
    assert multiplies_bytes(tmp_path / "cpuinfo") is able


def test_results_name_the_digest_of_the_file_that_ran(tmp_path: Path) -> None:
    manifest = add(brightness_cxr(tmp_path), "int8", "cpu")
    image = RadiographImage("1.2.3", np.full((8, 8), 0.3, np.float32))
    said = {asked: assess_cxr([image], Engine(
        Catalogue.load(tmp_path), "cpu", 1, precision=asked, eight_bits=lambda: True), manifest, WHOLE).bundle
            for asked in ("auto", "fp32")}
    assert said["fp32"].digest == manifest.sha256
    assert said["auto"].digest == manifest.others[0].sha256 != manifest.sha256
    assert said["auto"].device_uid == device_uid(manifest.others[0].sha256)


@pytest.mark.parametrize("threads", [1, 3])
def test_work_is_spread_and_comes_back_in_order(tmp_path: Path, threads: int) -> None:
    brightness_cxr(tmp_path)
    engine = Engine(Catalogue.load(tmp_path), "cpu", threads)
    found = engine.spread("tiny-cxr", lambda run, n: float(
        run({"image": np.full((1, 1, 4, 4), n / 64, np.float32)})["probabilities"][0, 1]), range(40))
    assert found == pytest.approx([n / 64 for n in range(40)])


def test_a_session_that_is_loaded_is_asked_not_another(tmp_path: Path) -> None:
    brightness_cxr(tmp_path)
    engine = Engine(Catalogue.load(tmp_path), "cpu", 2)
    assert engine.batch("tiny-cxr") == 4 and list(engine.providers()) == ["tiny-cxr"]


def test_an_error_while_work_is_spread_comes_out(tmp_path: Path) -> None:
    brightness_cxr(tmp_path)
    engine = Engine(Catalogue.load(tmp_path), "cpu", 2)
    begun = []

    def work(run: object, number: int) -> None:
        begun.append(number)
        if number == 3:
            raise ValueError("the fourth")

    with pytest.raises(ValueError, match="the fourth"):
        engine.spread("tiny-cxr", work, range(2_000))
    assert len(begun) < 2_000


def test_verify_reproduces_golden_cases_with_every_file(tmp_path: Path) -> None:
    manifest = brightness_cxr(tmp_path)
    grey = np.full((16, 16), 51, np.uint8)
    image = np.full((1, 1, 16, 16), 0.2, np.float32)
    answers = Engine(Catalogue.load(tmp_path), "cpu", 1).run(manifest.name, {"image": image})
    (manifest.folder / "golden").mkdir()
    np.savez(manifest.folder / "golden" / "case-1.npz", grey=grey, image=image, **answers)
    (manifest.folder / "MODEL_CARD.md").write_text(manifest.sha256)
    near = add(manifest, "int8", "cpu", scale=1.01)
    found = verify(manifest.folder)
    assert not found.problems and f"int8 {near.others[0].sha256[:12]}" in found.detail
    add(manifest, "fp16", "gpu", scale=1.5)
    problem, = verify(manifest.folder).problems
    assert problem.startswith("model.fp16.onnx: case-1.npz: probabilities differs by") and "accepted: 0.004" in problem
    (manifest.folder / "model.int8.onnx").write_bytes(b"no model")
    damaged = verify(manifest.folder).problems
    assert any(p.startswith("sha256 of model.int8.onnx") for p in damaged)
    assert any(p.startswith("model.int8.onnx cannot be loaded") for p in damaged)
