"""Studies with real images and real result objects, so that the study page has something to show."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import FileDataset
from sqlmodel import select

from service.assemble.geometry import GeometryRules
from service.prepare.codestream import decode_frame
from service.receive.header import read_file_header
from service.report.build import build
from service.store.database import Database
from service.store.tables import Instance, ResultObject, Study
from service.web.view.scene import Viewer
from tests import builders
from tests.browser import seed
from tests.contracts.assessed import EVERYTHING, NOW, ct, cxr_by_two, masks, pictures

CT, CXR, SLICES, SIZE = 70, 71, 40, 96
RULES = GeometryRules(5, 12.0)


def fill(database: Database, now: float, folder: Path, slices: int = SLICES, size: int = SIZE) -> tuple[str, str]:
    """Put a CT and a radiograph with their results into a store; return their Study Instance UIDs.

    folder: gets the folders spool and results. The CT's infection lies on a quarter of the slices.
    """
    series = builders.ct_series(patient=CT, slices=slices, size=size, spacing_mm=(5.0, 300 / size, 300 / size))
    drawn = masks(slices, size)
    said = seed.summary(seed.finding("covid_pneumonia", 0.93, 0.5, "Right", "urgent"), percent=12.5, ct=True)
    ct_uid = _study(database, now, folder, CT, series, lambda s: ct(s, masks=drawn), said, kind="ct")
    image = builders.radiograph(patient=CXR)
    said = seed.summary(seed.finding("pneumonia", 0.81, 0.5, "Right", "urgent"))
    cxr_uid = _study(database, now, folder, CXR, [image], cxr_by_two, said, kind="cxr", modality="DX",
                     study_description="Chest PA")
    return ct_uid, cxr_uid


def viewer(folder: Path) -> Viewer:
    """Return a viewer of what `fill` has written."""
    return Viewer(folder / "spool", folder / "results", decode_frame, RULES)


def _study(database: Database, now: float, folder: Path, number: int, sources: Sequence[FileDataset],
           say: Callable[[Sequence[FileDataset]], Any], summary: dict[str, Any], **given: Any) -> str:
    paths = builders.write(sources, folder / "spool" / str(number))
    headers = [copy.deepcopy(s) for s in sources]
    for one in headers:
        del one.PixelData
    selection, said = say(sources)
    made = build(selection, headers, said, EVERYTHING, "digest", 1, [], NOW, pictures(sources))
    row = seed.study(number, now, 600, "assessed", reading="urgent", delivery="delivered", assessed_at=now - 500,
                     patient_name=f"Pictured^{number}", flag="pneumonia", summary=summary, completed_at=now - 540, **given)
    (folder / "results").mkdir(exist_ok=True)
    with database.transaction() as session:
        session.add(row)
        session.flush()
        for path in paths:
            header = read_file_header(path)
            session.add(Instance(
                study_id=row.id or 0, sop_instance_uid=header.sop_instance_uid, sha256="0" * 64, size_bytes=1,
                series_instance_uid=header.series_instance_uid, path=f"{number}/{path.name}", received_at=now - 600,
                header=header.to_json()))
        for place, one in enumerate(made):
            name = f"{number}-{place}-{one.kind}.dcm"
            one.dataset.save_as(folder / "results" / name, enforce_file_format=True)
            session.add(ResultObject(
                study_id=row.id or 0, revision=1, kind=one.kind, sop_class_uid=str(one.dataset.SOPClassUID), path=name,
                sop_instance_uid=str(one.dataset.SOPInstanceUID), summary=one.summary, created_at=now - 500))
    return row.study_instance_uid


def deleted(database: Database, study_instance_uid: str, folder: Path, now: float) -> None:
    """Delete the images of a study, as happens when their time is over."""
    with database.transaction() as session:
        study = session.exec(select(Study).where(Study.study_instance_uid == study_instance_uid)).one()
        study.images_deleted_at = now
        for instance in session.exec(select(Instance).where(Instance.study_id == study.id)):
            (folder / "spool" / instance.path).unlink()
            instance.path = ""


def as_values(body: bytes, height: int, width: int) -> np.ndarray[Any, np.dtype[np.int16]]:
    """Return the picture that the server sent, (y, x)."""
    return np.frombuffer(body, "<i2").reshape(height, width)
