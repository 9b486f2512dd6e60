"""Ask a DICOM target whether it keeps what it was sent: storage commitment (PS3.4 J), or a query (PS3.4 C) instead."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_context, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    StudyRootQueryRetrieveInformationModelFind,
)

from service.deliver.cstore import CStoreTarget
from service.domain.commitment import Proof
from service.errors import Defect, Reason

_REQUEST = 1  # Action Type ID, PS3.4 J.3.2
_PENDING = (0xFF00, 0xFF01)
_MOST_MATCHES = 100  # for a query that at most one object can match
_LOOK_S = 0.05
_SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]

Report = Callable[[Any], tuple[int, Dataset | None]]


class DicomProver:
    """Asks the peer of a C-STORE target.

    proof: COMMIT or CFIND; within_s: an answer that did not come by then is not waited for; wait_s: how long the
    association of a request is kept open for a report on the same one; on_report: takes such a report.
    """

    def __init__(self, target: CStoreTarget, proof: Proof, within_s: float, wait_s: float, on_report: Report) -> None:
        self.target = target
        self.proof = proof
        self.within_s = within_s
        self.wait_s = wait_s
        self._on_report = on_report

    def request(self, transaction_uid: str, objects: Mapping[str, str], answered: Callable[[], bool]) -> None:
        """Request storage commitment, and stay on the association until it is answered, or `wait_s` are over.

        objects: SOP Class UID by SOP Instance UID; answered: whether the report has come, here or elsewhere. The
        transaction must be written down already. Raises: PeerUnavailable; RefusedByPeer when the peer offers no commitment.
        """
        asked = Dataset()
        asked.TransactionUID = transaction_uid
        asked.ReferencedSOPSequence = [_reference(sop, uid) for uid, sop in objects.items()]
        contexts = [build_context(StorageCommitmentPushModel, _SYNTAXES)]
        with self.target.association(contexts, [(evt.EVT_N_EVENT_REPORT, self._on_report)]) as association:
            answer, _ = self._ask(association, asked)
            self.target.judge(self.target.status(answer), "a request of storage commitment")
            deadline = time.monotonic() + self.wait_s
            while time.monotonic() < deadline and association.is_established and not answered():
                association.join(_LOOK_S)

    def find(self, paths: Mapping[str, Path]) -> set[str]:
        """Return the SOP Instance UIDs, of those given with their files, that the peer lists.

        Raises: PeerUnavailable; RefusedByPeer when the peer answers no such query.
        """
        contexts = [build_context(StudyRootQueryRetrieveInformationModelFind, _SYNTAXES)]
        with self.target.association(contexts) as association:
            return {uid for uid, path in paths.items() if self._lists(association, uid, path)}

    def _ask(self, association: Association, asked: Dataset) -> tuple[Dataset, Dataset | None]:
        try:
            answer: tuple[Dataset, Dataset | None] = association.send_n_action(
                asked, _REQUEST, StorageCommitmentPushModel, StorageCommitmentPushModelInstance)
        except RuntimeError as error:  # the peer ended the association
            raise self.target.unavailable("the association ended before commitment was requested") from error
        return answer

    def _lists(self, association: Association, uid: str, path: Path) -> bool:
        found, count = False, 0
        try:
            for answer, match in association.send_c_find(_identifier(path), StudyRootQueryRetrieveInformationModelFind):
                status = self.target.status(answer)
                if status not in _PENDING:
                    self.target.judge(status, "a query")
                    return found
                found = found or str(getattr(match, "SOPInstanceUID", "")) == uid
                count += 1
                if count > _MOST_MATCHES:
                    break
        except RuntimeError as error:  # the peer ended the association
            raise self.target.unavailable("the association ended before the query was answered") from error
        raise self.target.unavailable("it answers a query for one object with many")


def _reference(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class_uid, sop_instance_uid
    return item


def _identifier(path: Path) -> Dataset:
    """Return the identifier that asks for one object of ours. Raises: Defect when its file cannot be read."""
    names = ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"]
    try:
        ours = dcmread(path, stop_before_pixels=True, specific_tags=names)
        asked = Dataset()
        asked.QueryRetrieveLevel = "IMAGE"
        for name in names:
            setattr(asked, name, ours[name].value)
    except (OSError, InvalidDicomError, KeyError) as error:
        raise Defect(Reason.INTERNAL_ERROR, "a result file is absent or not a DICOM file") from error
    return asked
