"""Several bundles on one study, through the whole line: who said what, who refused, and where it lies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import FileDataset

from service.domain import codes
from service.domain.job import StudyState
from service.domain.study import COMPREHENSIVE_3D_SR_STORAGE
from service.errors import Reason
from service.store.tables import Study
from tests.builders import ct_series, radiograph, ribs, uid
from tests.contracts.gate import groups
from tests.hospital import SEVERAL, Hospital, hospital, limit, more_models
from tests.tiny_bundles import BAND_PX, QUALITY

CT_STUDY, CXR_STUDY = uid(1, 1), uid(2, 1)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Hospital]:
    models = more_models(tmp_path / "models")
    with hospital(tmp_path / "house", infer=SEVERAL | {"models_dir": models}) as one:
        yield one


def picture(spot: tuple[float, float] | None = None, **scores: float) -> NDArray[np.float64]:
    """A chest; spot: (y, x) of a bright lesion, in parts of the side; scores: what the tiny gate shall read."""
    image = ribs(256)
    if spot is not None:
        y, x = np.mgrid[0:256, 0:256] / 256
        image = np.maximum(image, np.exp(-((y - spot[0]) ** 2 + (x - spot[1]) ** 2) / 0.001))
    for name, score in scores.items():
        k = QUALITY.index(name)
        image[:16, k * BAND_PX:(k + 1) * BAND_PX] = score
    return image


def found(study: Study, name: str) -> dict[str, Any]:
    """Return one finding of a study's summary."""
    (one,) = (f for f in study.summary["findings"] if f["name"] == name)
    return dict(one)


def report_of(house: Hospital, study: str) -> FileDataset:
    """Return the last SR in the PACS."""
    return [d for d in house.in_pacs(study) if d.SOPClassUID == COMPREHENSIVE_3D_SR_STORAGE][-1]


def test_two_ct_bundles_speak_in_one_report_and_one_raises_the_urgency(house: Hospital) -> None:
    house.send(*ct_series())
    study = house.delivered(CT_STUDY)
    assert [b["name"] for b in study.summary["bundles"]] == ["tiny-ct", "tiny-pattern"]
    assert found(study, "infection")["bundle"] == "tiny-ct" and found(study, "covid19")["bundle"] == "tiny-pattern"
    assert (found(study, "normal")["presence"], study.reading_urgency) == ("absent", "stat")
    report = report_of(house, CT_STUDY)
    assert [i.ManufacturerModelName for i in report.ContributingEquipmentSequence] == ["tiny-ct", "tiny-pattern"]
    page = httpx.get(f"http://127.0.0.1:{house.app.web_port}/studies/{CT_STUDY}").text
    assert "tiny-ct 1.0.0, tiny-pattern 1.0.0" in page and '<span class="from">tiny-pattern 1.0.0' in page


def test_a_ct_without_lung_is_refused_for_all_whatever_a_classifier_would_say(house: Hospital) -> None:
    house.send(*ct_series(slices=12, spheres=[]))
    assert house.ended(CT_STUDY).state_reason == Reason.NO_LUNG_FOUND.value


@pytest.mark.parametrize(("limits", "words"), [
    ({}, Reason.SLICES_TOO_THICK.sentence), ({"tiny_pattern": 0.1}, Reason.UNFAMILIAR_IMAGE.sentence)])
def test_one_bundle_that_refuses_does_not_stop_the_other(tmp_path: Path, limits: dict[str, float], words: str) -> None:
    models = more_models(tmp_path / "models", **limits)
    if not limits:
        limit(models, "tiny-ct", most_slice_spacing_mm=2.0)
    with hospital(tmp_path / "house", infer=SEVERAL | {"models_dir": models}) as house:
        house.send(*ct_series())
        study = house.delivered(CT_STUDY)
    left = "tiny-pattern" if limits else "tiny-ct"
    assert study.state == StudyState.ASSESSED
    assert [b["name"] for b in study.summary["bundles"]] == [n for n in ("tiny-ct", "tiny-pattern") if n != left]
    assert any(text.startswith(f"{left} did not read this study: {words}") for text in study.summary["limitations"])


def test_a_study_that_every_bundle_refuses_is_not_assessed(tmp_path: Path) -> None:
    models = more_models(tmp_path / "models", tiny_pattern=0.1)
    infer = SEVERAL | {"models_dir": models, "ct_bundles": ["tiny-pattern"]}
    with hospital(tmp_path / "house", infer=infer) as house:
        house.send(*ct_series())
        study = house.ended(CT_STUDY)
    assert (study.state, study.state_reason) == (StudyState.NOT_ASSESSED, Reason.UNFAMILIAR_IMAGE.value)
    assert "tiny-pattern accepts up to 0.1" in study.state_detail


