"""A RIS or PACS that announces instances and procedure steps, by pynetdicom."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import InstanceAvailabilityNotification, ModalityPerformedProcedureStep

from service.deliver.steady import steady
from tests.peers import CALLED, DEADLINE_S, HOST


def availability(datasets: Sequence[FileDataset], availability: str = "ONLINE") -> Dataset:
    """Return the attributes of a notification that these instances are available (PS3.4 Table R.3-1)."""
    made = Dataset()
    made.ReferencedPerformedProcedureStepSequence = []
    made.StudyInstanceUID = datasets[0].StudyInstanceUID
    made.ReferencedSeriesSequence = []
    for series in dict.fromkeys(ds.SeriesInstanceUID for ds in datasets):
        item = Dataset()
        item.SeriesInstanceUID = series
        item.ReferencedSOPSequence = [_reference(ds) for ds in datasets if ds.SeriesInstanceUID == series]
        for reference in item.ReferencedSOPSequence:
            reference.InstanceAvailability, reference.RetrieveAETitle = availability, "PACS"
        made.ReferencedSeriesSequence.append(item)
    return made


def step(study: str, status: str = "IN PROGRESS") -> Dataset:
    """Return the attributes with which a procedure step begins, as far as they matter here (PS3.4 Table F.7.2-1)."""
    made = Dataset()
    made.ScheduledStepAttributesSequence = [Dataset()]
    made.ScheduledStepAttributesSequence[0].StudyInstanceUID = study
    made.PerformedProcedureStepStatus, made.PerformedProcedureStepID, made.Modality = status, "1", "CT"
    made.PerformedSeriesSequence = []
    return made


def performed(datasets: Sequence[FileDataset], status: str = "COMPLETED") -> Dataset:
    """Return the changes with which a procedure step ends."""
    made = Dataset()
    made.PerformedProcedureStepStatus = status
    made.PerformedSeriesSequence = []
    for series in dict.fromkeys(ds.SeriesInstanceUID for ds in datasets):
        item = Dataset()
        item.SeriesInstanceUID, item.ReferencedNonImageCompositeSOPInstanceSequence = series, []
        item.ReferencedImageSequence = [_reference(ds) for ds in datasets if ds.SeriesInstanceUID == series]
        made.PerformedSeriesSequence.append(item)
    return made


@contextmanager
def announcing(port: int, calling: str = "RIS", implicit: bool = False) -> Iterator[Association]:
    """Open an association on which notices are accepted, and release it."""
    entity = AE(calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = DEADLINE_S
    for sop_class in (InstanceAvailabilityNotification, ModalityPerformedProcedureStep):
        entity.add_requested_context(sop_class, ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian)
    association = steady(entity.associate(HOST, port, ae_title=CALLED))
    connection = association.dul.socket.socket if association.dul.socket else None
    try:
        assert association.is_established and len(association.accepted_contexts) == 2
        yield association
        if association.is_established:
            association.release()
    finally:
        if connection is not None:
            connection.close()


def create(association: Association, sop_class: str, uid: str, attributes: Dataset) -> int:
    """Send an N-CREATE and return its status."""
    status, _ = association.send_n_create(attributes, sop_class, uid)
    return int(status.Status)


def change(association: Association, uid: str, attributes: Dataset) -> int:
    """Send the N-SET of a procedure step and return its status."""
    status, _ = association.send_n_set(attributes, ModalityPerformedProcedureStep, uid)
    return int(status.Status)


def _reference(ds: FileDataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    return item
