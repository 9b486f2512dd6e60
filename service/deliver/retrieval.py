"""Fetch studies from an archive: C-FIND for what it holds of a patient, then C-GET, or C-MOVE to our listener (PS3.4 C)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_context, build_role, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from service.deliver.cstore import Called, CStoreTarget
from service.domain.patient import Match, Patient
from service.errors import Reason, RefusedByPeer

_PENDING = (0xFF00, 0xFF01)
_SOME_FAILED = 0xB000
_SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
_MOST_STUDIES, _MOST_SERIES = 500, 200



class Retrieve(StrEnum):
    """How an archive hands studies out: on our association, or to our listener, which it must know by AE title."""

    GET = "get"
    MOVE = "move"


@dataclass(frozen=True)
class Sent:
    """An object that comes in by C-GET. data: the data set as received."""

    sop_class_uid: str
    sop_instance_uid: str
    abstract_syntax: str
    transfer_syntax_uid: str
    data: bytes


Keep = Callable[[Sent, str], int]
"""Keeps an object that the archive of this AE title sends; returns the status of C-STORE. Never raises."""


class Archive(Called):
    """One archive that studies are fetched from.

    peer: how it is reached; its time-out is the longest silence. destination: our AE title, for C-MOVE; images: the
    presentation contexts of what is kept, for C-GET; most_images: a study that has more is left alone.
    """

    def __init__(self, peer: CStoreTarget, retrieve: Retrieve, destination: str, images: Sequence[PresentationContext],
                 most_images: int) -> None:
        super().__init__(peer)
        self._retrieve, self._destination = retrieve, destination
        self._images, self.most_images = images, most_images

    def studies(self, patient_id: str) -> list[Match]:
        """Return the studies that the archive holds under a Patient ID, which is compared exactly.

        Raises: PeerUnavailable, RefusedByPeer.
        """
        asked = _identifier("STUDY", PatientID=patient_id, IssuerOfPatientID="", PatientBirthDate="", StudyInstanceUID="",
                            StudyDate="", StudyTime="", ModalitiesInStudy="", NumberOfStudyRelatedInstances="")
        model = StudyRootQueryRetrieveInformationModelFind
        with self._peer.association([build_context(model, _SYNTAXES)]) as association:
            found = [_match(a) for a in self._answers(association.send_c_find(asked, model), _MOST_STUDIES)]
        return [m for m in found if m is not None and m.patient.patient_id == patient_id]

    def series(self, study_instance_uid: str, modalities: Collection[str]) -> dict[str, int]:
        """Return the series of a study that are of these modalities: Series Instance UID and number of images, 0 unknown.

        Raises: PeerUnavailable, RefusedByPeer.
        """
        asked = _identifier("SERIES", StudyInstanceUID=study_instance_uid, SeriesInstanceUID="", Modality="",
                            NumberOfSeriesRelatedInstances="")
        model = StudyRootQueryRetrieveInformationModelFind
        with self._peer.association([build_context(model, _SYNTAXES)]) as association:
            found = list(self._answers(association.send_c_find(asked, model), _MOST_SERIES))
        return {str(s.SeriesInstanceUID): _count(s, "NumberOfSeriesRelatedInstances") for s in found
                if s.get("SeriesInstanceUID") and str(s.get("Modality") or "") in modalities}

    def retrieve(self, study_instance_uid: str, series: Collection[str], keep: Keep) -> int:
        """Fetch these series of a study; return how many images came, or were here already.

        Raises: PeerUnavailable, also when some images did not come; RefusedByPeer.
        """
        if self._retrieve is Retrieve.MOVE:
            model, contexts, handlers, roles = StudyRootQueryRetrieveInformationModelMove, [], [], []
        else:
            model, contexts = StudyRootQueryRetrieveInformationModelGet, list(self._images)
            handlers = [(evt.EVT_C_STORE, self._taker(keep))]
            roles = [build_role(c, scp_role=True) for c in dict.fromkeys(c.abstract_syntax for c in contexts)]
        done = 0
        with self._peer.association([build_context(model, _SYNTAXES), *contexts], handlers, roles) as association:
            for uid in series:
                asked = _identifier("SERIES", StudyInstanceUID=study_instance_uid, SeriesInstanceUID=uid)
                done += self._fetched(association, asked, model)
        return done

    def _fetched(self, association: Association, asked: Dataset, model: str) -> int:
        """Fetch one series; return how many images came."""
        try:
            answers = (association.send_c_move(asked, self._destination, model) if self._retrieve is Retrieve.MOVE
                       else association.send_c_get(asked, model))
            done = failed = 0
            for answer, _ in answers:
                status = self._peer.status(answer)
                done = max(done, int(answer.get("NumberOfCompletedSuboperations") or 0))
                failed = int(answer.get("NumberOfFailedSuboperations") or 0)
                if status in _PENDING:
                    continue
                if status == _SOME_FAILED or failed:
                    raise self._peer.unavailable(f"{failed} images of a series did not come, {done} did")
                self._peer.judge(status, "fetching a study")
            return done
        except RuntimeError as error:
            raise self._peer.unavailable("the association ended before the study had come") from error
        except ValueError as error:
            raise RefusedByPeer(Reason.PEER_REFUSED, f"{self.name} does not hand out studies by C-{self._retrieve.upper()}"
                                ) from error

    def _taker(self, keep: Keep) -> Callable[[Any], int]:
        def take(event: Any) -> int:
            request = event.request
            return keep(Sent(str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID),
                             str(event.context.abstract_syntax), str(event.context.transfer_syntax),
                             request.DataSet.getvalue() if request.DataSet else b""), self.ae_title)
        return take

    def _answers(self, answers: Iterator[Any], most: int) -> Iterator[Dataset]:
        """Yield the matches of a query. Raises: PeerUnavailable, RefusedByPeer."""
        try:
            for count, (answer, match) in enumerate(answers):
                status = self._peer.status(answer)
                if status not in _PENDING:
                    self._peer.judge(status, "a query")
                    return
                if count >= most:
                    raise self._peer.unavailable(f"more than {most} matches of a query")
                if match is not None:
                    yield match
        except RuntimeError as error:
            raise self._peer.unavailable("the association ended before the query was answered") from error


def _identifier(level: str, **keys: str) -> Dataset:
    asked = Dataset()
    asked.SpecificCharacterSet, asked.QueryRetrieveLevel = "ISO_IR 192", level
    for keyword, value in keys.items():
        setattr(asked, keyword, value or None)
    return asked


def _match(found: Dataset) -> Match | None:
    if not found.get("StudyInstanceUID"):
        return None
    patient = Patient(*(str(found.get(k) or "").strip() for k in ("PatientID", "IssuerOfPatientID", "PatientBirthDate")))
    told = found.get("ModalitiesInStudy") or ()
    modalities = (told,) if isinstance(told, str) else tuple(str(m) for m in told)
    return Match(str(found.StudyInstanceUID), patient, str(found.get("StudyDate") or ""), str(found.get("StudyTime") or ""),
                 modalities, _count(found, "NumberOfStudyRelatedInstances"))


def _count(found: Dataset, keyword: str) -> int:
    with suppress(TypeError, ValueError):
        return max(0, int(found.get(keyword)))
    return 0


