"""PACS that are asked how many images they hold: DCMTK's dcmqrscp, and one that answers as a test tells it."""

from __future__ import annotations

import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

from tests.peers import DEADLINE_S, HOST, dcmtk, echo, free_port, wait_until

PENDING = 0xFF00
Says = Callable[[Dataset, int], Sequence[Dataset] | int | str]
"""From the identifier and the number of questions of its level before, to matches, a status, "stall" or "abort"."""


@contextmanager
def dcmqrscp(folder: Path) -> Iterator[int]:
    """Run DCMTK's query/retrieve SCP with the AE title QRSCP and yield its port."""
    program, port = dcmtk("dcmqrscp"), free_port()
    store = folder / "qrscp"
    store.mkdir(parents=True)
    (folder / "qrscp.cfg").write_text("\n".join((
        f"NetworkTCPPort = {port}", "MaxPDUSize = 16384", "MaxAssociations = 16", "HostTable BEGIN", "HostTable END",
        "VendorTable BEGIN", "VendorTable END", "AETable BEGIN", f"QRSCP {store} RW (100, 1024mb) ANY", "AETable END", "")))
    with (folder / "qrscp.log").open("w") as log, subprocess.Popen(
            [program, "-c", str(folder / "qrscp.cfg")], stdout=log, stderr=log) as process:
        try:
            wait_until(lambda: echo(HOST, port, called="QRSCP").returncode == 0)
            yield port
        finally:
            process.terminate()
            process.wait(DEADLINE_S)


class QueryPacs:
    """A PACS that answers queries as `says` tells it. asked: the level of each question, in order; tls: shakes hands."""

    def __init__(self, says: Says, tls: ssl.SSLContext | None = None) -> None:
        self._says, self._tls = says, tls
        self._ended = threading.Event()
        self.asked: list[str] = []

    def __enter__(self) -> QueryPacs:
        entity = AE("COUNTS")
        entity.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
        self._server = entity.start_server((HOST, 0), block=False, evt_handlers=[(evt.EVT_C_FIND, self._on_find)],
                                           ssl_context=self._tls)
        self.port = int(self._server.server_address[1])
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._server.shutdown()

    def _on_find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        asked = event.identifier
        level = str(asked.QueryRetrieveLevel)
        before = self.asked.count(level)
        self.asked.append(level)
        said = self._says(asked, before)
        if said == "stall":
            self._ended.wait(DEADLINE_S)
            return
        if said == "abort":
            event.assoc.abort()
            return
        if isinstance(said, int):
            yield said, None
            return
        for match in said:
            yield PENDING, match  # type: ignore[misc]


def study_of(asked: Dataset, count: object) -> Dataset:
    """Return a match at the level of studies; count: None leaves the number out."""
    made = Dataset()
    made.QueryRetrieveLevel, made.StudyInstanceUID = "STUDY", asked.StudyInstanceUID
    if count is not None:
        made.add_new("NumberOfStudyRelatedInstances", "IS", count)
    return made


def series_of(asked: Dataset, counts: Mapping[str, tuple[str, int | None]]) -> list[Dataset]:
    """Return matches at the level of series; counts: modality and number by Series Instance UID."""
    made = []
    for uid, (modality, count) in counts.items():
        one = Dataset()
        one.QueryRetrieveLevel, one.StudyInstanceUID = "SERIES", asked.StudyInstanceUID
        one.SeriesInstanceUID, one.Modality = uid, modality
        if count is not None:
            one.NumberOfSeriesRelatedInstances = count
        made.append(one)
    return made


def images_of(asked: Dataset, classes: Sequence[str]) -> list[Dataset]:
    """Return matches at the level of images, of these SOP classes."""
    made = []
    for number, sop_class in enumerate(classes):
        one = Dataset()
        one.QueryRetrieveLevel, one.StudyInstanceUID = "IMAGE", asked.StudyInstanceUID
        one.SeriesInstanceUID, one.SOPInstanceUID = asked.SeriesInstanceUID, f"1.2.{number}"
        one.SOPClassUID = sop_class
        made.append(one)
    return made
