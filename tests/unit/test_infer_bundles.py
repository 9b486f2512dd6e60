"""The bundles that are shipped, from pixels to findings, on their own golden images."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from service.demo.run import STUDIES
from service.domain import codes
from service.domain.finding import Assessment, Presence
from service.domain.manifest import Manifest
from service.domain.study import CtVolume, RadiographImage, VolumeGeometry
from service.errors import Reason, UnusableStudy
from service.infer.catalogue import Catalogue
from service.infer.ct import assess_ct
from service.infer.cxr import CxrTransform, assess_cxr
from service.infer.engine import Engine
from service.infer.reading import CtTransform
from service.prepare import ct, cxr
from service.prepare.display import to_grey

MODELS = Path(__file__).parents[2] / "models"
SLICES = 12


@pytest.fixture(scope="module")
def engine() -> Engine:
    engine = Engine(Catalogue.load(MODELS), "cpu", threads=2)
    for name in ("ct-lung-infection", "cxr-pattern", "cxr-findings"):
        engine.warm(name)
    return engine


def assess_slice(engine: Engine, hu: np.ndarray, x_axis: int = 1) -> Assessment:
    """Assess a volume that repeats one slice; x_axis -1: columns run toward the patient's right."""
    manifest = Catalogue.load(MODELS).get("ct-lung-infection")
    volume = np.repeat(hu.astype(np.float32)[np.newaxis, :, ::x_axis], SLICES, axis=0)
    geometry = VolumeGeometry(tuple(5.0 * k for k in range(SLICES)), (5.0, 1.2, 1.2), (x_axis, 0, 0, 0, 1, 0),
                              (0, 0, x_axis), *hu.shape, "1.2.3")
    transform = CtTransform(
        partial(ct.slice_tensor, parameters=manifest.parameters, steps=manifest.steps), ct.restore)
    return assess_ct(CtVolume(volume, geometry), engine, manifest, transform)


def golden(bundle: str, case: int) -> dict[str, np.ndarray]:
    return dict(np.load(MODELS / bundle / "golden" / f"case-{case}.npz"))


def test_ct_bundle_finds_the_opacity_on_its_side_however_the_slice_lies(engine: Engine) -> None:
    hu = golden("ct-lung-infection", 1)["hu"][0]
    plain, mirrored = assess_slice(engine, hu), assess_slice(engine, hu, x_axis=-1)
    for assessment in (plain, mirrored):
        assert assessment.findings[0].presence is Presence.PRESENT
        assert assessment.findings[0].laterality == codes.LEFT
        values = {m.name: m.value for m in assessment.measurements}
        right, left, infection = (assessment.mask(segment) for segment in assessment.segments)
        assert not (infection & right).any() and (infection & left).sum() > 0.05 * left.sum()
        assert not any("involved" in name for name in values), "a slice that is repeated cuts the lungs at both ends"
        assert values["right lung mean attenuation"] == pytest.approx(-850, abs=20)
    assert plain.masks is not None and mirrored.masks is not None
    assert np.array_equal(plain.masks, mirrored.masks[:, :, ::-1])


def test_ct_bundle_calls_clean_lungs_clean(engine: Engine) -> None:
    assessment = assess_slice(engine, golden("ct-lung-infection", 2)["hu"][0])
    assert assessment.findings[0].presence is Presence.ABSENT
    right, left = (assessment.mask(s).sum() for s in assessment.segments[:2])
    assert right == pytest.approx(left, rel=0.1) and right > 0


def transform_of(manifest: Manifest) -> CxrTransform:
    return CxrTransform(
        partial(cxr.image_tensor, parameters=manifest.parameters, steps=manifest.steps),
        partial(cxr.saliency_on_source, parameters=manifest.parameters))


@pytest.mark.parametrize("name", ["cxr-pattern", "cxr-findings"])
@pytest.mark.parametrize("file", ["normal2-im-1442-0001.dcm", "person1946_bacteria_4874.dcm"])
def test_radiograph_bundles_answer_in_findings_as_their_network_does(name: str, file: str, engine: Engine) -> None:
    manifest = Catalogue.load(MODELS).get(name)
    image = to_grey(STUDIES / "cxr" / file)[0]
    transform = transform_of(manifest)
    expected = engine.run(name, {"image": transform.to_tensor(image.grey)})["probabilities"][0]
    assessment = assess_cxr([image], engine, manifest, transform)
    assert [f.probability for f in assessment.findings] == pytest.approx(expected, abs=1e-3)
    saliency = assessment.saliency[image.sop_instance_uid]
    assert saliency.shape == image.grey.shape and 0 <= saliency.min() <= saliency.max() <= 1
    present = {f.name for f in assessment.present}
    assert present and ("no_finding" in present) is (present == {"no_finding"})


def test_a_drawn_radiograph_is_unfamiliar(engine: Engine) -> None:
    manifest = Catalogue.load(MODELS).get("cxr-pattern")
    grey = golden("cxr-pattern", 1)["grey"].astype(np.float32) / np.float32(255)
    with pytest.raises(UnusableStudy) as refused:
        assess_cxr([RadiographImage("1.2.3", grey)], engine, manifest, transform_of(manifest))
    assert refused.value.reason is Reason.UNFAMILIAR_IMAGE
