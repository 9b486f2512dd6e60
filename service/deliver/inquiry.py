"""Ask a PACS how many images of a study it holds (C-FIND, PS3.4 C.4.1): to learn whether all of them have come here."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import build_context
from pynetdicom.association import Association
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

from service.deliver.cstore import CStoreTarget
from service.domain.notice import KEPT_CLASSES
from service.errors import Reason, RefusedByPeer

_PENDING = (0xFF00, 0xFF01)
_SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
_MODALITIES = frozenset(("CR", "CT", "DX"))  # of the series that can hold images that are kept
_MOST_SERIES, _MOST_IMAGES = 200, 20_000
_LONGER = 4  # a whole answer may take this many times the time of one response
Held = Mapping[str, int]


class Inquiry:
    """Asks one PACS. peer: how it is reached; it need not be a place that results go to."""

    def __init__(self, peer: CStoreTarget) -> None:
        self._peer = peer

    @property
    def name(self) -> str:
        """The name of the PACS, for the trace."""
        return self._peer.name

    def images(self, study_instance_uid: str, held: Held) -> int:
        """Return how many images of a study the PACS holds, of the kinds that are kept here.

        held: how many are here, by Series Instance UID. The number of the whole study is believed when it is what is
        here. Else it may count reports and our own results: then the series are asked for, and the images of those
        series that differ. Numbers are optional keys; where the PACS leaves them out, images are counted.
        Raises: PeerUnavailable when it is away, slow or out of resources; RefusedByPeer when it answers no such query.
        """
        deadline = time.monotonic() + _LONGER * self._peer.timeout_s
        with self._peer.association([build_context(StudyRootQueryRetrieveInformationModelFind, _SYNTAXES)]) as association:
            asked = _identifier("STUDY", StudyInstanceUID=study_instance_uid, NumberOfStudyRelatedInstances=None)
            studies = list(self._find(association, asked, 10, deadline))
            whole = _number(studies[0], "NumberOfStudyRelatedInstances") if len(studies) == 1 else None
            if whole == sum(held.values()):
                return whole
            return self._by_series(association, study_instance_uid, held, deadline)

    def _by_series(self, association: Association, study: str, held: Held, deadline: float) -> int:
        asked = _identifier("SERIES", StudyInstanceUID=study, SeriesInstanceUID="", Modality="",
                            NumberOfSeriesRelatedInstances=None)
        total = 0
        for series in list(self._find(association, asked, _MOST_SERIES, deadline)):
            uid = str(series.get("SeriesInstanceUID", ""))
            if not uid or str(series.get("Modality", "")) not in (*_MODALITIES, ""):
                continue
            count = _number(series, "NumberOfSeriesRelatedInstances")
            agrees = count is not None and count == held.get(uid)
            total += held[uid] if agrees else self._count(association, study, uid, deadline)
        return total

    def _count(self, association: Association, study: str, series: str, deadline: float) -> int:
        asked = _identifier("IMAGE", StudyInstanceUID=study, SeriesInstanceUID=series, SOPInstanceUID="", SOPClassUID="")
        classes = [str(i.get("SOPClassUID") or "") for i in self._find(association, asked, _MOST_IMAGES, deadline)]
        return sum(not c or c in KEPT_CLASSES for c in classes)

    def _find(self, association: Association, asked: Dataset, most: int, deadline: float) -> Iterator[Dataset]:
        """Yield the matches of a query. Raises: PeerUnavailable; RefusedByPeer."""
        count = 0
        try:
            for answer, match in association.send_c_find(asked, StudyRootQueryRetrieveInformationModelFind):
                status = self._peer.status(answer)
                if status not in _PENDING:
                    self._peer.judge(status, "a query")
                    return
                count += 1
                if count > most or time.monotonic() > deadline:
                    raise self._peer.unavailable(f"{count} matches of a query: too many, or too slow")
                if match is not None:
                    yield match
        except RuntimeError as error:  # the peer ended the association
            raise self._peer.unavailable("the association ended before the query was answered") from error
        except ValueError as error:
            raise RefusedByPeer(Reason.PEER_REFUSED, f"{self.name} cannot be asked ({type(error).__name__})") from error


def _identifier(level: str, **keys: str | None) -> Dataset:
    asked = Dataset()
    asked.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(asked, keyword, value)
    return asked


def _number(found: Dataset, keyword: str) -> int | None:
    """Return a count, None when there is none that can be meant."""
    try:
        number = int(found.get(keyword))
    except (TypeError, ValueError):
        return None
    return number if 0 <= number <= _MOST_IMAGES * _MOST_SERIES else None
