"""A store with one study in every state that the worklist knows, and the objects of a result.

Run as `python -m tests.browser.seed FOLDER PORT` to look at the pages at http://127.0.0.1:PORT/.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from pydicom.uid import SecondaryCaptureImageStorage

from service.domain import codes
from service.domain.lesion import Alignment, Course, Followed, Following
from service.domain.prior import Earlier, compare
from service.domain.urgency import Urgency
from service.metrics import Metrics
from service.store.database import Database
from service.store.tables import Delivery, Event, Instance, Job, ResultObject, Study
from service.web.app import WebStyle, create_app
from service.web.health import Check
from tests import builders

SR_CLASS, SEG_CLASS = "1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.5.1.4.1.1.66.4"


def finding(name: str, probability: float, threshold: float = 0.5, side: str = "", urgency: str = "",
            bundle: str = "") -> dict[str, Any]:
    """Return one finding as `Assessment.summary` writes it."""
    code = {"no_finding": codes.NO_FINDING, "pneumonia": codes.PNEUMONIA}.get(name, codes.COVID_19_PNEUMONIA)
    return {"name": name, "code": code.value, "presence": "present" if probability >= threshold else "absent",
            "probability": probability, "threshold": threshold, "laterality": side, "place": side.lower(),
            "urgency": urgency, "bundle": bundle, "version": "1.0.0" if bundle else ""}


def summary(*findings: dict[str, Any], percent: float | None = None, ct: bool = False) -> dict[str, Any]:
    """Return a summary as `Assessment.summary` writes it."""
    measurements: list[dict[str, Any]] = []
    if percent is not None:
        measurements = [
            {"name": "right lung volume", "value": 2310.4, "unit": "cm3", "segment": "right lung"},
            {"name": "right lung involved", "value": percent + 2, "unit": "%", "segment": "right lung"},
            {"name": "left lung volume", "value": 2044.1, "unit": "cm3", "segment": "left lung"},
            {"name": "infection volume", "value": 43.544 * percent, "unit": "cm3", "segment": "infection"},
            {"name": "infection mean attenuation", "value": -412.7, "unit": "[hnsf'U]", "segment": "infection"},
            {"name": "lung involved", "value": percent, "unit": "%", "segment": ""},
            {"name": "severity score", "value": 11, "unit": "1", "segment": ""},
        ]
    lead = {"name": "ct-lung-infection" if ct else "cxr-pattern", "version": "1.0.0", "digest": "3fa1c09be7d2" * 5}
    said = {one["bundle"]: lead | {"name": one["bundle"]} for one in findings if one["bundle"]}
    return {
        "bundle": lead["name"], "version": "1.0.0", "digest": lead["digest"], "bundles": list(said.values()) or [lead],
        "findings": list(findings), "measurements": measurements,
        "limitations": ["Trained on few patients of few hospitals.", "Not tested on children.",
                        "Slices of 5 mm and more lower the accuracy of volumes."],
    }


def since(then: dict[str, Any], now: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a summary that was compared with an earlier one; more: fields of the comparison."""
    compared = compare(then, now, builders.uid(99, 1), "20251219")
    assert compared is not None
    return now | {"prior": replace(compared, **more).to_json()}


FOLLOWED = Following((
    Followed("2.25.1", 1, Course.GROWN, 120.4, 801.2, "Left"), Followed("2.25.2", 1, Course.MERGED, 9.1, 0.0, "Left"),
    Followed("2.25.3", 2, Course.NEW, 0.0, 212.7, "Right"), Followed("2.25.4", 3, Course.STEADY, 12.2, 12.9, "Right"),
    Followed("2.25.5", 0, Course.GONE, 4.3, 0.0, "Right")), Alignment(0.94, 23.4, 2.1))
"""What became of lesions, one of each kind."""
COURSE = tuple(Earlier(builders.uid(90 + n, 1), date, percent, percent * 43.5) for n, (date, percent) in enumerate(
    [("20250612", 0.8), ("20250901", 11.2), ("20251103", 7.5), ("20251219", 3.9)], 6))
"""Earlier studies, the last of them on the date of the comparison."""


