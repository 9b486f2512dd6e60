"""Nothing of a patient is in logs, metrics, file names or error pages, whatever the images hold."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from pydicom import config

from tests.builders import ct_series, radiograph, uid, write
from tests.flow.test_crash import running, settings_file, try_to_send
from tests.peers import HOST, ScriptedPacs, free_port, wait_until

MARK = "ZZSECRET"
PATIENT = {
    "PatientName": f"{MARK}^{MARK}", "PatientID": f"{MARK}-1", "PatientBirthDate": "19431213",
    "AccessionNumber": f"{MARK}2", "ReferringPhysicianName": f"{MARK}^Doctor", "StudyDescription": f"{MARK} chest",
    "PatientComments": MARK,
}
ODD = {"PatientAge": MARK[:4], "StudyDate": "2026.ZZ", "PatientSex": MARK, "SeriesDescription": MARK * 12}


@pytest.fixture
def lenient() -> object:
    """Let pydicom write values that no scanner should send."""
    before = config.settings.writing_validation_mode, config.settings.reading_validation_mode
    config.settings.writing_validation_mode = config.settings.reading_validation_mode = config.IGNORE
    yield None
    config.settings.writing_validation_mode, config.settings.reading_validation_mode = before


def delivered(base: str) -> int:
    studies = httpx.get(f"{base}/api/worklist", timeout=10).json()["studies"]
    return sum(s["delivery"] == "delivered" for s in studies)


def test_no_trace_of_a_patient_outside_images_results_and_database(tmp_path: Path, lenient: object) -> None:
    sent = [
        ct_series(patient=1, slices=12, **PATIENT), [radiograph(patient=2, **PATIENT)],
        [radiograph(patient=3, **PATIENT, **ODD)], [radiograph(patient=4, ViewPosition="LL", **PATIENT)],
        [radiograph(patient=5, PixelData=b"\0" * 10, **PATIENT)], [radiograph(patient=6, Modality=MARK, **PATIENT)],
    ]
    dicom_port, web_port = free_port(), free_port()
    with ScriptedPacs(tmp_path / "pacs") as pacs:
        settings, log = settings_file(tmp_path, pacs, dicom_port, web_port), tmp_path / "service.log"
        pacs.refuse(0xA700, times=1)
        with running(settings, log, web_port):
            base = f"http://{HOST}:{web_port}"
            for number, datasets in enumerate(sent):
                assert try_to_send(dicom_port, write(datasets, tmp_path / f"sent{number}"))
            wait_until(lambda: delivered(base) == len(sent), 60)
            told = "".join(httpx.get(base + page).text for page in (
                "/metrics", "/health/ready", f"/studies/{uid(9, 9)}", f"/api/studies/{uid(9, 9)}", "/studies/%00"))
            assert MARK in httpx.get(f"{base}/studies/{uid(1, 1)}").text, "the marks were sent at all"
    told += log.read_text() + "\n".join(str(p.relative_to(tmp_path)) for p in (tmp_path / "data").rglob("*"))
    assert MARK not in told and "19431213" not in told and MARK[:4] not in told
