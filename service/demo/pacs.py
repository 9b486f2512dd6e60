"""A small, real PACS for the demo and the tests: it echoes, stores to a folder and answers queries. Loopback only."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import (
    ComprehensiveSRStorage,
    DigitalXRayImageStorageForProcessing,
    EnhancedSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    ParametricMapStorage,
)
from pynetdicom import evt
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind, Verification

from service import logs
from service.demo.query import answers
from service.domain.study import Header
from service.errors import BadInstance
from service.receive.header import read_encoded_header, read_file_header
from service.receive.policy import COMPRESSED, IMAGE_CLASSES, RESULT_CLASSES, UNCOMPRESSED, Policy
from service.receive.server import Server
from service.receive.transport import Handlers

SUCCESS, PENDING, CANCELLED = 0x0000, 0xFF00, 0xFE00
IDENTIFIER_MISMATCH = 0xA900
HOST = "127.0.0.1"
IDLE_S = 300.0
LABEL_MAP_SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"
_ALSO_STORED = (
    DigitalXRayImageStorageForProcessing, ComprehensiveSRStorage, EnhancedSRStorage, ParametricMapStorage,
    GrayscaleSoftcopyPresentationStateStorage, KeyObjectSelectionDocumentStorage, LABEL_MAP_SEGMENTATION_STORAGE,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
)
_log = logs.get("demo.pacs")

BeforeStore = Callable[[Any, str], int]


@dataclass(frozen=True)
class Received:
    """One object that the PACS holds: its file, and its identifiers."""

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str


class DemoPacs:
    """A PACS on loopback that keeps every object as a file in a folder; what the folder already holds is served too.

    before_store: asked before an object is kept, with the pynetdicom association and the SOP Instance UID; 0 keeps it,
    any other value is the status to answer with. It may block, or abort the association.
    """

    def __init__(self, ae_title: str, folder: Path, port: int = 0, before_store: BeforeStore | None = None) -> None:
        self.ae_title, self.folder = ae_title, folder
        self._wanted_port, self._before_store = port, before_store
        self._server: Server | None = None
        self._held: dict[str, tuple[Path, Header]] = {}
        self._arrived: list[Received] = []
        self._changed = threading.Condition()

    @property
    def port(self) -> int:
        """The TCP port listened on, once started."""
        if self._server is None:
            raise RuntimeError("the PACS is not started")
        return self._server.port

    def start(self) -> None:
        """Read the folder, then listen on 127.0.0.1.  Raises: OSError when the port is taken."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(self.folder.rglob("*.dcm")):
            self._index(path)
        handlers: Handlers = [
            (evt.EVT_C_ECHO, self._on_echo), (evt.EVT_C_STORE, self._on_store), (evt.EVT_C_FIND, self._on_find)]
        policy = Policy(ae_title=self.ae_title, host=HOST, port=self._wanted_port, idle_timeout_s=IDLE_S)
        self._server = Server(policy, _contexts(), handlers)
        self._server.start()
        _log.info("PACS started", extra={"ae_title": self.ae_title, "port": self.port, "objects": len(self._held)})

    def stop(self) -> None:
        """Abort open associations and close the port; the files stay."""
        server, self._server = self._server, None
        if server is None:
            return
        server.stop_accepting()
        for association in server.active_associations:
            association.abort()

    def received(self) -> list[Received]:
        """Return what has arrived by C-STORE since the start, in order; an object sent twice is there twice."""
        with self._changed:
            return list(self._arrived)

    def wait_for(self, predicate: Callable[[list[Received]], bool], timeout_s: float) -> bool:
        """Wait until the predicate holds for what has arrived; False when the time is up first."""
        with self._changed:
            return self._changed.wait_for(lambda: predicate(list(self._arrived)), timeout_s)

    def _index(self, path: Path) -> None:
        try:
            header = read_file_header(path)
        except BadInstance as error:
            _log.warning("a file is not served", extra={"detail": error.detail})
            return
        with self._changed:
            self._held[header.sop_instance_uid] = (path, header)

    def _on_echo(self, event: Any) -> int:
        return SUCCESS

    def _on_store(self, event: Any) -> int:
        announced = str(event.request.AffectedSOPInstanceUID)
        status = self._before_store(event.assoc, announced) if self._before_store else SUCCESS
        if status != SUCCESS:
            return status
        try:
            header = read_encoded_header(event.request.DataSet.getvalue(), str(event.context.transfer_syntax))
        except BadInstance as error:
            return error.dimse_status
        if header.sop_instance_uid != announced:
            return IDENTIFIER_MISMATCH
        path = self.folder / f"{secrets.token_hex(16)}.dcm"
        part = path.with_suffix(".part")
        part.write_bytes(event.encoded_dataset())
        part.rename(path)
        with self._changed:
            self._held[header.sop_instance_uid] = (path, header)
            self._arrived.append(
                Received(path, header.sop_class_uid, header.sop_instance_uid, header.study_instance_uid))
            self._changed.notify_all()
        return SUCCESS

    def _on_find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        with self._changed:
            headers = [header for _, header in self._held.values()]
        for answer in answers(event.identifier, headers, self.ae_title):
            if event.is_cancelled:
                yield CANCELLED, None
                return
            yield PENDING, answer


def _contexts() -> list[PresentationContext]:
    """Return what the PACS takes: what we receive, what we make, and what lies beside it."""
    stored = dict.fromkeys((*IMAGE_CLASSES, *RESULT_CLASSES, *_ALSO_STORED))
    return [build_context(Verification, list(UNCOMPRESSED)),
            build_context(StudyRootQueryRetrieveInformationModelFind, list(UNCOMPRESSED)),
            *(build_context(uid, [*UNCOMPRESSED, *COMPRESSED]) for uid in stored)]
