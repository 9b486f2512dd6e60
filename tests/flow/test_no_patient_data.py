"""Nothing of a patient is in logs, metrics, file names or error pages, whatever the images hold."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from pydicom import config
from pydicom._dicom_dict import DicomDictionary
from pydicom.dataset import Dataset, FileDataset

from tests.builders import ct_series, radiograph, uid, write
from tests.peers import HOST, Raw, ScriptedPacs, free_port, store, wait_until
from tests.served import running, settings_file, try_to_send

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


TEXTS = ("LO", "LT", "PN", "SH", "ST", "UC", "UT")


def marked(ds: FileDataset) -> FileDataset:
    """Put the mark into every text and name that the dictionary knows and the image does not use, and into private ones."""
    for tag, (vr, _, _, retired, keyword) in DicomDictionary.items():
        if vr in TEXTS and keyword and not retired and tag not in ds and tag > 0x00080000:
            ds.add_new(tag, vr, MARK)
    block = ds.private_block(0x0019, f"{MARK} CREATOR", create=True)
    for number, vr in enumerate(TEXTS, 1):
        block.add_new(number, vr, MARK)
    block.add_new(0x40, "UN", MARK.encode())
    inner = Dataset()
    inner.PatientName, inner.CodeMeaning = f"{MARK}^Inner", MARK
    ds.RequestAttributesSequence = [inner]
    return ds


def badly_encoded(ds: FileDataset) -> Raw:
    """Return an image whose names are not of their character set."""
    raw = Raw.of(ds)
    name, odd = f"{MARK}^{MARK}".encode(), MARK.encode() + b"\xff\x1b$B"
    return replace(raw, data=(raw.data or b"").replace(name, odd.ljust(len(name))))


def misfits(patient: int) -> list[Raw]:
    """Return objects that are refused: cut off, of another instance, not a UID, of absurd depth."""
    whole = Raw.of(marked(radiograph(patient=patient, **PATIENT)))
    data = whole.data or b""
    return [replace(whole, data=data[:len(data) // 2]), replace(whole, sop_instance_uid=uid(patient, 9)),
            replace(whole, data=data.replace(whole.sop_instance_uid.encode(), MARK.encode().ljust(
                len(whole.sop_instance_uid))[:len(whole.sop_instance_uid)])),
            replace(whole, data=MARK.encode() * 100)]


def delivered(base: str) -> int:
    studies = httpx.get(f"{base}/api/worklist", timeout=10).json()["studies"]
    return sum(s["delivery"] == "delivered" for s in studies)


def test_no_trace_of_a_patient_outside_images_results_and_database(tmp_path: Path, lenient: object) -> None:
    sent = [
        ct_series(patient=1, slices=12, **PATIENT), [radiograph(patient=2, **PATIENT)],
        [radiograph(patient=3, **PATIENT, **ODD)], [radiograph(patient=4, ViewPosition="LL", **PATIENT)],
        [radiograph(patient=5, PixelData=b"\0" * 10, **PATIENT)], [radiograph(patient=6, Modality=MARK, **PATIENT)],
        [marked(radiograph(patient=12, **PATIENT))], [marked(ds) for ds in ct_series(patient=7, slices=4, **PATIENT)],
        [marked(radiograph(patient=8, SpecificCharacterSet=["ISO 2022 IR 6", "ISO 2022 IR 87"], **PATIENT))],
    ]
    two = [radiograph(patient=10, **PATIENT), radiograph(patient=10, instance=2, **PATIENT | {"PatientID": f"{MARK}-2"})]
    again = radiograph(patient=2, **PATIENT | {"PatientComments": f"{MARK} changed"})
    dicom_port, web_port = free_port(), free_port()
    with ScriptedPacs(tmp_path / "pacs") as pacs:
        settings, log = settings_file(tmp_path, pacs, dicom_port, web_port), tmp_path / "service.log"
        pacs.refuse(0xA700, times=1)
        with running(settings, log, web_port):
            base = f"http://{HOST}:{web_port}"
            for number, datasets in enumerate(sent):
                assert try_to_send(dicom_port, write(datasets, tmp_path / f"sent{number}"))
            assert try_to_send(dicom_port, write([*two, again], tmp_path / "more"))
            assert store(dicom_port, badly_encoded(radiograph(patient=9, **PATIENT))) == [0]
            assert {status for raw in misfits(11) for status in store(dicom_port, raw)} <= {0xA900, 0xC000}
            wait_until(lambda: delivered(base) == len(sent) + 1, 120)
            told = "".join(httpx.get(base + page).text for page in (
                "/metrics", "/health/ready", f"/studies/{uid(99, 9)}", f"/api/studies/{uid(99, 9)}", "/studies/%00",
                f"/studies/{uid(1, 1)}/objects/1.2.3.dcm", "/nothing", "/api/nothing", "/health/live", "/api/openapi.json"))
            told += "".join(link for page in ("/", f"/studies/{uid(1, 1)}", f"/studies/{uid(10, 1)}")
                            for link in re.findall(r'(?:href|src|action)="[^"]*"', httpx.get(base + page).text))
            assert MARK in httpx.get(f"{base}/studies/{uid(1, 1)}").text, "the marks were sent at all"
    told += log.read_text() + "\n".join(str(p.relative_to(tmp_path)) for p in (tmp_path / "data").rglob("*"))
    assert MARK not in told and "19431213" not in told and MARK[:4] not in told
