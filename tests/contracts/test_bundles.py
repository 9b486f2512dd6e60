"""Every bundle keeps the contract of models/README.md: whole, checkable, and answering as it did when it was made."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from service.demo.run import STUDIES
from service.domain import codes
from service.domain.manifest import READERS, TASKS, Manifest, read_manifest
from service.infer.golden import golden_cases, golden_problems, shape_problems
from service.prepare import ct, cxr
from service.prepare.display import to_grey
from service.settings import Settings
from service.verify import prepare, verify

MODELS = Path(__file__).parents[2] / "models"
BUNDLES = sorted(path.parent.name for path in MODELS.glob("*/manifest.toml"))
LARGEST_MODEL_BYTES, LARGEST_GOLDEN_BYTES = 45_000_000, 1_500_000


def of_task(task: str) -> list[Manifest]:
    return [m for m in map(read_manifest, (MODELS / name for name in BUNDLES)) if m.task == task]


@pytest.fixture(params=BUNDLES)
def manifest(request: pytest.FixtureRequest) -> Manifest:
    return read_manifest(MODELS / request.param)


def session(manifest: Manifest) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(manifest.model_path), providers=["CPUExecutionProvider"])


def exclusive(manifest: Manifest) -> int:
    """How many of the first outputs exclude each other, so that their probabilities add up to one."""
    if manifest.task == "cxr-quality":
        return 3  # frontal, lateral, other
    return 0 if manifest.parameters.get("independent") else len(manifest.outputs)


def test_six_bundles_are_there_and_those_that_the_settings_name_are_in_their_place() -> None:
    infer = Settings().infer
    assert BUNDLES == ["ct-lung-infection", "ct-pattern", "cxr-findings", "cxr-lungs", "cxr-pattern", "cxr-quality"]
    tasks = {name: read_manifest(MODELS / name).task for name in infer.bundles}
    assert {tasks[name] for name in infer.cxr_bundles} == {"cxr-classification"}
    assert all(tasks[name].startswith("ct-") for name in infer.ct_bundles)
    assert [tasks[name] for name in (infer.cxr_gate, infer.cxr_lungs) if name] == [
        task for name, task in ((infer.cxr_gate, "cxr-quality"), (infer.cxr_lungs, "cxr-segmentation")) if name]


def test_the_manifest_names_the_model_file_by_its_checksum(manifest: Manifest) -> None:
    assert hashlib.sha256(manifest.model_path.read_bytes()).hexdigest() == manifest.sha256


def test_every_step_of_the_manifest_is_known(manifest: Manifest) -> None:
    assert manifest.steps
    assert set(manifest.steps) <= set(ct.STEPS if manifest.task.startswith("ct-") else cxr.STEPS)


def test_outputs_are_numbered_in_order_and_a_finding_has_code_and_threshold(manifest: Manifest) -> None:
    assert [output.index for output in manifest.outputs] == list(range(len(manifest.outputs)))
    for output in manifest.outputs:
        if output.urgency is not None:
            assert output.code is not None
            assert 0.0 < output.threshold < 1.0
    assert any(output.code for output in manifest.outputs) is (manifest.task in READERS)


def test_no_finding_never_asks_for_urgency(manifest: Manifest) -> None:
    assert all(output.urgency is None for output in manifest.outputs if output.code == codes.NO_FINDING)


def test_the_network_has_the_inputs_and_outputs_of_its_task(manifest: Manifest) -> None:
    assert shape_problems(manifest) == []


def test_golden_cases_reproduce(manifest: Manifest) -> None:
    assert golden_cases(manifest)
    assert golden_problems(manifest, prepare) == []


def test_the_bundle_verifies(manifest: Manifest) -> None:
    assert verify(manifest.folder).problems == []


def test_probabilities_of_what_excludes_each_other_sum_to_one_and_a_batch_changes_nothing(manifest: Manifest) -> None:
    run = session(manifest)
    (given,) = run.get_inputs()
    case = dict(np.load(golden_cases(manifest)[0]))[given.name]
    batch = np.concatenate([case, case * 0.5, case])
    together = run.run(["probabilities"], {given.name: batch})[0]
    alone = run.run(["probabilities"], {given.name: case})[0]
    assert together.min() >= 0.0 and together.max() <= 1.0
    if count := exclusive(manifest):
        np.testing.assert_allclose(together[:, :count].sum(axis=1), 1.0, atol=1e-4)
    np.testing.assert_allclose(together[[0, 2]], np.concatenate([alone, alone]), atol=1e-4)


@pytest.mark.parametrize("manifest", of_task("cxr-classification") + of_task("ct-classification"), ids=lambda m: m.name)
def test_evidence_for_classes_that_exclude_each_other_speaks_for_one_against_the_others(manifest: Manifest) -> None:
    run = session(manifest)
    (given,) = run.get_inputs()
    for path in golden_cases(manifest):
        activation = run.run(["activation"], {given.name: dict(np.load(path))[given.name]})[0]
        assert np.isfinite(activation).all() and np.ptp(activation, axis=(2, 3)).min() > 0
        if exclusive(manifest):
            np.testing.assert_allclose(activation.sum(axis=1), 0.0, atol=1e-3 * np.abs(activation).max())


@pytest.mark.parametrize("manifest", [m for task in TASKS for m in of_task(task) if task.startswith("cxr")],
                         ids=lambda m: m.name)
def test_real_radiographs_are_familiar(manifest: Manifest) -> None:
    run = session(manifest)
    limit = manifest.accepts.most_unfamiliarity
    assert limit > 1
    for path in sorted((STUDIES / "cxr").glob("*.dcm")):
        tensor = cxr.image_tensor(to_grey(path)[0].grey, manifest.parameters, manifest.steps)
        assert float(run.run(["unfamiliarity"], {"image": tensor})[0][0]) <= limit, path.name


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
    measured = figures["cross_validation"]["figures"]
    assert any(row["subset"] == "all" for row in measured)
    for row in measured:
        interval = "" if row["low"] is None else f" ({row['low']:.3f} to {row['high']:.3f})"
        assert f" {row['value']:.3f}{interval} |" in card, row
    plain = {name: value for name, value in figures.items() if isinstance(value, int | float)}
    assert manifest.figures == pytest.approx(plain, abs=1e-5)


def test_models_readme_lists_every_bundle() -> None:
    readme = (MODELS / "README.md").read_text(encoding="utf-8")
    for name in BUNDLES:
        assert f"`{name}`" in readme
