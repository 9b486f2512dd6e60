"""A result says what changed since the patient's last study, and compares nobody with somebody else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from highdicom.sr import Comprehensive3DSR
from pydicom.dataset import FileDataset

from service.domain.job import StudyState
from tests.builders import Sphere, chest, ct_series, radiograph, uid
from tests.hospital import TINY, Hospital, hospital, tiny_models

QUICK = {"quiet_cxr_s": 0.2, "quiet_ct_s": 0.3, "start_early": False}
FIRST, SECOND = uid(1, 1), uid(9, 1)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Hospital]:
    models = tiny_models(tmp_path / "models")
    with hospital(tmp_path / "house", infer=TINY | {"models_dir": models}, assemble=QUICK) as running:
        yield running


def later(**attributes: Any) -> list[FileDataset]:
    """Return a CT of the same patient, of a week later, with more opacity."""
    return ct_series(patient=9, PatientID="P0001", PatientName="Test^Patient 1", StudyDate="20260109", **attributes)


def bigger(factor: float, shift_mm: float = 0.0, extra: bool = False) -> list[Sphere]:
    """Return the chest of `ct_series` moved along x, with its lesion that much wider, and maybe a second one."""
    right, left, lesion = chest(40, (5.0, 2.5, 2.5), 128)
    balls = [right, left, replace(lesion, radius_mm=lesion.radius_mm * factor)]
    balls += [Sphere((70.0, 160.0, 224.0), 12.0, -100)] if extra else []
    return [replace(b, centre_mm=(b.centre_mm[0], b.centre_mm[1], b.centre_mm[2] + shift_mm)) for b in balls]


def groups(house: Hospital, study: str) -> dict[str, tuple[str, float]]:
    """Return Tracking UID and volume of each tracked group of the report that is called a lesion."""
    report = [ds for ds in house.in_pacs(study) if ds.Modality == "SR"][-1]
    found = {}
    for group in Comprehensive3DSR.from_dataset(report).content.get_image_measurement_groups():
        if "lesion" in str(group.tracking_identifier):
            (volume,) = group.get_measurements()
            found[str(group.tracking_identifier)] = str(group.tracking_uid), float(volume.value)
    return found


def said(house: Hospital, study: str) -> str:
    report = next(ds for ds in house.in_pacs(study) if ds.Modality == "SR")
    texts = []

    def walk(items: Any) -> None:
        for item in items:
            texts.append(str(item.get("TextValue", "")))
            walk(item.get("ContentSequence", ()))

    walk(report.ContentSequence)
    return "\n".join(texts)


def test_report_and_page_tell_then_and_now(house: Hospital) -> None:
    house.send(*ct_series())
    then = house.delivered(FIRST)
    house.send(*later())
    now = house.delivered(SECOND)
    prior = now.summary["prior"]
    assert (prior["study_instance_uid"], prior["study_date"]) == (FIRST, then.study_date)
    assert prior["changes"] and all(c["then"] == c["now"] for c in prior["changes"]), "the same pixels measure the same"
    text = said(house, SECOND)
    assert f"Study Instance UID {FIRST}" in text and "change +0.0" in text
    assert "Compared with" not in said(house, FIRST)
    assert any(line == f"compared: with study {FIRST}" for line in house.trace(SECOND))


@pytest.mark.parametrize("other", [{"PatientBirthDate": "19010203"}, {"IssuerOfPatientID": "ELSEWHERE"}])
def test_the_same_id_alone_is_no_comparison(house: Hospital, other: dict[str, str]) -> None:
    house.send(*ct_series())
    house.delivered(FIRST)
    house.send(*later(**other))
    study = house.delivered(SECOND)
    assert study.state == StudyState.ASSESSED and "prior" not in study.summary
    assert any("no_comparison: 1 earlier studies carry this Patient ID" in line for line in house.trace(SECOND))


def test_another_kind_of_study_is_no_prior_nor_is_a_later_one(house: Hospital) -> None:
    house.send(radiograph(patient=9, PatientID="P0001", PatientName="Test^Patient 1"))
    house.delivered(uid(9, 1))
    house.send(*ct_series(StudyDate="20260105"))
    assert "prior" not in house.delivered(FIRST).summary


def test_a_lesion_keeps_its_tracking_uid_while_it_grows_in_a_patient_who_lies_elsewhere(house: Hospital) -> None:
    house.send(*ct_series())
    house.delivered(FIRST)
    house.send(*later(spheres=bigger(1.3, shift_mm=20.0, extra=True)))
    now = house.delivered(SECOND)
    then_groups, now_groups = groups(house, FIRST), groups(house, SECOND)
    assert list(then_groups) == ["lesion 1"] and list(now_groups) == ["lesion 1", "lesion 2"]
    assert now_groups["lesion 1"][0] == then_groups["lesion 1"][0] != now_groups["lesion 2"][0]
    assert now_groups["lesion 1"][1] / then_groups["lesion 1"][1] == pytest.approx(1.3**3, rel=0.1)
    following = now.summary["prior"]["following"]
    assert [(f["number"], f["course"]) for f in following["lesions"]] == [(1, "grown"), (2, "new")]
    assert following["alignment"]["shift_mm"] == pytest.approx(20.0, abs=2.0)
    assert "Lesions: 1 new, 1 grown." in said(house, SECOND) and "Grown since the earlier study" in said(house, SECOND)
    house.send(*ct_series(patient=11, PatientID="P0001", PatientName="Test^Patient 1", StudyDate="20260120",
                          spheres=[*bigger(1.3, extra=True)[:2], *bigger(1.3, extra=True)[3:]]))
    third = house.delivered(uid(11, 1))
    assert [(f["course"], f["tracking_uid"]) for f in third.summary["prior"]["following"]["lesions"]] == [
        ("unchanged", now_groups["lesion 2"][0]), ("gone", now_groups["lesion 1"][0])]
    last = groups(house, uid(11, 1))
    assert last["earlier lesion 1"] == (now_groups["lesion 1"][0], 0.0)
    assert [e["study_instance_uid"] for e in third.summary["prior"]["course"]] == [FIRST, SECOND]
