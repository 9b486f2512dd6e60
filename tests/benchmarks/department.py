"""A department to measure the service by: studies made of the demonstration's images, senders, and the service itself."""

from __future__ import annotations

import copy
import itertools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.uid import ExplicitVRLittleEndian
from sqlmodel import col, select

from service.deliver.cstore import CStoreTarget
from service.domain.flag import FIRST_LOOK
from service.domain.job import DeliveryState, StudyState
from service.domain.urgency import Urgency
from service.pipeline.first_look import TOLD
from service.store.database import Database
from service.store.tables import Event, Study
from tests.benchmarks.limits import cpu_seconds
from tests.peers import HOST, Link, Raw, ScriptedPacs, free_port, send

STUDIES = Path(__file__).parents[2] / "service" / "demo" / "studies"
_ROOT, _TOKEN = "1.2.826.0.1.3680043.10.1234", "7700000000"
_ORDERED = {Urgency.STAT: "STAT", Urgency.URGENT: "HIGH", Urgency.ROUTINE: "ROUTINE", Urgency.LOW: "LOW"}
_TELLING = (FIRST_LOOK, TOLD)
"""Events that say that the worklist told something of a study before its result was written."""
_DCMTK = Path("/usr/bin/storescu").exists()


@dataclass(frozen=True)
class Template:
    """The files of one study with placeholders in place of its numbers, all of one length: any number of copies is made."""

    files: tuple[bytes, ...]

    @classmethod
    def of(cls, datasets: list[FileDataset]) -> Template:
        """Encode images whose identifiers are placeholders."""
        return cls(tuple(_encoded(ds) for ds in datasets))

    def write(self, number: int, urgency: Urgency, folder: Path) -> tuple[str, list[Path]]:
        """Write a study; returns its Study Instance UID and the files."""
        folder.mkdir(parents=True)
        token, ordered = f"77{number:08d}".encode(), _ORDERED[urgency].ljust(8).encode()
        paths = []
        for k, content in enumerate(self.files):
            paths.append(folder / f"{k:04d}.dcm")
            paths[-1].write_bytes(content.replace(_TOKEN.encode(), token).replace(b"PRIORITY", ordered))
        return f"{_ROOT}.{token.decode()}.1", paths


def _encoded(ds: FileDataset) -> bytes:
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def ct_template(slices: int) -> Template:
    """A CT of so many slices, uncompressed: the demonstration's, stretched to as many over the same height."""
    series = sorted((dcmread(p) for p in (STUDIES / "ct").rglob("*.dcm")), key=lambda d: float(d.ImagePositionPatient[2]))
    low, high = (float(series[k].ImagePositionPatient[2]) for k in (0, -1))
    pixels = [d.pixel_array for d in series]
    made = []
    for k, source in enumerate(np.rint(np.linspace(0, len(series) - 1, slices)).astype(int)):
        ds = _blank(series[source], k + 1, pixels[source])
        x, y, _ = ds.ImagePositionPatient
        ds.ImagePositionPatient = [x, y, f"{low + (high - low) * k / (slices - 1):.4f}"]
        ds.SliceThickness = f"{(high - low) / (slices - 1):.4f}"
        ds.FrameOfReferenceUID = f"{_ROOT}.{_TOKEN}.3"
        made.append(ds)
    return Template.of(made)


def cxr_template(which: int) -> Template:
    """A radiograph as from a detector, 2048 x 2500 pixels of 16 bits: one of the demonstration's, enlarged."""
    paths = sorted((STUDIES / "cxr").rglob("*.dcm"))
    source = dcmread(paths[which % len(paths)])
    return Template.of([_blank(source, 1, cv2.resize(source.pixel_array, (2048, 2500), interpolation=cv2.INTER_LINEAR))])


def _blank(source: FileDataset, number: int, pixels: np.ndarray) -> FileDataset:
    """Return a copy of an image, uncompressed, that belongs to nobody."""
    ds: FileDataset = copy.deepcopy(source)
    ds.StudyInstanceUID, ds.SeriesInstanceUID = f"{_ROOT}.{_TOKEN}.1", f"{_ROOT}.{_TOKEN}.2"
    ds.SOPInstanceUID = f"{_ROOT}.{_TOKEN}.4.{number}"
    ds.PatientID = ds.AccessionNumber = _TOKEN
    ds.StudyDescription = "Load"
    ds.InstanceNumber, ds.RequestedProcedurePriority = number, "PRIORITY"
    ds.Rows, ds.Columns, ds.PixelData = *pixels.shape, np.ascontiguousarray(pixels).tobytes()
    ds["PixelData"].VR = "OW" if ds.BitsAllocated == 16 else "OB"
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    return ds


@dataclass(frozen=True)
class Passage:
    """One study on its way: times are Unix seconds. flagged_at: the first time that the worklist said anything of it."""

    kind: str
    urgency: str
    last_received_at: float
    started_at: float
    flagged_at: float
    assessed_at: float
    delivered_at: float

    @property
    def notified_s(self) -> float:
        """From the last image to what the worklist says first, seconds."""
        return self.flagged_at - self.last_received_at

    @property
    def delivered_s(self) -> float:
        """From the last image to the last object stored in the PACS, seconds."""
        return self.delivered_at - self.last_received_at


