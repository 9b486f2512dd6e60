"""A result says what changed since the patient's last study, and compares nobody with somebody else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import FileDataset

from service.domain.job import StudyState
from tests.builders import ct_series, radiograph, uid
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
