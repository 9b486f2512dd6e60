"""What readers said, as a folder that training and measuring read: images as models see them, labels, no identities.

Radiographs get a row in `cxr/labels.csv` for each study with one frontal image; slices of a CT whose segmentation a person
corrected lie in `ct_lesions/site-<study>/`. Patients and studies get names by a keyed digest, the same in every export of
this service (its key lies in the data folder). Pixels are not looked at: burnt-in text that an image does not declare stays.
"""

from __future__ import annotations

import csv
import hashlib
import hmac
import json
import os
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread

from service import DISCLAIMER
from service.assemble.choose import choose
from service.assemble.geometry import GeometryRules
from service.domain.finding import Presence
from service.domain.labels import ABOUT, COLUMN_OF_CODE, COLUMN_OF_VALUE
from service.domain.manifest import Manifest
from service.domain.study import Header, Kind, Selection, age_years
from service.domain.verdict import Judged, Verdict, Why, latest
from service.errors import FirstlookError
from service.feedback.segments import Drawing, Grid, read_drawings
from service.infer.catalogue import Catalogue
from service.keeping import files_of
from service.pipeline.compared import Comparison
from service.pipeline.correcting import FOLDER, grid_of, ours_of
from service.prepare import ct
from service.prepare.display import to_grey
from service.prepare.hounsfield import load_volume
from service.settings import Settings
from service.store.corrections import ATTACHED
from service.store.database import Database
from service.store.files import Below
from service.store.retraining import Material, judged_material

_OLDEST = 90  # years; older patients are few, and could be told by their age
_FRONTAL = ("", "PA", "AP")
_INFECTED = ("112001",)  # DCM 112001, Opacity: what a corrected segment of the infection is coded as
_KNOWS_PRESENT = (Why.WRONG_PLACE, Why.KNOWN_BEFORE, Why.MISSED)
_KNOWS_ABSENT = (Why.NONE, Why.NOT_THERE, Why.SOMETHING_ELSE, Why.ARTEFACT)


@dataclass
class Written:
    """What was written: rows and slices; left_out: studies by why nothing of them was."""

    radiographs: int = 0
    cases: int = 0
    slices: int = 0
    left_out: Counter[str] = field(default_factory=Counter)


def label_of(judged: Judged) -> bool | None:
    """Return whether a finding is there, by a reader's verdict; None where that does not say it."""
    said = judged.presence is Presence.PRESENT
    if judged.verdict is Verdict.AGREE:
        return said
    if judged.why in _KNOWS_PRESENT:
        return True
    return False if said and judged.why in _KNOWS_ABSENT else None


def write_set(settings: Settings, database: Database, folder: Path, since: float) -> Written:
    """Write the set of what was judged since a moment (Unix time, seconds).

    folder: must not be there yet. Raises: FileExistsError; FirstlookError when files cannot be reached.
    """
    folder.mkdir(parents=True)
    written = Written()
    with database.reading() as session:
        material = judged_material(session, since)
    export = _Export(settings, folder, written)
    for one in material:
        try:
            export.take(one)
        except (FirstlookError, OSError, ValueError, KeyError, AttributeError) as error:
            reason = error.reason.value if isinstance(error, FirstlookError) else type(error).__name__
            written.left_out[f"cannot be read: {reason}"] += 1
    export.finish()
    return written