def study(number: int, now: float, age_s: float, state: str, **given: Any) -> Study:
    """Return a study row; `reading` and `ordered` name its urgencies."""
    reading, ordered = Urgency(given.pop("reading", "routine")), Urgency(given.pop("ordered", "routine"))
    row = Study(
        study_instance_uid=builders.uid(number, 1), patient_id=f"P{number:06d}", patient_name="", study_date="20260102",
        patient_birth_date="19610314", patient_sex="F", accession_number=f"ACC-{26000 + number}", state=state,
        modality="CT", kind="ct", study_description="CT chest", calling_aet="CT_SCANNER_1", revision=1,
        urgency=ordered, urgency_rank=ordered.rank, reading_urgency=reading, reading_rank=reading.rank,
        urgency_reason="no priority stated", first_received_at=now - age_s, last_received_at=now - age_s + 42,
        deadline_at=now - age_s + 600, summary={},
    )
    for name, value in given.items():
        setattr(row, name, value)
    return row


def studies(now: float) -> list[Study]:
    """Return the studies in the order in which they should be read. The PatientName of one tries to be HTML."""
    covid = finding("covid_pneumonia", 0.9312, 0.5, "Bilateral", "urgent")
    done: dict[str, Any] = {"state": "assessed", "delivery": "delivered"}
    cxr: dict[str, Any] = {"modality": "DX", "kind": "cxr", "study_description": "Chest PA", "calling_aet": "DX_ROOM_2"}
    hostile = cxr | {"study_description": "<i>Chest</i> PA & lateral"}
    bedside = "Chest AP portable ICU"
    return [
        study(1, now, 960, **done, reading="stat", patient_name="Okafor^Ngozi", assessed_at=now - 890, flag="pneumonia 99%",
              delivered_at=now - 884, patient_sex="F", **cxr | {"study_description": bedside, "modality": "CR"},
              summary=summary(finding("pneumonia", 0.9871, 0.5, "", "stat"), finding("covid_pneumonia", 0.12))),
        study(2, now, 410, "inferring", reading="stat", ordered="stat", urgency_reason="ordered STAT",
              ordered_priority="STAT", patient_name="Lindqvist^Åsa Maria", patient_birth_date="19480722"),
        study(3, now, 2460, **done, reading="urgent", patient_sex="M",
              patient_name="Tanaka^Hiroshi=田中^宏=たなか^ひろし",
              study_description="CT chest with contrast, pulmonary vessels", flag="covid_pneumonia 93%",
              assessed_at=now - 2300, delivered_at=now - 2290,
              summary=since(summary(finding("covid_pneumonia", 0.2204), percent=3.9, ct=True),
                            summary(covid, percent=24.31, ct=True), following=FOLLOWED, course=COURSE)),
        study(4, now, 1500, "assessed", delivery="parked", delivery_detail="peer_refused: status 0xA900", reading="urgent",
              ordered="urgent", urgency_reason="description says emergency or intensive care", patient_sex="M",
              patient_name="Moreau^Jean-Baptiste", assessed_at=now - 1420,
              summary=summary(finding("covid_pneumonia", 0.0312), percent=0.4, ct=True)),
        study(5, now, 240, "failed", reading="urgent", ordered="urgent", urgency_reason="sent by an emergency device",
              state_reason="engine_failed", state_detail="CUDA out of memory", patient_name="Ferreira^Inês", **cxr),
        study(6, now, 7800, **done, patient_name="<script>alert(1)</script>^<b>Bold</b>", patient_id="<img src=x>&\"'",
              assessed_at=now - 7700, delivered_at=now - 7690, **hostile,
              summary=summary(finding("no_finding", 0.9036), finding("pneumonia", 0.0821, 0.5, "", "urgent"),
                              finding("covid_pneumonia", 0.0143))),
        study(7, now, 5400, "not_assessed", delivery="delivered", state_reason="missing_slices",
              patient_name="Kowalska^Zofia", delivered_at=now - 5200),
        study(8, now, 3300, "not_assessed", delivery="pending", state_reason="lateral_view",
              patient_name="Nguyen^Van An", patient_sex="M",
              **cxr | {"study_description": "Chest lateral"}, delivery_detail="peer_unreachable"),
        study(9, now, 780, "queued", patient_name="Rossi^Giulia", patient_birth_date="20251120"),
        study(10, now, 520, "queued", patient_name="Haddad^Samir", patient_sex="M", **cxr),
        study(11, now, 50, "receiving", patient_name="O'Brien^Siobhán^^Dr", last_received_at=now - 3, revision=0),
        study(12, now, 9000, "receiving", reading="low", ordered="low", patient_name="", patient_id="", revision=2,
              urgency_reason="description says screening or follow-up", last_received_at=now - 8,
              study_description="Lung screening low dose", patient_birth_date="",
              summary=summary(finding("covid_pneumonia", 0.2211), percent=0.1, ct=True)),
    ]


