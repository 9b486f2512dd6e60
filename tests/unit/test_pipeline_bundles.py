"""Which bundles look at a study, what the settings may put where, and what is remembered of duplicates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from service.assemble.choose import choose
from service.assemble.geometry import GeometryRules
from service.checks import require_tasks
from service.domain.manifest import Accepts
from service.domain.study import Selection
from service.errors import Reason, UnusableStudy
from service.infer.catalogue import Catalogue
from service.infer.golden import shape_problems
from service.pipeline.accept import accepting
from service.pipeline.compared import Comparison
from service.settings import InvalidSettings, Settings
from service.store.studies import StoredImage
from tests.builders import radiograph, write
from tests.contracts.assessed import header
from tests.tiny_bundles import band_gate, brightness_cxr, dark_lungs, density_ct, spot_cxr, threshold_ct
from tests.unit.test_assemble_geometry import slices

ALL = (threshold_ct, density_ct, brightness_cxr, spot_cxr, band_gate, dark_lungs)


def ct_selection() -> Selection:
    return choose(slices(12, modality="CT"), GeometryRules(5, 5.0), lambda one, other: True)


def test_a_bundle_that_may_not_read_a_study_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    thin = replace(threshold_ct(tmp_path), accepts=Accepts(most_slice_spacing_mm=1.0))
    willing, notes = accepting([thin, density_ct(tmp_path)], ct_selection())
    assert [m.name for m in willing] == ["tiny-pattern"]
    (note,) = notes
    assert note.startswith(f"tiny-ct did not read this study: {Reason.SLICES_TOO_THICK.sentence}")


def test_when_no_bundle_may_the_first_ones_reason_is_the_studys(tmp_path: Path) -> None:
    few = replace(threshold_ct(tmp_path), accepts=Accepts(least_slices=50))
    other = replace(density_ct(tmp_path), accepts=Accepts(modality=("MR",)))
    with pytest.raises(UnusableStudy) as caught:
        accepting([few, other], ct_selection())
    assert caught.value.reason is Reason.TOO_FEW_SLICES


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    folder = tmp_path_factory.mktemp("models")
    for make in ALL:
        make(folder)
    return Catalogue.load(folder)


def of(**infer: object) -> Settings:
    return Settings.model_validate({"infer": {"ct_bundles": [], "cxr_bundles": [], "cxr_gate": "", "cxr_lungs": ""} | infer})


def test_every_bundle_fits_the_place_of_its_task(catalogue: Catalogue) -> None:
    settings = of(ct_bundles=["tiny-ct", "tiny-pattern"], cxr_bundles=["tiny-cxr", "tiny-findings"], cxr_gate="tiny-gate",
                  cxr_lungs="tiny-lungs")
    require_tasks(settings, catalogue)
    assert settings.infer.bundles == (
        "tiny-ct", "tiny-pattern", "tiny-cxr", "tiny-findings", "tiny-gate", "tiny-lungs")


@pytest.mark.parametrize(("infer", "words"), [
    ({"ct_bundles": ["tiny-cxr"]}, ["infer.ct_bundles", "tiny-cxr", "ct-segmentation, ct-classification"]),
    ({"cxr_bundles": ["tiny-gate"]}, ["infer.cxr_bundles", "tiny-gate", "cxr-classification"]),
    ({"cxr_gate": "tiny-lungs"}, ["infer.cxr_gate", "cxr-quality"]),
    ({"cxr_lungs": "tiny-cxr"}, ["infer.cxr_lungs", "cxr-segmentation"]),
])
def test_a_bundle_in_the_wrong_place_is_named(catalogue: Catalogue, infer: dict[str, object], words: list[str]) -> None:
    with pytest.raises(InvalidSettings) as caught:
        require_tasks(of(**infer), catalogue)
    assert all(word in str(caught.value) for word in words)


def test_a_bundle_that_is_not_installed_is_named(catalogue: Catalogue) -> None:
    with pytest.raises(UnusableStudy, match="other"):
        require_tasks(of(cxr_gate="other"), catalogue)


@pytest.mark.parametrize("names", [["a", "a"], ["a", ""]])
def test_a_bundle_named_twice_or_not_at_all_is_refused(names: list[str]) -> None:
    with pytest.raises(ValidationError, match="named twice, or has no name"):
        of(cxr_bundles=names)


@pytest.mark.parametrize("make", ALL)
def test_shapes_of_every_task_are_checked(make, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    manifest = make(tmp_path)
    assert shape_problems(manifest) == []
    assert shape_problems(replace(manifest, outputs=manifest.outputs[:1])) != []


def test_a_limit_of_unfamiliarity_needs_the_output(tmp_path: Path) -> None:
    limit = Accepts(most_unfamiliarity=2.0)
    assert shape_problems(replace(spot_cxr(tmp_path), accepts=limit)) == []
    (problem,) = shape_problems(replace(brightness_cxr(tmp_path), accepts=limit))
    assert "no output unfamiliarity" in problem


def test_duplicates_are_decoded_once(tmp_path: Path) -> None:
    images = [radiograph(), radiograph(instance=2), radiograph(instance=3, image=radiograph().pixel_array / 9000)]
    paths = write(images, tmp_path)
    stored = [StoredImage(header(ds), path.name, path.name * 8) for ds, path in zip(images, paths, strict=True)]
    comparison = Comparison(tmp_path)
    one, two, three = (s.header for s in stored)
    assert comparison.of(stored)(one, two) and not comparison.of(stored)(one, three)
    for path in paths:
        path.unlink()
    assert comparison.of(stored)(two, one) and not comparison.of(stored)(three, one)
    with pytest.raises(OSError, match="0001"):
        comparison.of(stored)(two, three)