@pytest.mark.parametrize(("scores", "reason"), [
    ({"frontal": 0.2}, Reason.NOT_A_FRONTAL_CHEST), ({"inverted": 0.93}, Reason.IMAGE_INVERTED),
    ({"rotated_180": 0.93}, Reason.ROTATED_IMAGE)])
def test_a_radiograph_that_the_gate_refuses_is_not_assessed(
    house: Hospital, scores: dict[str, float], reason: Reason,
) -> None:
    house.send(radiograph(image=picture(**scores)))
    study = house.delivered(CXR_STUDY)
    assert (study.state, study.state_reason, study.summary) == (StudyState.NOT_ASSESSED, reason.value, {})
    assert reason.sentence in httpx.get(f"http://127.0.0.1:{house.app.web_port}/").text


def test_of_two_radiographs_the_good_one_is_read_and_the_other_named(house: Hospital) -> None:
    house.send(radiograph(image=picture(inverted=0.93)), radiograph(instance=2, image=picture(clipped=0.93)))
    study = house.delivered(CXR_STUDY)
    limitations = study.summary["limitations"]
    assert "image 1 was not read: image_inverted" in limitations
    assert any(text.startswith("a part of the lungs may be cut off") for text in limitations)
    assert study.summary["quality"] == codes.LIMITED_QUALITY.meaning
    assert len(house.in_pacs(CXR_STUDY)) == 2, "a picture of the image that was read, and the report"


@pytest.mark.parametrize(("orientation", "place"), [
    (["L", "F"], "right lower zone"), (["R", "F"], "left lower zone"), (None, "right lower zone")])
def test_a_mass_is_placed_on_the_page_and_in_the_report(
    house: Hospital, orientation: list[str] | None, place: str,
) -> None:
    house.send(radiograph(image=picture(spot=(0.67, 0.3)), PatientOrientation=orientation))
    study = house.delivered(CXR_STUDY)
    assert (found(study, "mass")["place"], found(study, "mass")["bundle"]) == (place, "tiny-findings")
    assert any("Patient Orientation is absent" in t for t in study.summary["limitations"]) is (orientation is None)
    assert [b["name"] for b in study.summary["bundles"]] == ["tiny-cxr", "tiny-findings", "tiny-gate", "tiny-lungs"]
    page = httpx.get(f"http://127.0.0.1:{house.app.web_port}/").text
    assert " ".join(page.split()).count(f"<b>Mass</b> {place}") == 1
    items = [i for g in groups(report_of(house, CXR_STUDY)) for i in g.ContentSequence]
    sites = [(i.ConceptCodeSequence[0].CodeValue, i.ContentSequence[0].ConceptCodeSequence[0].CodeMeaning.lower())
             for i in items if i.ConceptNameCodeSequence[0].CodeValue == codes.FINDING_SITE.value and "ContentSequence" in i]
    assert set(sites) == {(codes.LOWER_ZONE.value, place.split()[0])}


@pytest.mark.parametrize(("age", "child", "read"), [
    ("004Y", 0.0, False), ("044Y", 0.0, True), ("", 0.97, False), ("", 0.0, True), ("044Y", 0.97, True)])
def test_a_bundle_for_adults_does_not_read_a_child(tmp_path: Path, age: str, child: float, read: bool) -> None:
    models = more_models(tmp_path / "models")
    limit(models, "tiny-cxr", least_age_years=16)
    with hospital(tmp_path / "house", infer=SEVERAL | {"models_dir": models}) as house:
        house.send(radiograph(image=picture(child=child), PatientAge=age or None, PatientBirthDate=""))
        study = house.delivered(CXR_STUDY)
    assert ("tiny-cxr" in [b["name"] for b in study.summary["bundles"]]) is read
    refusals = [t for t in study.summary["limitations"] if t.startswith("tiny-cxr did not read this study")]
    assert all("from 16 years on" in t for t in refusals) and bool(refusals) is not read


def test_radiographs_unfamiliar_to_one_bundle_are_read_by_the_other(tmp_path: Path) -> None:
    models = more_models(tmp_path / "models", tiny_findings=0.1, tiny_lungs=0.1)
    with hospital(tmp_path / "house", infer=SEVERAL | {"models_dir": models}) as house:
        house.send(radiograph(image=picture(spot=(0.67, 0.3))))
        study = house.delivered(CXR_STUDY)
    assert [b["name"] for b in study.summary["bundles"]] == ["tiny-cxr", "tiny-gate"]
    limitations = study.summary["limitations"]
    assert any(text.startswith("tiny-findings did not read this study") for text in limitations)
    assert "findings of image 1 were not placed: unfamiliar_image" in limitations
