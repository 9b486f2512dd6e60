"""Public validators and readers that the gate asks: dicom3tools, DCMTK, dcmqi, highdicom. Each returns problems in words."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from highdicom.sr import srread
from pydicom import dcmread

from service.domain.finding import Assessment, Presence
from tests.contracts.own_of_reports import groups

VENV = Path(sys.executable).parent

DCMTK = Path("/usr/bin")  # by full path: pynetdicom installs commands of the same names

ALLOWED = (  # messages of dciodvfy that are not a fault of ours, and why
    r"Unrecognized defined term = <99FIRSTLOOK>",  # a private coding scheme is not in its list, by nature
    r"DeviceUID\(0018,1002\)> - Attribute is not present in standard DICOM IOD",  # AIR asks for it
    r"value that would be needed to build DICOMDIR",  # an empty attribute of the source, carried as it is
    r"Value dubious for this VR|Retired Person Name form",  # a value of the source, carried as it is
)

ALLOWED_OF_STATES = (
    *ALLOWED, r"Error - </Laterality\(0020,0060\)> - Missing attribute for Type 2C Conditional - Module=<GeneralSeries>")
"""A presentation state of a chest: two lungs have no one side, and an empty value would be said to be unknown."""

ALLOWED_OF_DCMPSCHK = (
    r"^W: (Testing|Test failed|Test passed)",  # the verdict; what led to it stands before
    r"patientName absent or empty",  # as in the source
    r"does not conform to data type definition|Attribute value   :|Expected format",  # of the attributes that follow:
    r"Affected attribute: Patient(Name|ID) ",  # in UTF-8, which DCMTK counts byte by byte
)


def dciodvfy(path: Path, allowed: Iterable[str] = ALLOWED) -> list[str]:
    """Validate one object against its IOD (dicom3tools); every error and warning outside the allow-list counts."""
    lines = _run([VENV / "dciodvfy", "-new", path])[1].splitlines()
    return [line for line in lines if line.startswith(("Error", "Warning")) and not any(re.search(a, line) for a in allowed)]


def dcentvfy(paths: Iterable[Path]) -> list[str]:
    """Compare the patients, studies and series of several objects and look for dangling references (dicom3tools)."""
    lines = _run([VENV / "dcentvfy", *paths])[1].splitlines()
    return [line for line in lines if line.startswith("Error")]


def dsrdump(path: Path) -> list[str]:
    """Print an SR with DCMTK; every error and warning counts. Nothing where DCMTK is not installed."""
    if not (DCMTK / "dsrdump").exists():
        return []
    code, text = _run([DCMTK / "dsrdump", path])
    told = [line for line in text.splitlines() if line.startswith(("E:", "F:"))]
    return told or ([f"dsrdump ended with {code}"] if code else [])


def dcmpschk(path: Path) -> list[str]:
    """Check a presentation state with DCMTK; every line outside the list of reasons counts. Nothing without DCMTK."""
    if not (DCMTK / "dcmpschk").exists():
        return []
    told = [line for line in _run([DCMTK / "dcmpschk", path])[1].splitlines() if line.startswith(("E:", "W:", "F:"))]
    return [line for line in told if line[2:].strip() and not any(re.search(a, line) for a in ALLOWED_OF_DCMPSCHK)]


def read_by_dcmqi(path: Path, said: Assessment | None = None) -> list[str]:
    """Read an SR with dcmqi's tid1500reader, and compare what it reads: every group with its numbers, no absent finding."""
    read_as = path.with_suffix(".json")
    code, text = _run([VENV / "tid1500reader", "--inputDICOM", path, "--outputMetadata", read_as])
    if code or not read_as.exists():
        return [f"tid1500reader: {text[-300:]}"]
    theirs = json.loads(read_as.read_text()).get("Measurements", [])
    mine = [sorted(float(i.MeasuredValueSequence[0].NumericValue) for i in g.ContentSequence if i.ValueType == "NUM")
            for g in groups(dcmread(path))]
    read = [sorted(float(m["value"]) for m in g.get("measurementItems") or []) for g in theirs]
    found = [] if mine and read == mine else [
        f"tid1500reader reads {len(theirs)} groups with other numbers than the {len(mine)} that were written"]
    absent = {f.code.value for f in said.findings if f.presence is Presence.ABSENT} if said else set()
    present = {f.code.value for f in said.present} if said else set()
    called = {g["Finding"]["CodeValue"] for g in theirs if "Finding" in g and not g.get("ReferencedSegment")}
    return found + [f"tid1500reader reads {code} as found" for code in sorted(called & (absent - present))]


def dcmqi_voxels(path: Path, folder: Path) -> dict[int, int]:
    """Return the voxels of each segment as dcmqi's segimage2itkimage reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    code, text = _run([VENV / "segimage2itkimage", "--inputDICOM", path, "--outputDirectory", folder, "-t", "nrrd",
                       "--prefix", "s"])
    if code:
        raise RuntimeError(f"segimage2itkimage: {text[-300:]}")
    counted = {}
    for file in folder.glob("s-*.nrrd"):
        head, _, body = file.read_bytes().partition(b"\n\n")
        data = gzip.decompress(body) if b"encoding: gz" in head else body
        kind = {b"unsigned char": np.uint8, b"short": np.int16, b"unsigned short": np.uint16}[
            re.search(rb"type: ([a-z ]+)", head)[1]]  # type: ignore[index]
        counted[int(file.stem.split("-")[1])] = int(np.count_nonzero(np.frombuffer(data, kind)))
    return counted


def read_by_highdicom(path: Path) -> list[str]:
    """Read an SR back as TID 1500."""
    try:
        report = srread(path)
    except (AttributeError, KeyError, ValueError, RuntimeError) as error:
        return [f"highdicom does not read it: {error}"]
    return [] if report.content.get_image_measurement_groups() else ["highdicom finds no measurement group"]


def _run(command: Sequence[object]) -> tuple[int, str]:
    done = subprocess.run([str(c) for c in command], capture_output=True, timeout=120, check=False)
    return done.returncode, (done.stdout + done.stderr).decode("utf-8", "replace")
