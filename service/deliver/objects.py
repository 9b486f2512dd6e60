"""What sending needs to know of a result file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID

from service.errors import Defect, Reason


@dataclass(frozen=True)
class Object:
    """One result file, by its file meta information."""

    path: Path
    sop_class: UID
    sop_instance: str
    transfer_syntax: UID
    size_bytes: int


def read_object(path: Path) -> Object:
    """Read the file meta information of a result. Raises: Defect when the file is not there or not a DICOM file."""
    try:
        meta = dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID"]).file_meta
        return Object(path, UID(meta.MediaStorageSOPClassUID), str(meta.MediaStorageSOPInstanceUID),
                      UID(meta.TransferSyntaxUID), path.stat().st_size)
    except (OSError, InvalidDicomError, AttributeError) as error:
        raise Defect(Reason.INTERNAL_ERROR, "a result file is absent or not a DICOM file") from error
