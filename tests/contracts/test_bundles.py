"""Every bundle keeps the contract of models/README.md: whole, checkable, and answering as it did when it was made."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from service.domain import codes
from service.domain.manifest import Manifest, read_manifest
from service.infer.golden import golden_cases, golden_problems, shape_problems
from service.prepare import ct, cxr
from service.verify import prepare, verify

MODELS = Path(__file__).parents[2] / "models"
BUNDLES = sorted(path.parent.name for path in MODELS.glob("*/manifest.toml"))
STEPS = {"ct-segmentation": ct.STEPS, "cxr-classification": cxr.STEPS}
LARGEST_MODEL_BYTES, LARGEST_GOLDEN_BYTES = 20_000_000, 1_500_000


def of_task(task: str) -> list[Manifest]:
    return [m for m in map(read_manifest, (MODELS / name for name in BUNDLES)) if m.task == task]


@pytest.fixture(params=BUNDLES)
def manifest(request: pytest.FixtureRequest) -> Manifest:
    return read_manifest(MODELS / request.param)


def session(manifest: Manifest) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(manifest.model_path), providers=["CPUExecutionProvider"])


def test_both_bundles_are_there() -> None:
    assert BUNDLES == ["ct-lung-infection", "cxr-pattern"]


def test_the_manifest_names_the_model_file_by_its_checksum(manifest: Manifest) -> None:
    assert hashlib.sha256(manifest.model_path.read_bytes()).hexdigest() == manifest.sha256


def test_every_step_of_the_manifest_is_known(manifest: Manifest) -> None:
    assert manifest.steps
    assert set(manifest.steps) <= set(STEPS[manifest.task])


def test_outputs_are_numbered_in_order_and_a_finding_has_code_and_threshold(manifest: Manifest) -> None:
    assert [output.index for output in manifest.outputs] == list(range(len(manifest.outputs)))
    for output in manifest.outputs:
        if output.urgency is not None:
            assert output.code is not None
            assert 0.0 < output.threshold < 1.0
    assert any(output.urgency for output in manifest.outputs)


def test_no_finding_never_asks_for_urgency(manifest: Manifest) -> None:
    assert all(output.urgency is None for output in manifest.outputs if output.code == codes.NO_FINDING)


def test_the_network_has_the_inputs_and_outputs_of_its_task(manifest: Manifest) -> None:
    assert shape_problems(manifest) == []


def test_golden_cases_reproduce(manifest: Manifest) -> None:
    assert golden_cases(manifest)
    assert golden_problems(manifest, prepare) == []


def test_the_bundle_verifies(manifest: Manifest) -> None:
    assert verify(manifest.folder).problems == []


def test_probabilities_sum_to_one_and_a_batch_changes_nothing(manifest: Manifest) -> None:
    run = session(manifest)
    (given,) = run.get_inputs()
    case = dict(np.load(golden_cases(manifest)[0]))[given.name]
    batch = np.concatenate([case, case * 0.5, case])
    together = run.run(["probabilities"], {given.name: batch})[0]
    alone = run.run(["probabilities"], {given.name: case})[0]
    np.testing.assert_allclose(together.sum(axis=1), 1.0, atol=1e-4)
    np.testing.assert_allclose(together[[0, 2]], np.concatenate([alone, alone]), atol=1e-4)


@pytest.mark.parametrize("manifest", of_task("cxr-classification"), ids=lambda m: m.name)
def test_a_class_probability_follows_from_the_mean_of_its_evidence_map(manifest: Manifest) -> None:
    run = session(manifest)
    case = dict(np.load(golden_cases(manifest)[0]))["image"]
    probabilities, activation = run.run(["probabilities", "activation"], {"image": case})
    logits = activation.mean(axis=(2, 3))
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities, expected, atol=1e-4)


@pytest.mark.parametrize("manifest", of_task("ct-segmentation"), ids=lambda m: m.name)
def test_the_study_probability_grows_with_the_infected_fraction(manifest: Manifest) -> None:
    curve = manifest.parameters["study_probability"]
    assert curve["feature"] == "log_infected_fraction"
    assert curve["slope"] > 0
    assert 0 < curve["epsilon"] < 0.01


def test_files_stay_small(manifest: Manifest) -> None:
    assert manifest.model_path.stat().st_size < LARGEST_MODEL_BYTES
    assert sum(path.stat().st_size for path in golden_cases(manifest)) < LARGEST_GOLDEN_BYTES


def test_the_card_says_research_use_only_and_belongs_to_these_weights(manifest: Manifest) -> None:
    card = (manifest.folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "research use only" in card.lower()
    assert manifest.sha256 in card
    for heading in ("Intended use", "Not for", "Training data and licences", "Figures", "Known shortcuts"):
        assert f"## {heading}" in card
    for limitation in manifest.limitations:
        assert limitation in card


def test_the_card_and_the_manifest_show_the_measured_figures(manifest: Manifest) -> None:
    card = (manifest.folder / "MODEL_CARD.md").read_text(encoding="utf-8")
    figures = json.loads((manifest.folder / "figures.json").read_text(encoding="utf-8"))
    shown = ("infection_dice_mean", "lung_dice_lesion_cases") if manifest.task == "ct-segmentation" else ("accuracy",)
    for name in shown:
        assert f"{figures[name]:.3f}" in card
        assert manifest.figures[name] == pytest.approx(figures[name], abs=1e-5)


def test_models_readme_lists_every_bundle() -> None:
    readme = (MODELS / "README.md").read_text(encoding="utf-8")
    for name in BUNDLES:
        assert f"`{name}`" in readme
