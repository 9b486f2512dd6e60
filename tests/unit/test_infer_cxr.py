"""What the read-out of radiographs says, with a network that scores by mean brightness."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from service.domain import codes
from service.domain.finding import Finding, Presence
from service.domain.study import RadiographImage
from service.errors import EngineUnavailable
from service.infer.catalogue import Catalogue
from service.infer.cxr import CxrTransform, assess_cxr
from service.infer.engine import Engine
from tests.tiny_bundles import brightness_cxr

HALVED = CxrTransform(
    lambda grey: np.ascontiguousarray(grey[np.newaxis, np.newaxis, ::2, ::2]),
    lambda activation, rows, columns: np.repeat(np.repeat(activation, 2, 0), 2, 1)[:rows, :columns],
)


def images(*brightness: float) -> list[RadiographImage]:
    return [RadiographImage(f"1.2.{n}", np.full((40, 30), b, np.float32)) for n, b in enumerate(brightness)]


@pytest.fixture
def assess(tmp_path: Path):  # type: ignore[no-untyped-def]
    manifest = brightness_cxr(tmp_path)
    engine = Engine(Catalogue.load(tmp_path), "cpu", threads=1)
    return lambda shown, transform=HALVED: assess_cxr(shown, engine, manifest, transform, ("given",))


def by_name(assessment) -> dict[str, Finding]:  # type: ignore[no-untyped-def]
    return {f.name: f for f in assessment.findings}


def test_finding_over_its_threshold_is_present_and_normal_is_not(assess) -> None:  # type: ignore[no-untyped-def]
    found = by_name(assess(images(0.7)))
    assert found["pneumonia"].presence is Presence.PRESENT
    assert found["pneumonia"].probability == pytest.approx(0.7) and found["pneumonia"].urgency == "urgent"
    assert found["pneumonia"].site == codes.LUNG and found["pneumonia"].code == codes.PNEUMONIA
    assert found["covid19"].presence is Presence.ABSENT
    assert found["no_finding"].presence is Presence.ABSENT


def test_nothing_over_a_threshold_is_no_finding(assess) -> None:  # type: ignore[no-untyped-def]
    found = by_name(assess(images(0.3)))
    assert [f.presence for f in found.values()] == [Presence.PRESENT, Presence.ABSENT, Presence.ABSENT]
    assert found["no_finding"].code == codes.NO_FINDING and found["no_finding"].urgency == ""


def test_no_finding_is_absent_beside_a_finding_however_sure_it_is(tmp_path: Path) -> None:
    manifest = brightness_cxr(tmp_path)
    outputs = tuple(replace(o, threshold=0.2) for o in manifest.outputs)
    engine = Engine(Catalogue.load(tmp_path), "cpu", threads=1)
    found = by_name(assess_cxr(images(0.3), engine, replace(manifest, outputs=outputs), HALVED))
    assert found["no_finding"].probability == pytest.approx(0.7) and found["no_finding"].presence is Presence.ABSENT
    assert found["pneumonia"].presence is Presence.PRESENT


def test_no_finding_needs_every_image_and_the_worst_image_is_named(assess) -> None:  # type: ignore[no-untyped-def]
    found = by_name(assess(images(0.1, 0.9, 0.4)))
    assert found["pneumonia"].probability == pytest.approx(0.9) and found["pneumonia"].sop_instance_uid == "1.2.1"
    assert found["covid19"].presence is Presence.PRESENT
    assert found["no_finding"].presence is Presence.ABSENT
    assert found["no_finding"].probability == pytest.approx(0.1, abs=1e-6)
    assert found["no_finding"].sop_instance_uid == "1.2.1"


def test_each_image_has_the_evidence_of_its_likeliest_finding_on_its_own_grid(assess) -> None:  # type: ignore[no-untyped-def]
    assessment = assess(images(0.6, 0.2))
    assert set(assessment.saliency) == {"1.2.0", "1.2.1"} and assessment.masks is None
    for brightness, saliency in zip((0.6, 0.2), assessment.saliency.values(), strict=True):
        assert saliency.shape == (40, 30) and saliency == pytest.approx(brightness)
    assert assessment.limitations == ("given",) and assessment.bundle.name == "tiny-cxr"


def test_score_that_is_not_a_number_is_an_engine_error(assess) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(EngineUnavailable, match="not a number"):
        assess(images(float("nan")))


def test_several_scores_for_one_image_are_an_engine_error(assess) -> None:  # type: ignore[no-untyped-def]
    doubled = CxrTransform(lambda grey: np.repeat(HALVED.to_tensor(grey), 2, 0), HALVED.restore)
    with pytest.raises(EngineUnavailable, match="does not fit its manifest"):
        assess(images(0.5), doubled)


def test_without_images_there_is_nothing_to_assess(assess) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="no image"):
        assess([])


def test_what_cannot_be_told_from_an_image_is_told_from_the_others_or_not_at_all(tmp_path: Path) -> None:
    manifest = brightness_cxr(tmp_path)
    engine = Engine(Catalogue.load(tmp_path), "cpu", threads=1)
    silent = (codes.PNEUMONIA,)
    found = by_name(assess_cxr(images(0.9, 0.6), engine, manifest, HALVED, unjudged={"1.2.0": silent}))
    assert found["pneumonia"].probability == pytest.approx(0.6) and found["pneumonia"].sop_instance_uid == "1.2.1"
    assert [uid for uid, _ in found["pneumonia"].by_image] == ["1.2.1"] and len(found["covid19"].by_image) == 2
    none = assess_cxr(images(0.7), engine, manifest, HALVED, unjudged={"1.2.0": silent})
    assert set(by_name(none)) == {"no_finding", "covid19"}, "neither present nor absent"
    assert by_name(none)["no_finding"].presence is Presence.PRESENT, "what is not judged is no finding"
    assert none.saliency["1.2.0"] == pytest.approx(0.35), "the evidence is that of a class that was judged"


def test_only_the_inner_part_is_looked_at_and_its_evidence_lies_in_place(assess) -> None:  # type: ignore[no-untyped-def]
    image = np.full((40, 30), 1.0, np.float32)
    image[10:30, 4:24] = 0.6
    said = assess([RadiographImage("1.2.0", image, (10, 30, 4, 24))])
    assert by_name(said)["pneumonia"].probability == pytest.approx(0.6)
    saliency = said.saliency["1.2.0"]
    assert saliency.shape == (40, 30) and saliency[10:30, 4:24] == pytest.approx(0.6)
    assert saliency.sum() == pytest.approx(0.6 * 400, rel=1e-5)