@dataclass
class Department:
    """The running service and its PACS."""

    port: int
    web: str
    database: Database
    folder: Path
    process_id: int
    _numbers: Iterator[int] = field(default_factory=partial(itertools.count, 1))

    def send(self, template: Template, urgency: Urgency, seconds: float = 0.0) -> str:
        """Send one study in one association, spread over some seconds; returns its Study Instance UID. Any thread may."""
        number = next(self._numbers)
        folder = self.folder / f"study-{number}"
        uid, paths = template.write(number, urgency, folder)
        if seconds:
            _slowly(paths, self.port, seconds)
        elif _DCMTK:
            send(paths, HOST, self.port, "LOAD", "FIRSTLOOK", "-R", "-pdu", "131072")
        else:
            CStoreTarget("service", "FIRSTLOOK", HOST, self.port, "LOAD").send(paths)
        shutil.rmtree(folder)
        return uid

    def passage(self, uid: str) -> Passage | None:
        """Return the times of a study, None while it is on its way.  Raises: SystemExit when it was refused."""
        with self.database.reading() as session:
            study = session.exec(select(Study).where(Study.study_instance_uid == uid)).first()
            if study is None:
                return None
            if study.state in (StudyState.NOT_ASSESSED, StudyState.FAILED):
                raise SystemExit(f"{uid} ended as {study.state}: {study.state_reason} {study.state_detail}")
            if study.delivery != DeliveryState.DELIVERED or not study.assessed_at or not study.delivered_at:
                return None
            first = session.exec(select(Event.at).where(Event.study_id == study.id, col(Event.stage).in_(_TELLING))
                                 .order_by(col(Event.at))).first()
            return Passage(study.kind, study.urgency, study.last_received_at, study.started_at or 0.0,
                           first or study.assessed_at, study.assessed_at, study.delivered_at)

    def wait_for(self, uids: list[str], timeout_s: float) -> list[Passage]:
        """Return the times of the studies that are through when all are, or the time is over."""
        deadline, found = time.monotonic() + timeout_s, dict[str, Passage]()
        while time.monotonic() < deadline:
            for uid in uids:
                if uid not in found and (passage := self.passage(uid)):
                    found[uid] = passage
            if len(found) == len(uids):
                break
            time.sleep(0.2)
        return list(found.values())

    def cpu_s(self) -> float:
        """Return the processor time that the service has used, seconds: to be trusted when others use the machine."""
        return cpu_seconds(self.process_id)

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples that carry these labels."""
        total = 0.0
        for line in httpx.get(f"{self.web}/metrics", timeout=30).text.splitlines():
            if line.startswith((f"{name} ", f"{name}{{")) and all(f'{k}="{v}"' in line for k, v in labels.items()):
                total += float(line.rsplit(" ", 1)[1])
        return total


def _slowly(paths: list[Path], port: int, seconds: float) -> None:
    """Send files one after the other on one association, evenly spread."""
    raws = [Raw.of(dcmread(path)) for path in paths]
    with Link(port, [(raws[0].sop_class_uid, raws[0].transfer_syntax_uid)], "FIRSTLOOK", "LOAD") as link:
        began = time.monotonic()
        for k, raw in enumerate(raws):
            time.sleep(max(0.0, began + seconds * k / max(1, len(raws) - 1) - time.monotonic()))
            if link.store(raw) != 0:
                raise SystemExit("an image was not taken")


@contextmanager
def department(folder: Path, **sections: dict[str, Any]) -> Iterator[Department]:
    """Run `firstlook serve` as IT would, with a PACS, on free ports; sections: settings that go over those of here."""
    folder.mkdir(parents=True)
    port, page = free_port(), free_port()
    with ScriptedPacs(folder / "pacs") as pacs:
        tree: dict[str, dict[str, Any]] = {
            "store": {"data_dir": str(folder / "data")},
            "receive": {"port": port, "any_calling_ae": True, "min_free_bytes": 0},
            "infer": {"device": "cpu"}, "web": {"port": page},
        }
        for name, changes in sections.items():
            tree[name] = tree.get(name, {}) | changes
        lines = [f"[{name}]\n" + "\n".join(f"{k} = {_toml(v)}" for k, v in table.items()) for name, table in tree.items()]
        target = f'[[deliver.targets]]\nname = "pacs"\nae_title = "{pacs.ae_title}"\nhost = "{HOST}"\nport = {pacs.port}'
        settings = folder / "settings.toml"
        settings.write_text("\n".join((*lines, target)), encoding="utf-8")
        with (folder / "log").open("wb") as log:
            service = subprocess.Popen([sys.executable, "-m", "service.cli", "serve", "--settings", settings],
                                       stdout=log, stderr=log, env=dict(os.environ))
        try:
            web = f"http://{HOST}:{page}"
            _until(lambda: _ready(web), service)
            database = Database(f"sqlite:///{folder / 'data' / 'firstlook.db'}")
            try:
                yield Department(port, web, database, folder, service.pid)
            finally:
                database.close()
        finally:
            service.terminate()
            service.wait(60)


def _until(done: Callable[[], bool], service: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 90
    while not done():
        if service.poll() is not None or time.monotonic() > deadline:
            raise SystemExit("the service did not start; see its log")
        time.sleep(0.2)


def _ready(web: str) -> bool:
    try:
        return httpx.get(f"{web}/health/ready", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def _toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value) if isinstance(value, int | float) else f'"{value}"'
