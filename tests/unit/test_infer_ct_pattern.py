"""CT classes: which slices count, how they become a study, and what is said of it."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from service.domain.finding import Assessment, Finding, Presence
from service.domain.manifest import InvalidManifest, Manifest
from service.domain.study import CtVolume, VolumeGeometry
from service.errors import EngineUnavailable, Reason, UnusableStudy
from service.infer.catalogue import Catalogue
from service.infer.ct_pattern import class_probability, classify_ct, mean_of_top
from service.infer.engine import Engine
from tests.tiny_bundles import density_ct

UIDS = [f"1.2.{k}" for k in range(10)]


def volume(*soft: float) -> CtVolume:
    """Slices of 10 x 10 at -800 HU, of which the given shares are at -100 HU."""
    hu = np.full((len(soft), 10, 10), -800, np.float32)
    for k, share in enumerate(soft):
        hu[k].ravel()[:round(100 * share)] = -100
    return CtVolume(hu, VolumeGeometry(tuple(5.0 * k for k in range(len(soft))), (5.0, 1.0, 1.0), (1, 0, 0, 0, 1, 0),
                                       (0, 0, 1), 10, 10, "1.9"))


def raw(hu: NDArray[np.float32]) -> NDArray[np.float32]:
    return hu[:, np.newaxis]


def said(folder: Path, of: CtVolume, lung: NDArray[np.int64] | None = None, **bundle: object) -> Assessment:
    manifest = density_ct(folder, **bundle)  # type: ignore[arg-type]
    engine = Engine(Catalogue.load(folder), "cpu", threads=2)
    return classify_ct(of, engine, manifest, raw, ("given",), UIDS, lung)


def by_name(assessment: Assessment) -> dict[str, Finding]:
    return {f.name: f for f in assessment.findings}


def test_a_class_has_the_mean_of_its_highest_slices_and_names_the_highest(tmp_path: Path) -> None:
    assessment = said(tmp_path, volume(0, 0.1, 0.3, 0.2, 0, 0, 0, 0, 0, 0))
    covid = by_name(assessment)["covid19"]
    assert covid.probability == pytest.approx(0.2) and covid.presence is Presence.PRESENT
    assert covid.sop_instance_uid == "1.2.2" and covid.urgency == "stat"
    assert by_name(assessment)["other_abnormal"].presence is Presence.ABSENT
    assert assessment.limitations == ("given",) and assessment.bundle.name == "tiny-pattern"


def test_no_finding_has_the_least_normal_slices_and_is_absent_beside_a_finding(tmp_path: Path) -> None:
    normal = by_name(said(tmp_path, volume(0, 0.1, 0.3, 0.2, 0, 0, 0, 0, 0, 0)))["normal"]
    assert normal.probability == pytest.approx(0.8)
    assert (normal.presence, normal.sop_instance_uid) == (Presence.ABSENT, "1.2.2")


def test_without_a_finding_no_finding_is_present(tmp_path: Path) -> None:
    found = by_name(said(tmp_path, volume(*[0] * 10)))
    assert found["normal"].presence is Presence.PRESENT and found["covid19"].presence is Presence.ABSENT


def test_slices_with_little_lung_do_not_count(tmp_path: Path) -> None:
    lung = np.array([0, 100, 100, 19, 20, 100, 100, 100, 100, 100])
    found = by_name(said(tmp_path, volume(1, 0, 0, 1, 0.5, 0, 0, 0, 0, 0), lung, aggregate="share = 0.1"))
    assert found["covid19"].probability == pytest.approx(0.5) and found["covid19"].sop_instance_uid == "1.2.4"


def test_without_masks_of_lung_all_slices_count(tmp_path: Path) -> None:
    found = by_name(said(tmp_path, volume(1, 0, 0, 0, 0, 0, 0, 0, 0, 0), aggregate="share = 0.1"))
    assert found["covid19"].probability == pytest.approx(1.0)


@pytest.mark.parametrize(("count", "share", "lowest", "mean"), [
    (10, 0.3, False, 8.0), (10, 0.3, True, 1.0), (3, 0.1, False, 2.0), (10, 1.0, False, 4.5), (1, 0.3, True, 0.0)])
def test_mean_of_top(count: int, share: float, lowest: bool, mean: float) -> None:
    assert mean_of_top(np.arange(count, dtype=np.float64), share, lowest) == mean


@pytest.mark.parametrize(("table", "probability"), [
    (None, 0.2),
    ({"intercept": -1.0, "slope": 5.0}, 0.5),
    ({"feature": "logit_score", "intercept": 0.0, "slope": 1.0}, 0.2),
    ({"feature": "logit_score", "intercept": math.log(4), "slope": 1.0}, 0.5),
    ({"covid19": {"intercept": -1.0, "slope": 5.0}}, 0.5),
    ({"other": {"intercept": -1.0, "slope": 5.0}}, 0.2),
])
def test_a_curve_makes_a_probability_of_a_score(table: object, probability: float) -> None:
    assert class_probability(0.2, "covid19", {"study_probability": table}) == pytest.approx(probability)


@pytest.mark.parametrize(("table", "words"), [
    ({"feature": "age", "intercept": 0.0, "slope": 1.0}, "'age' is unknown"), ({"slope": 1.0}, "intercept"),
    ({"intercept": "a", "slope": 1.0}, "intercept")])
def test_a_curve_that_cannot_be_used_is_named(table: object, words: str) -> None:
    with pytest.raises(InvalidManifest, match=words):
        class_probability(0.2, "covid19", {"study_probability": table})


def test_a_volume_is_refused_when_its_median_slice_is_unfamiliar(tmp_path: Path) -> None:
    odd = volume(*[0] * 10)
    odd.hu[:4] = 3000
    assert said(tmp_path / "few", odd, most_unfamiliarity=0.3).findings
    odd.hu[:6] = 3000
    with pytest.raises(UnusableStudy) as caught:
        said(tmp_path / "most", odd, most_unfamiliarity=0.3)
    assert caught.value.reason is Reason.UNFAMILIAR_IMAGE and "tiny-pattern accepts up to 0.3" in caught.value.detail


def test_an_output_of_another_size_is_an_engine_error(tmp_path: Path) -> None:
    manifest: Manifest = density_ct(tmp_path)
    engine = Engine(Catalogue.load(tmp_path), "cpu", threads=1)
    fewer = replace(manifest, outputs=manifest.outputs[:2])
    with pytest.raises(EngineUnavailable, match="does not fit its manifest"):
        classify_ct(volume(0, 0), engine, fewer, raw)