def fill(database: Database, now: float, results_dir: Path) -> list[Study]:
    """Put the studies into an empty, migrated database with their jobs, traces and objects; return them in order."""
    made = studies(now)
    results_dir.mkdir(parents=True, exist_ok=True)
    with database.transaction() as session:
        for row in reversed(made):
            session.add(row)
            session.flush()
        by_number = {row.study_instance_uid.split(".")[-2]: row for row in made}
        for number, later in (("10", 30.0), ("9", 0.0)):
            row = by_number[number]
            session.add(Job(key=f"infer:{number}", kind="infer", study_id=row.id or 0, revision=1, urgency="routine",
                            queued_at=now - 60, deadline_at=now + later))
        session.add(Job(key="deliver:4", kind="deliver", study_id=by_number["4"].id or 0, revision=1, target="pacs",
                        urgency="urgent", state="parked", queued_at=now - 1400, deadline_at=now, failures=5,
                        reason="peer_refused", detail="status 0xA900"))
        for number in ("1", "3"):
            _result(session, by_number[number], results_dir, now)
    return made


def _result(session: Any, row: Study, results_dir: Path, now: float) -> None:
    study_id, started = row.id or 0, row.first_received_at
    for number in range(3):
        session.add(Instance(
            study_id=study_id, sop_instance_uid=f"{row.study_instance_uid}.1.{number}", sha256="0" * 64, size_bytes=1,
            series_instance_uid=f"{row.study_instance_uid}.1", path=f"{study_id}/{number}", received_at=started))
    for at, stage, text, data in (
        (0, "received", "First image received", {"calling_aet": row.calling_aet}),
        (42, "received", "Last image received", {"images": 3}),
        (47, "complete", "No image for 5 s after the association was released", {}),
        (47, "queued", "Urgency routine: no priority stated", {"place": 1}),
        (48, "inferring", "Model cxr-pattern 1.0.0 started", {"provider": "CPU"}),
        (70, "reported", "Made 1 SR and 1 picture", {}),
        (76, "stored", "SR, picture stored in pacs", {}),
    ):
        session.add(Event(study_id=study_id, at=started + at, stage=stage, text=text, data=data))
    for kind, sop_class in (("sr", SR_CLASS), ("seg" if row.kind == "ct" else "sc", SEG_CLASS)):
        path = results_dir / f"{study_id}-{kind}.dcm"
        path.write_bytes(builders.as_bytes(secondary_capture()) if kind == "sc" else b"DICM")
        made = ResultObject(
            study_id=study_id, revision=1, kind=kind, sop_class_uid=sop_class, path=path.name, created_at=started + 70,
            sop_instance_uid=f"{row.study_instance_uid}.900.{kind == 'sr':d}",
            summary="Saliency of pneumonia over the radiograph" if kind == "sc" else "")
        session.add(made)
        session.flush()
        session.add(Delivery(result_object_id=made.id or 0, target="pacs", stored_at=started + 76,
                             proven_at=started + 76, proof="stored"))


def secondary_capture(size: int = 512) -> Any:
    """Return a secondary capture: a grey chest with a red patch."""
    grey = np.round(255 * builders.ribs(size)).astype(np.uint8)
    colour = np.stack([grey] * 3, axis=-1)
    colour[260:330, 130:200] = (220, 60, 40)
    ds = builders.radiograph(size=size)
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    ds.PixelData = colour.tobytes()
    return ds


def main(folder: Path, port: int) -> None:
    """Seed a new database in `folder` and serve it on 127.0.0.1 until stopped."""
    database = Database(f"sqlite:///{folder / 'seed.db'}")
    database.migrate()
    fill(database, time.time(), folder / "results")
    app = create_app(database, Metrics(), time.time, WebStyle(version="0.1.0"), lambda: [Check("database", True)],
                     folder / "results")
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
