"""A manifest is read whole or refused with the file, the key and what is accepted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from service.assemble.choose import choose
from service.assemble.geometry import GeometryRules
from service.domain.manifest import Accepts, Aggregate, Gate, InvalidManifest, Placement, read_manifest
from service.errors import Reason, UnusableStudy
from service.pipeline.accept import require_accepted
from tests.tiny_bundles import band_gate, density_ct, threshold_ct
from tests.unit.test_assemble_geometry import slices


def test_placement_is_what_a_session_takes(tmp_path: Path) -> None:
    assert threshold_ct(tmp_path).placement == Placement(gpus=0.25, cpus=1.0)
    file = tmp_path / "tiny-ct" / "manifest.toml"
    file.write_text(f"{file.read_text()}\n[placement]\ngpus = 0.5\ncpus = 2\n")
    assert read_manifest(file.parent).placement == Placement(gpus=0.5, cpus=2.0)


@pytest.mark.parametrize(("old", "new", "words"), [
    ('task = "ct-segmentation"', 'task = "ct-guess"', ["ct-guess", "ct-segmentation, ct-classification"]),
    ('code = "OPACITY"', 'code = "SHADOW"', ["SHADOW", "codes.py"]),
    ('urgency = "urgent"', 'urgency = "soon"', ["soon", "stat, urgent, routine, low"]),
    ("threshold = 0.5", "threshold = 1.5", ["1.5", "0..1"]),
    ('version = "1.0.0"', "", ["'version' is missing"]),
    ('name = "tiny-ct"', 'name = "other"', ["'other'", "'tiny-ct'"]),
    ("[input]", "[input", ["not valid TOML"]),
    ("[input]", "[accepts]\nviews = 1\n[input]", ["accepts.views", "least_slices"]),
    ("[input]", "[accepts]\nleast_slices = -1\n[input]", ["accepts.least_slices", "-1"]),
    ("[input]", '[accepts]\nleast_age_years = "adult"\n[input]', ["accepts.least_age_years", "adult"]),
    ("[input]", '[accepts]\nmost_unfamiliarity = "low"\n[input]', ["accepts.most_unfamiliarity", "low"]),
    ("[input]", "[placement]\nnodes = 1\n[input]", ["placement.nodes", "gpus, cpus"]),
    ("[input]", "[placement]\ngpus = 2\n[input]", ["placement.gpus is 2", "at most 1"]),
    ("[input]", "[placement]\ncpus = true\n[input]", ["placement.cpus is True", "a number over 0"]),
    ('task = "ct-segmentation"', 'task = "cxr-quality"', ["parameters.gate", '"require" | "refuse" | "note"']),
])
def test_a_mistake_is_named(tmp_path: Path, old: str, new: str, words: list[str]) -> None:
    folder = threshold_ct(tmp_path).folder
    file = folder / "manifest.toml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    with pytest.raises(InvalidManifest) as caught:
        read_manifest(folder)
    for word in ["manifest.toml", *words]:
        assert word in str(caught.value)


@pytest.mark.parametrize(("accepts", "reason"), [
    (Accepts(("CT",), 12, 2.5), None),
    (Accepts(), None),
    (Accepts(("MR",)), Reason.NO_MODEL),
    (Accepts(least_slices=13), Reason.TOO_FEW_SLICES),
    (Accepts(most_slice_spacing_mm=2.0), Reason.SLICES_TOO_THICK),
])
def test_a_bundle_reads_only_what_it_accepts(tmp_path: Path, accepts: Accepts, reason: Reason | None) -> None:
    manifest = replace(threshold_ct(tmp_path), accepts=accepts)
    selection = choose(slices(12, modality="CT"), GeometryRules(5, 5.0), lambda one, other: True)
    if reason is None:
        require_accepted(manifest, selection)
        return
    with pytest.raises(UnusableStudy) as caught:
        require_accepted(manifest, selection)
    assert caught.value.reason is reason and manifest.name in caught.value.detail


@pytest.mark.parametrize(("make", "old", "new", "words"), [
    (band_gate, 'frontal = "require"', 'front = "require"', ["parameters.gate.front", "frontal, lateral"]),
    (band_gate, 'frontal = "require"', 'frontal = "maybe"', ["'maybe'", '"require" | "refuse" | "note"']),
    (density_ct, 'rule = "mean_of_top"', 'rule = "max"', ["parameters.aggregate", "mean_of_top"]),
    (density_ct, "share = 0.3", "share = 3", ["parameters.aggregate.share", "0..1"]),
    (density_ct, "share = 0.3", "part = 0.3", ["parameters.aggregate", "least_lung_share"]),
])
def test_a_mistake_in_the_parameters_of_a_task_is_named(  # type: ignore[no-untyped-def]
    tmp_path: Path, make, old: str, new: str, words: list[str],
) -> None:
    folder = make(tmp_path).folder
    file = folder / "manifest.toml"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(InvalidManifest) as caught:
        read_manifest(folder)
    assert all(word in str(caught.value) for word in words)


def test_gate_and_aggregate_are_read(tmp_path: Path) -> None:
    assert band_gate(tmp_path).gate["frontal"] is Gate.REQUIRE
    assert density_ct(tmp_path, aggregate="share = 0.5\nleast_lung_share = 0.1").aggregate == Aggregate(
        "mean_of_top", 0.5, 0.1)