class _Export:
    def __init__(self, settings: Settings, folder: Path, written: Written) -> None:
        self._settings, self._folder, self._written = settings, folder, written
        self._spool, self._results = files_of(settings, "spool"), files_of(settings, "results")
        self._catalogue = Catalogue.load(settings.infer.models_dir)
        self._key = _key(settings.store.data_dir.resolve() / "retrain.key")
        self._rows: list[dict[str, Any]] = []

    def take(self, one: Material) -> None:
        if any(not image.path for image in one.images):
            self._written.left_out["its images were deleted"] += 1
            return
        if one.study.kind == Kind.CXR.value:
            self._radiograph(one)
        elif one.study.kind == Kind.CT.value:
            self._ct(one)

    def finish(self) -> None:
        if self._rows:
            extra = sorted({name for row in self._rows for name in row} - {*ABOUT, *COLUMN_OF_CODE.values()})
            with (self._folder / "cxr" / "labels.csv").open("w", encoding="utf-8", newline="") as file:
                table = csv.DictWriter(file, [*ABOUT, *COLUMN_OF_CODE.values(), *extra], restval="")
                table.writeheader()
                table.writerows(self._rows)
        about = {"notice": DISCLAIMER, "radiographs": self._written.radiographs, "ct_cases": self._written.cases,
                 "ct_slices": self._written.slices, "left_out": dict(self._written.left_out),
                 "identities": "keyed digests; look through the pictures for burnt-in text before they leave the site"}
        (self._folder / "about.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")

    def _radiograph(self, one: Material) -> None:
        frontal = [i for i in one.images if i.header.modality in ("CR", "DX") and i.header.view_position in _FRONTAL]
        labels = _labels(one)
        if len(frontal) != 1 or not labels:
            why = "no verdict says whether something is there" if len(frontal) == 1 else "not one frontal image"
            self._written.left_out[why] += 1
            return
        (image,) = frontal
        path = self._spool / image.path
        declared = dcmread(path, stop_before_pixels=True, specific_tags=["BurnedInAnnotation"])
        if str(declared.get("BurnedInAnnotation", "")) == "YES":
            self._written.left_out["burnt-in annotation"] += 1
            return
        grey, _ = to_grey(path)
        name = self._named("study", one.study.study_instance_uid)
        file = self._folder / "cxr" / "images" / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        _write(file, np.round(grey.grey * 255).astype(np.uint8))
        self._rows.append(labels | {
            "file": f"images/{name}.png", "orig": name, "patient": self._patient(one), "group": name, "source": "site",
            "sex": one.study.patient_sex if one.study.patient_sex in ("M", "F") else "", "age": _age(image.header),
            "view": image.header.view_position})
        self._written.radiographs += 1

    def _ct(self, one: Material) -> None:
        kept = [c for c in one.corrections if c.kind == "seg" and c.state == ATTACHED and c.path]
        if not kept:
            self._written.left_out["a CT without a corrected segmentation"] += 1
            return
        rules = GeometryRules(self._settings.assemble.min_ct_slices, self._settings.assemble.max_slice_gap_mm)
        selection = choose([i.header for i in one.images], rules, Comparison(self._spool).of(one.images))
        manifest = self._catalogue.get(str(one.study.summary["bundle"]))
        grid = grid_of(one.images)
        corrected, _ = read_drawings(Below(self._results, FOLDER) / kept[-1].path, grid, one.study.patient_id)
        own_file = ours_of(self._results, one.results)
        own = read_drawings(own_file, grid, one.study.patient_id)[0] if own_file else []
        self._slices(one, selection, manifest, grid, [*corrected, *_untouched(own, corrected)])

    def _slices(self, one: Material, selection: Selection, manifest: Manifest, grid: Grid,
                drawings: Sequence[Drawing]) -> None:
        files = {i.header.sop_instance_uid: self._spool / i.path for i in one.images}
        assert selection.geometry is not None
        volume = load_volume([files[h.sop_instance_uid] for h in selection.headers], selection.headers, selection.geometry)
        case = self._folder / "ct_lesions" / f"site-{self._named('study', one.study.study_instance_uid)}"
        case.mkdir(parents=True)
        for number, (header, hu) in enumerate(zip(selection.headers, volume.hu, strict=True)):
            mask = _mask(drawings, header.sop_instance_uid, grid)
            if not mask.any():
                continue
            look = ct.equalise(ct.stretch(ct.air(hu, manifest.parameters), manifest.parameters), _with_clahe(manifest))
            _write(case / f"{number:03}-ct.png", np.round(look * 255).astype(np.uint8))
            _write(case / f"{number:03}-mask.png", mask)
            self._written.slices += 1
        self._written.cases += 1

    def _patient(self, one: Material) -> str:
        return self._named("patient", f"{one.study.issuer_of_patient_id}\0{one.study.patient_id}")

    def _named(self, kind: str, text: str) -> str:
        return hmac.new(self._key, f"{kind}\0{text}".encode(), hashlib.sha256).hexdigest()[:16]


def _labels(one: Material) -> dict[str, Any]:
    """Return 1 or 0 by column of what readers said of a study; the newest verdict on each finding counts."""
    code_of = {(f.get("bundle") or one.study.summary["bundle"], f["name"]): f["code"] for f in one.study.summary["findings"]}
    labels: dict[str, Any] = {}
    for judged in latest(one.judged):
        there = label_of(judged)
        if there is not None:
            column = COLUMN_OF_VALUE.get(code_of.get((judged.bundle, judged.finding), ""), judged.finding)
            labels[column] = int(there)
    if any(labels.get(column) for column in labels if column != "no_finding"):
        labels["no_finding"] = 0
    return labels


def _untouched(own: Sequence[Drawing], corrected: Sequence[Drawing]) -> list[Drawing]:
    """Return our segments that the corrected segmentation does not have: a person who redrew one thing kept the others."""
    redrawn = {(d.code, d.side) for d in corrected}
    return [d for d in own if (d.code, d.side) not in redrawn]


def _mask(drawings: Sequence[Drawing], uid: str, grid: Grid) -> NDArray[np.uint8]:
    """Return 0 nothing, 1 lung, 2 infection: (rows, columns) uint8."""
    mask = np.zeros((grid.rows, grid.columns), np.uint8)
    for one in sorted(drawings, key=lambda d: d.code in _INFECTED):
        mask[one.mask(uid, grid)] = 2 if one.code in _INFECTED else 1
    return mask


def _with_clahe(manifest: Manifest) -> Mapping[str, Any]:
    return {"clahe_clip_limit": 2.0, "clahe_tiles": 8} | dict(manifest.parameters)


def _age(header: Header) -> str:
    years = age_years(header)
    return "" if years is None else str(min(int(years), _OLDEST))


def _key(file: Path) -> bytes:
    """Return the key of the names, made at the first export and readable by its owner only."""
    if not file.exists():
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            out.write(secrets.token_bytes(32))
    return file.read_bytes()


def _write(file: Path, pixels: NDArray[np.uint8]) -> None:
    made, data = cv2.imencode(".png", pixels)
    if not made:
        raise ValueError("a picture cannot be encoded")
    file.write_bytes(bytes(data))
