"""Two bundles on the same images: paired differences, agreement and speed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from models.evaluation.__main__ import main
from models.evaluation.compare import compare
from models.evaluation.evaluate import Request
from service.domain.manifest import Manifest, read_manifest
from tests.tiny_bundles import brightness_cxr, threshold_ct
from tests.tiny_data import radiographs, sick, well
from tests.tiny_tasks import covid_slices, findings, gate, lung_fields
from tests.unit.test_models_evaluate import ct_data
from tests.unit.test_models_tasks import lungs_data, nih_data, paper_slices

ROWS = [sick(), sick(100), sick(140), sick(200), well(), well(160), well(90), well(10)]


def test_a_bundle_does_not_differ_from_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = radiographs(tmp_path / "data", ROWS)
    folder = str(brightness_cxr(tmp_path).folder)
    assert main(["compare", folder, folder, "--data", str(data), "--json", "--resamples", "100"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["figures"] and {p["difference"] for p in told["figures"]} == {0.0}
    assert all(p["low"] in (None, 0.0) and p["high"] in (None, 0.0) for p in told["figures"])
    assert {f["value"] for f in told["agreement"]} == {1.0} and len(told["agreement"]) == 3
    assert told["latency"]["ratio"] > 0 and told["only_in_one"] == [] and told["data"]["images"] == 8


def test_ct_bundles_are_compared_slice_by_slice(tmp_path: Path) -> None:
    one, other = threshold_ct(tmp_path, "one"), threshold_ct(tmp_path, "other")
    found = compare(one, other, Request(ct_data(tmp_path / "data"), resamples=50))
    assert {p.difference for p in found.figures} == {0.0}
    assert [(f.of, f.value) for f in found.agreement] == [("slice over the threshold", 1.0)]


def test_figures_of_other_images_are_not_set_side_by_side(tmp_path: Path) -> None:
    rows = [*ROWS, {"grey": 230, "covid19": 1, "no_finding": 0, "Pneumonia": ""}]
    data = radiographs(tmp_path / "data", rows)
    one, other = brightness_cxr(tmp_path, "one"), brightness_cxr(tmp_path, "other")
    file = other.folder / "manifest.toml"
    file.write_text(file.read_text().replace('name = "covid19"', 'name = "mass"').replace('COVID_19_PNEUMONIA', "OPACITY"))
    found = compare(one, read_manifest(other.folder), Request(data, resamples=20))
    assert {p.name for p in found.figures if p.of == "pneumonia"} == {"AUC", "sensitivity", "specificity"}
    assert "accuracy" not in {p.name for p in found.figures} and "radiographs, all, accuracy" in found.only_in_one
    assert "radiographs, all, AUC, covid19" in found.only_in_one


def test_a_lower_threshold_shows_in_sensitivity_and_agreement_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:
    data = radiographs(tmp_path / "data", ROWS)
    one, other = brightness_cxr(tmp_path, "one"), brightness_cxr(tmp_path, "other")
    file = other.folder / "manifest.toml"
    file.write_text(file.read_text().replace('name = "pneumonia"\nindex = 1\nthreshold = 0.5',
                                             'name = "pneumonia"\nindex = 1\nthreshold = 0.3'))
    assert main(["compare", str(one.folder), str(other.folder), "--data", str(data), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    of = {(p["name"], p["of"]): p for p in told["figures"] if p["subset"] == "all"}
    assert of["sensitivity", "pneumonia"]["a"] == 0.75 and of["sensitivity", "pneumonia"]["b"] == 1.0
    assert of["sensitivity", "pneumonia"]["difference"] == -0.25 and of["sensitivity", "pneumonia"]["low"] < -0.25
    assert of["specificity", "pneumonia"]["difference"] == 0.25 and of["AUC", "pneumonia"]["difference"] == 0.0
    kappas = {f["of"]: f["value"] for f in told["agreement"]}
    assert kappas["pneumonia over its threshold"] == pytest.approx((0.75 - 0.5) / 0.5)
    assert kappas["most probable class"] == 1.0
    assert main(["compare", str(one.folder), str(other.folder), "--data", str(data), "--resamples", "20"]) == 0
    assert "kappa" in capsys.readouterr().out


def with_int8(folder: Path) -> Manifest:
    """A bundle whose file in int8 answers as the network of `other_rule` does: it sees brightness half."""
    bundle = findings(folder, (-1, 1, 0, -1), (1, 0, 0.5, 1))
    half = findings(folder, (-0.5, 0.5, 0, -0.5), (1, 0, 0.5, 1), "half")
    content = half.model_path.read_bytes()
    (bundle.folder / "model.int8.onnx").write_bytes(content)
    with (bundle.folder / "manifest.toml").open("a") as file:
        file.write(f'[variants.int8]\nsha256 = "{hashlib.sha256(content).hexdigest()}"\nuse = "cpu"\n')
    return read_manifest(bundle.folder)


def test_the_onnx_files_of_one_bundle_are_compared_with_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:
    bundle, data = with_int8(tmp_path), nih_data(tmp_path)
    given = ["--data", str(data), "--resamples", "20"]
    assert main(["compare", str(bundle.folder), *given, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [b["precision"] for b in told["bundles"]] == ["fp32", "int8"]
    assert told["bundles"][0]["sha256"] == bundle.sha256 != told["bundles"][1]["sha256"]
    of = {(p["name"], p["of"]): p for p in told["figures"] if p["subset"] == "all"}
    assert (of["sensitivity", "Effusion"]["a"], of["sensitivity", "Effusion"]["b"]) == (1.0, 0.0)
    assert of["AUC", "Effusion"]["difference"] == 0.0
    assert set(told["latency"]["files_ms"]) == {f"{x}, tiny-findings:{p}" for x in "ab" for p in ("fp32", "int8")}
    assert main(["compare", str(bundle.folder), *given]) == 0
    assert "tiny-findings:int8" in " ".join(capsys.readouterr().out.split())


def test_a_file_is_chosen_by_its_precision_and_is_that_of_the_cpu_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:
    bundle, data = with_int8(tmp_path), nih_data(tmp_path)
    for said, precision, sensitivity in (("", "int8", 0.0), (":fp32", "fp32", 1.0), (":int8", "int8", 0.0)):
        command = ["evaluate", f"{bundle.folder}{said}", "--data", str(data), "--resamples", "5", "--json"]
        assert main(command) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["bundle"]["precision"] == precision
        assert {f["value"] for f in told["figures"]
                if (f["name"], f["of"], f["subset"]) == ("sensitivity", "Effusion", "all")} == {sensitivity}
    assert main(["evaluate", f"{bundle.folder}:fp16", "--data", str(data)]) == 2
    assert "has no fp16 file; it has fp32, int8" in capsys.readouterr().err


def test_one_bundle_with_one_file_has_nothing_to_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, data = str(findings(tmp_path).folder), str(nih_data(tmp_path))
    assert main(["compare", folder, "--data", data]) == 2
    assert "model.onnx only" in capsys.readouterr().err
    assert main(["compare", folder, folder, folder, "--data", data]) == 2


@pytest.mark.parametrize("make", [gate, lung_fields, covid_slices])
def test_bundles_of_every_task_do_not_differ_from_themselves(make: Callable[..., Manifest], tmp_path: Path) -> None:
    data = paper_slices(lungs_data(tmp_path))
    one, other = make(tmp_path, "one"), make(tmp_path, "other")
    found = compare(one, other, Request(data, resamples=10, limit=3))
    assert found.figures and {p.difference for p in found.figures} == {0.0} and found.only_in_one == []
    assert all(f.value == 1.0 for f in found.agreement)
