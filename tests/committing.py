"""A PACS that stores, answers queries and does storage commitment, honestly or not."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import (
    Comprehensive3DSRStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)

from service.deliver.steady import steady
from tests.peers import DEADLINE_S, HOST

NO_SUCH_OBJECT = 0x0112


@dataclass(frozen=True)
class Stored:
    """One object that the PACS holds, as the flow tests read it."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str


@dataclass
class CommittingPacs:
    """Keeps what it stores in memory.

    back: where its reports go: None for the association of the request, else (host, port) of our listener. says: what
    a report holds: kept, failed, both (in both lists), silent (about the first object), wrong (another transaction),
    bare (no transaction), never (no report). reason: Failure Reason. loses: that many objects are dropped after the
    Success of their first storing. lists: a query finds what is held. takes_requests, takes_queries: offered at all.
    status: of the answer to the request. tls: shakes hands first.
    """

    back: tuple[str, int] | None = None
    says: str = "kept"
    reason: int = NO_SUCH_OBJECT
    loses: int = 0
    lists: bool = True
    takes_requests: bool = True
    takes_queries: bool = True
    status: int = 0x0000
    before_answer: bool = False
    ae_title: str = "PACS"
    port: int = 0
    tls: ssl.SSLContext | None = None
    held: dict[str, Stored] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    requests: list[tuple[str, list[str]]] = field(default_factory=list)
    report_statuses: list[int | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> CommittingPacs:
        entity = AE(self.ae_title)
        entity.add_supported_context(Verification)
        for uid in (SegmentationStorage, Comprehensive3DSRStorage, SecondaryCaptureImageStorage):
            entity.add_supported_context(uid, ExplicitVRLittleEndian)
        if self.takes_requests:
            entity.add_supported_context(StorageCommitmentPushModel)
        if self.takes_queries:
            entity.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
        self._server = entity.start_server((HOST, self.port), block=False, evt_handlers=[
            (evt.EVT_C_STORE, self._store), (evt.EVT_C_FIND, self._find), (evt.EVT_N_ACTION, self._request),
            (evt.EVT_C_ECHO, lambda _: 0x0000)], ssl_context=self.tls)
        self.port = self._server.socket.getsockname()[1]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._server.shutdown()
        for thread in self._threads:
            thread.join(DEADLINE_S)

    def received(self) -> list[Stored]:
        """Return what is held."""
        return list(self.held.values())

    def report(self, transaction_uid: str, kept: Sequence[str], failed: Sequence[str], association: Any = None,
               reason: int | None = None) -> int | None:
        """Send a report, on the association given or on one of its own, and return the status of the answer."""
        information = Dataset()
        if transaction_uid:
            information.TransactionUID = transaction_uid
        information.ReferencedSOPSequence = [_item(uid) for uid in kept]
        if failed:
            information.FailedSOPSequence = [_item(uid, self.reason if reason is None else reason) for uid in failed]
        arguments = (information, 2 if failed else 1, StorageCommitmentPushModel, StorageCommitmentPushModelInstance)
        if association is not None:
            answer, _ = association.send_n_event_report(*arguments)
        else:
            answer = self._on_another(arguments)
        status = int(answer.Status) if "Status" in answer else None
        self.report_statuses.append(status)
        return status

    def _on_another(self, arguments: tuple[Any, ...]) -> Dataset:
        assert self.back is not None
        entity = AE(self.ae_title)
        entity.add_requested_context(StorageCommitmentPushModel)
        association = steady(entity.associate(*self.back, ae_title="FIRSTLOOK",
                                              ext_neg=[build_role(StorageCommitmentPushModel, scp_role=True)]))
        assert association.is_established
        try:
            answer, _ = association.send_n_event_report(*arguments)
            return answer
        finally:
            association.release()

    def _store(self, event: evt.Event) -> int:
        ds = event.dataset
        uid = str(ds.SOPInstanceUID)
        self.log.append(f"store {ds.Modality}")
        if self.loses:
            self.loses -= 1
        else:
            self.held[uid] = Stored(str(ds.SOPClassUID), uid, str(ds.StudyInstanceUID))
        return 0x0000

    def _find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        asked = event.identifier
        self.log.append(f"find {asked.QueryRetrieveLevel}")
        if self.lists and str(asked.SOPInstanceUID) in self.held:
            yield 0xFF00, asked

    def _request(self, event: evt.Event) -> tuple[int, None]:
        asked = [str(i.ReferencedSOPInstanceUID) for i in event.action_information.ReferencedSOPSequence]
        transaction_uid = str(event.action_information.TransactionUID)
        self.log.append("request")
        self.requests.append((transaction_uid, asked))
        if self.status == 0x0000 and self.says != "never":
            if self.before_answer:
                self._answer(transaction_uid, asked, None)
            else:
                thread = threading.Thread(target=self._answer, args=(
                    transaction_uid, asked, None if self.back else event.assoc))
                self._threads.append(thread)
                thread.start()
        return self.status, None

    def _answer(self, transaction_uid: str, asked: list[str], association: Any) -> None:
        kept = [uid for uid in asked if uid in self.held and self.says != "failed"]
        failed = [uid for uid in asked if uid not in kept]
        if self.says == "both":
            failed = asked
        if self.says == "silent":
            kept = kept[1:]
        uid = {"wrong": str(generate_uid()), "bare": ""}.get(self.says, transaction_uid)
        self.report(uid, kept, failed, association)


def _item(sop_instance_uid: str, reason: int | None = None) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = Comprehensive3DSRStorage, sop_instance_uid
    if reason is not None:
        item.FailureReason = reason
    return item


def target(pacs: Any, **changes: Any) -> dict[str, Any]:
    """Return a table of deliver.targets for a PACS that is to prove what it keeps; shorter waits than the defaults."""
    return {"name": "pacs", "ae_title": pacs.ae_title, "host": HOST, "port": pacs.port, "timeout_s": 5, "proof": "commit",
            "report_wait_s": 0.5} | changes

