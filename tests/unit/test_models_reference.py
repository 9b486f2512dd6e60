"""The reference of a bundle is measured on what is like that which it is given in service."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.evaluation import __main__ as command
from models.evaluation.evaluate import Request
from models.evaluation.reference import reference_of, write_reference
from models.evaluation.score_table import table_from
from service.domain.drift import read_reference
from service.domain.manifest import InvalidManifest, Manifest, read_manifest
from tests.tiny_bundles import brightness_cxr
from tests.tiny_data import radiographs, sick, well
from tests.tiny_tasks import gate

ROOT = Path(__file__).parents[2]


@pytest.fixture
def bundle(tmp_path: Path) -> Manifest:
    return brightness_cxr(tmp_path / "models", "tiny-cxr")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Sixty dark images without a finding and sixty bright ones with one."""
    rows = [*(well(20 + n % 20) for n in range(60)), *(sick(220 + n % 20) for n in range(60))]
    return radiographs(tmp_path / "data", rows)


def test_inputs_and_scores_are_binned_and_read_back(bundle: Manifest, data: Path, tmp_path: Path) -> None:
    assert command.main(["--models", str(bundle.folder.parent), "reference", "tiny-cxr", "--data", str(data)]) == 0
    made = read_reference(bundle.folder)
    assert made is not None and (made.digest, made.images, made.held_out) == (bundle.sha256, 120, False)
    assert set(made.bins) == {"input mean", "input spread", "input detail", "score no_finding", "score pneumonia",
                              "score covid19"}
    brightness = made.bins["score pneumonia"]  # the score is the mean brightness
    assert brightness.counts == (60, 60) and 40 / 255 < brightness.edges[0] < 221 / 255
    assert made.bins["input mean"].edges == pytest.approx(brightness.edges, abs=1e-4)


def test_what_was_held_out_alone_counts_where_that_is_told(bundle: Manifest, data: Path) -> None:
    rows = [f"images/{n:03}.png" for n in range(20, 120)]
    (bundle.folder / "held_out.json").write_text(json.dumps({"images": rows}))
    made = reference_of(bundle, Request(data))
    assert (made.images, made.held_out) == (100, True) and sum(made.bins["input mean"].counts) == 100


def test_out_of_fold_scores_take_the_place_of_those_trained_on(bundle: Manifest, data: Path) -> None:
    score = np.linspace(0.4, 0.6, 200)
    table = table_from({"classes": ["pneumonia"], "y_true": np.ones((200, 1)), "y_score": score[:, None]})
    made = reference_of(bundle, Request(data), table)
    assert made.held_out and made.bins["score pneumonia"].edges == pytest.approx((0.45, 0.5, 0.55), abs=2e-3)
    assert sum(made.bins["score covid19"].counts) == 120
    other = table_from({"classes": ["mass"], "y_true": np.ones((200, 1)), "y_score": score[:, None]})
    with pytest.raises(InvalidManifest, match="the table of scores is of mass; accepted: covid19"):
        reference_of(bundle, Request(data), other)


def test_a_gate_is_measured_on_radiographs_as_they_are(tmp_path: Path, data: Path) -> None:
    made = reference_of(gate(tmp_path / "models"), Request(data))
    assert made.images == 120 and "score frontal" in made.bins


def test_too_few_images_are_refused(bundle: Manifest, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--models", str(bundle.folder.parent), "reference", "tiny-cxr", "--data", str(data),
                         "--limit", "99"]) == 2
    assert "99 images" in capsys.readouterr().err and read_reference(bundle.folder) is None
    assert command.main(["--models", str(bundle.folder.parent), "reference", "tiny-cxr", "--data", str(data / "none")]) == 2


def test_what_a_reference_lacks_is_added_and_the_rest_stays(bundle: Manifest, data: Path) -> None:
    score = np.linspace(0.4, 0.6, 200)[:, None]
    table = table_from({"classes": ["pneumonia"], "y_true": np.ones((200, 1)), "y_score": score})
    first = reference_of(bundle, Request(data), table)
    write_reference(bundle, replace(first, bins={k: v for k, v in first.bins.items() if k != "input detail"}))
    assert command.main(["--models", str(bundle.folder.parent), "reference", "tiny-cxr", "--data", str(data), "--add"]) == 0
    assert read_reference(bundle.folder) == first, "scores stay those out of fold"


def test_nothing_is_added_to_the_reference_of_other_weights(
    bundle: Manifest, data: Path, capsys: pytest.CaptureFixture[str],
) -> None:
    ask = ["--models", str(bundle.folder.parent), "reference", "tiny-cxr", "--data", str(data), "--add"]
    assert command.main(ask) == 2 and read_reference(bundle.folder) is None
    write_reference(bundle, replace(reference_of(bundle, Request(data)), digest="0" * 64))
    assert command.main(ask) == 2
    assert "no reference.json of these weights" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["ct-lung-infection", "ct-pattern", "cxr-findings", "cxr-pattern", "cxr-quality"])
def test_shipped_references_are_of_the_shipped_weights_and_hold_every_measure(name: str) -> None:
    manifest = read_manifest(ROOT / "models" / name)
    reference = read_reference(manifest.folder)
    assert reference is not None and reference.digest == manifest.sha256
    assert set(reference.bins) == {"input mean", "input spread", "input detail", "unfamiliarity",
                                   *(f"score {o.name}" for o in manifest.outputs)}
