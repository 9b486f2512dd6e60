"""What the read-out of a CT says about phantoms whose volumes and sides are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from service.domain import codes
from service.domain.finding import Assessment, Presence
from service.domain.manifest import Accepts, InvalidManifest
from service.domain.study import CtVolume, VolumeGeometry
from service.errors import EngineUnavailable, Reason, UnusableStudy
from service.infer.catalogue import Catalogue
from service.infer.ct import assess_ct, study_probability
from service.infer.engine import Engine
from service.infer.extent import tally, zone_score
from service.infer.reading import CtTransform
from tests.builders import Sphere, phantom_hu
from tests.tiny_bundles import threshold_ct

SPACING = (3.0, 2.0, 2.0)
SLICES, SIZE = 60, 128
RAW = CtTransform(lambda hu: hu[:, np.newaxis], lambda values, rows, columns: values)
RIGHT_LUNG = Sphere((90, 128, 77), 50, -850)
LEFT_LUNG = Sphere((90, 128, 179), 45, -850)


def volume_of(*spheres: Sphere, slices: int = SLICES) -> CtVolume:
    hu = phantom_hu(slices, SPACING, SIZE, spheres).astype(np.float32)
    geometry = VolumeGeometry(tuple(3.0 * k for k in range(slices)), SPACING, (1, 0, 0, 0, 1, 0), (0, 0, 1), SIZE, SIZE,
                              "1.2.3")
    return CtVolume(hu, geometry)


def ml(radius_mm: float) -> float:
    return 4 / 3 * np.pi * radius_mm**3 / 1000


@pytest.fixture
def assess(tmp_path: Path):  # type: ignore[no-untyped-def]
    manifest = threshold_ct(tmp_path)
    engine = Engine(Catalogue.load(tmp_path), "cpu", threads=1)

    def run(volume: CtVolume, **more: object) -> Assessment:
        return assess_ct(volume, engine, manifest, RAW, **more)  # type: ignore[arg-type]

    return run


def test_a_ct_whose_median_slice_is_unfamiliar_is_refused(tmp_path: Path) -> None:
    manifest = threshold_ct(tmp_path)
    engine = Engine(Catalogue.load(tmp_path), "cpu", threads=2)
    volume = volume_of(RIGHT_LUNG, LEFT_LUNG)
    median = float(np.median(np.abs(volume.hu).mean(axis=(1, 2)))) / 1000
    for limit in (median * 1.01, 0.0):
        assess_ct(volume, engine, replace(manifest, accepts=Accepts(most_unfamiliarity=limit)), RAW)
    with pytest.raises(UnusableStudy) as caught:
        assess_ct(volume, engine, replace(manifest, accepts=Accepts(most_unfamiliarity=median * 0.99)), RAW)
    assert caught.value.reason is Reason.UNFAMILIAR_IMAGE


def measured(assessment: Assessment) -> dict[str, float]:
    return {m.name: m.value for m in assessment.measurements}


def test_volumes_of_known_spheres_are_measured_within_the_voxels_error(assess) -> None:  # type: ignore[no-untyped-def]
    found = measured(assess(volume_of(RIGHT_LUNG, LEFT_LUNG, Sphere((90, 128, 77), 15, -100))))
    assert found["right lung volume"] == pytest.approx(ml(50), rel=0.01)
    assert found["left lung volume"] == pytest.approx(ml(45), rel=0.01)
    assert found["lung volume"] == pytest.approx(ml(50) + ml(45), rel=0.01)
    assert found["infection volume"] == pytest.approx(ml(15), rel=0.03)
    assert found["right lung involved"] == pytest.approx(100 * ml(15) / ml(50), rel=0.04)
    assert found["left lung involved"] == 0
    assert found["left lung mean attenuation"] == pytest.approx(-850, abs=0.1)
    assert found["infection mean attenuation"] == pytest.approx(-100, abs=0.1)


def test_masks_lie_on_the_source_grid_and_lungs_hold_the_infection(assess) -> None:  # type: ignore[no-untyped-def]
    volume = volume_of(RIGHT_LUNG, LEFT_LUNG, Sphere((90, 128, 179), 15, -100))
    assessment = assess(volume)
    right, left, infection = (assessment.mask(s) for s in assessment.segments)
    assert np.array_equal(infection, volume.hu == -100)
    assert np.array_equal(right | left, (volume.hu == -850) | (volume.hu == -100))
    assert not (right & left).any() and not (infection & ~left).any()


@pytest.mark.parametrize("orientation, turn", [
    ((1, 0, 0, 0, 1, 0), lambda a: a),
    ((-1, 0, 0, 0, 1, 0), lambda a: a[:, :, ::-1]),
    ((-1, 0, 0, 0, -1, 0), lambda a: a[:, ::-1, ::-1]),
    ((0, 1, 0, 1, 0, 0), lambda a: a.swapaxes(1, 2)),
    ((0, 1, 0, -1, 0, 0), lambda a: a.swapaxes(1, 2)[:, ::-1]),
])
def test_sides_follow_the_patient_not_the_picture(assess, orientation, turn) -> None:  # type: ignore[no-untyped-def]
    spheres = (Sphere((90, 120, 77), 50, -850), LEFT_LUNG, Sphere((60, 120, 77), 18, -100))
    upright = volume_of(*spheres)
    normal = np.cross(orientation[:3], orientation[3:])
    hu = turn(upright.hu)[::int(normal[2])]
    positions = tuple(3.0 * k for k in range(SLICES))
    turned = CtVolume(np.ascontiguousarray(hu), replace(
        upright.geometry, orientation=orientation, normal=tuple(normal), positions_mm=positions))
    assessment, reference = assess(turned), assess(upright)
    assert assessment.findings[0].laterality == codes.RIGHT
    assert measured(assessment) == pytest.approx(measured(reference))
    assert np.array_equal(assessment.masks, turn(reference.masks)[::int(normal[2])])


def test_finding_names_side_and_the_slice_with_most_infection(assess) -> None:  # type: ignore[no-untyped-def]
    volume = volume_of(RIGHT_LUNG, LEFT_LUNG, Sphere((75, 128, 77), 20, -100))
    finding, = assess(volume, sop_instance_uids=[f"1.2.{k}" for k in range(SLICES)]).findings
    assert (finding.name, finding.presence, finding.code) == ("infection", Presence.PRESENT, codes.OPACITY)
    assert finding.laterality == codes.RIGHT and finding.urgency == "urgent"
    assert finding.sop_instance_uid == "1.2.25"


def test_infection_on_both_sides_is_bilateral(assess) -> None:  # type: ignore[no-untyped-def]
    both = (Sphere((90, 128, 77), 15, -100), Sphere((90, 128, 179), 15, -100))
    assert assess(volume_of(RIGHT_LUNG, LEFT_LUNG, *both)).findings[0].laterality == codes.BILATERAL


def test_clean_lungs_give_an_absent_finding_without_a_side(assess) -> None:  # type: ignore[no-untyped-def]
    assessment = assess(volume_of(RIGHT_LUNG, LEFT_LUNG))
    assert assessment.findings[0].presence is Presence.ABSENT and assessment.findings[0].laterality is None
    assert measured(assessment)["severity score"] == 0
    assert "infection mean attenuation" not in measured(assessment)


def test_severity_scores_each_zone_by_its_share(assess) -> None:  # type: ignore[no-untyped-def]
    volume = volume_of(RIGHT_LUNG, LEFT_LUNG)
    sick = volume.hu.copy()
    sick[43:, :, 64:][volume.hu[43:, :, 64:] == -850] = -100  # the top of the left lung, which ends at slice 45
    sick[:30, :, :64][volume.hu[:30, :, :64] == -850] = -100  # lower half of the right lung
    found = measured(assess(CtVolume(sick, volume.geometry)))
    assert found["severity score"] == 5 + 3 + 0 + 0 + 1
    zones = ["right upper", "right middle", "right lower", "left upper", "left lower"]
    shares = [found[f"{zone} zone involved"] for zone in zones]
    assert [zone_score(share) for share in shares] == [0, 3, 5, 1, 0]


def test_lungs_that_touch_are_told_apart(assess) -> None:  # type: ignore[no-untyped-def]
    right, left = Sphere((90, 128, 84), 46, -850), Sphere((90, 128, 172), 46, -850)
    found = measured(assess(volume_of(right, left)))
    cap = np.pi * 2**2 * (3 * 46 - 2) / 3 / 1000
    assert found["right lung volume"] == pytest.approx(ml(46) - cap, rel=0.02)
    assert found["left lung volume"] == pytest.approx(ml(46) - cap, rel=0.02)


def test_gas_outside_the_lungs_and_specks_are_dropped(assess) -> None:  # type: ignore[no-untyped-def]
    gas, speck = Sphere((150, 128, 190), 10, -850), Sphere((90, 128, 179), 1.5, -100)
    found = measured(assess(volume_of(RIGHT_LUNG, LEFT_LUNG, gas, speck)))
    assert found["left lung volume"] == pytest.approx(ml(45), rel=0.01)
    assert found["infection volume"] == 0


def test_opacity_outside_the_lungs_is_no_infection(assess) -> None:  # type: ignore[no-untyped-def]
    volume = volume_of(RIGHT_LUNG, LEFT_LUNG)
    volume.hu[30, 60:64, 2:4] = -100
    assert measured(assess(volume))["infection volume"] == 0


def test_vessel_enclosed_by_lung_belongs_to_it(assess) -> None:  # type: ignore[no-untyped-def]
    found = measured(assess(volume_of(RIGHT_LUNG, LEFT_LUNG, Sphere((90, 128, 77), 6, 60))))
    assert found["right lung volume"] == pytest.approx(ml(50), rel=0.01)


def test_scan_that_cuts_the_lungs_gets_a_limitation_and_no_score(assess) -> None:  # type: ignore[no-untyped-def]
    assessment = assess(volume_of(RIGHT_LUNG, LEFT_LUNG, slices=30), limitations=("given",))
    assert assessment.limitations[0] == "given"
    assert assessment.limitations[1].startswith("incomplete coverage: the lungs are cut at the top of the scan")
    assert "severity score" not in measured(assessment)
    assert not any("involved" in name for name in measured(assessment)), "a part of a lung has no percentage"


def test_lungs_that_the_field_of_view_cuts_are_not_covered(assess) -> None:  # type: ignore[no-untyped-def]
    volume = volume_of(RIGHT_LUNG, LEFT_LUNG)
    columns = slice(20, 128)
    narrow = CtVolume(np.ascontiguousarray(volume.hu[:, :, columns]), replace(volume.geometry, columns=108))
    assert not any("incomplete" in text for text in assess(volume).limitations)
    text = next(text for text in assess(narrow).limitations if "incomplete coverage" in text)
    assert "cut at the side of the scan" in text and "severity score" not in measured(assess(narrow))


def test_cut_end_is_named_by_the_patient_not_by_the_order(assess) -> None:  # type: ignore[no-untyped-def]
    volume = volume_of(RIGHT_LUNG, LEFT_LUNG, slices=30)
    down = replace(volume.geometry, orientation=(-1, 0, 0, 0, 1, 0), normal=(0, 0, -1))
    text, = assess(CtVolume(np.ascontiguousarray(volume.hu[:, :, ::-1]), down)).limitations
    assert "cut at the bottom of the scan" in text


@pytest.mark.parametrize("percent, score", [
    (0, 0), (0.1, 1), (4.9, 1), (5, 2), (25, 2), (25.1, 3), (49.9, 3), (50, 4), (75, 4), (75.1, 5), (100, 5),
])
def test_zone_score_by_its_limits(percent: float, score: int) -> None:
    assert zone_score(percent) == score


def test_volume_is_that_of_the_marked_voxels_and_a_missing_slice_adds_none() -> None:
    masks = np.ones((4, 10, 10), np.uint8)
    gapped = VolumeGeometry((0, 5, 15, 20), (5, 2, 2), (1, 0, 0, 0, 1, 0), (0, 0, 1), 10, 10, "1.2")
    found = tally(masks, np.full(masks.shape, -850, np.float32), gapped, ascends=True)
    assert found.ml(bits=1) == pytest.approx(400 * 5 * 2 * 2 / 1000)


def test_where_slice_distances_vary_each_slice_counts_for_its_part_of_the_body() -> None:
    masks = np.zeros((6, 10, 10), np.uint8)
    masks[2:] = 1
    mixed = VolumeGeometry((0, 1, 2, 3, 6, 9), (1, 2, 2), (1, 0, 0, 0, 1, 0), (0, 0, 1), 10, 10, "1.2", varies=True)
    assert mixed.thickness_mm == (1, 1, 1, 2, 3, 3)
    found = tally(masks, np.full(masks.shape, -850, np.float32), mixed, ascends=True)
    assert found.ml(bits=1) == pytest.approx(100 * (1 + 2 + 3 + 3) * 2 * 2 / 1000)


def test_one_lung_is_named_by_the_middle_of_the_body(assess) -> None:  # type: ignore[no-untyped-def]
    assessment = assess(volume_of(LEFT_LUNG))
    assert measured(assessment)["left lung volume"] == pytest.approx(ml(45), rel=0.01)
    assert measured(assessment)["right lung volume"] == 0 and "no right lung was found" in assessment.limitations


def test_body_without_lung_is_refused(assess) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UnusableStudy) as caught:
        assess(volume_of(Sphere((90, 128, 77), 15, -850)))
    assert caught.value.reason is Reason.NO_LUNG_FOUND


def test_tensor_of_another_shape_is_an_engine_error(tmp_path: Path) -> None:
    manifest = threshold_ct(tmp_path)
    engine = Engine(Catalogue.load(tmp_path), "cpu", threads=1)
    halved = CtTransform(lambda hu: np.concatenate([hu, hu])[:, np.newaxis], RAW.restore)
    with pytest.raises(EngineUnavailable):
        assess_ct(volume_of(RIGHT_LUNG, LEFT_LUNG), engine, manifest, halved)


def test_probability_follows_the_manifest() -> None:
    linear = {"study_probability": {"feature": "infected_fraction", "intercept": -2.0, "slope": 40.0}}
    assert study_probability(0.05, linear) == pytest.approx(0.5)
    log = {"study_probability": {"feature": "log_infected_fraction", "intercept": 4.0, "slope": 1.0, "epsilon": 1e-4}}
    assert study_probability(0.0, log) == pytest.approx(1 / (1 + np.exp(-(4 + np.log(1e-4)))))
    with pytest.raises(InvalidManifest, match="study_probability"):
        study_probability(0.1, {})
    with pytest.raises(InvalidManifest, match="unknown"):
        study_probability(0.1, {"study_probability": {"feature": "colour", "intercept": 0, "slope": 1}})
