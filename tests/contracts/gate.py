"""The gate that every object we make must pass: public validators, and own checks of what these do not see.

Each check returns problems in words; none is a pass. dciodvfy does not see a wrong frame of reference, a wrong plane
position, a wrong code meaning, a missing Procedure Reported or Tracking UID, nor a changed patient: the own checks do.
"""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import highdicom as hd
import numpy as np
from highdicom.sr import srread
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sr._concepts_dict import concepts

from service.domain import codes, study
from service.domain.finding import Assessment, Presence
from service.report.document import REQUIRED

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
CLASSES = {
    "seg": study.SEGMENTATION_STORAGE, "sr": study.COMPREHENSIVE_3D_SR_STORAGE, "sc": study.SECONDARY_CAPTURE_STORAGE,
    "pr": study.PRESENTATION_STATE_STORAGE, "ko": study.KEY_OBJECT_SELECTION_STORAGE}
REVIEWED = {  # written by highdicom, and right, but not in pydicom's dictionaries or there under another name
    ("260753009", "SCT"): "Source", ("276214006", "SCT"): "Finding category",
    ("{pixels}", "UCUM"): "Pixels", ("{-1:1}", "UCUM"): "{-1:1}", ("mm", "UCUM"): "mm",
}
REPORT_ROWS = (  # TID 1500: mandatory rows, and what every report of ours says besides
    "121049", "121005", "121012", "121058", "126010")
GROUP_ROWS = ("112039", "112040", "111001", "111003")


def problems(made: dict[str, list[Path]], sources: Sequence[Path], said: Assessment | None) -> list[str]:
    """Return everything that is wrong with the objects of one study, each line with the name of the check before it.

    made: files by kind (seg, sr, sc, pr, ko).
    """
    files = [path for paths in made.values() for path in paths]
    images = [dcmread(p) for p in sources]
    found = [(f"class_is: {line}") for kind, paths in made.items() for p in paths for line in class_is(dcmread(p), kind)]
    if any("SOP class" in line for line in found):
        return found  # no tool can read it as what it says it is
    study_checks = {"dcentvfy": dcentvfy([*sources, *files])}
    found += [f"{name}: {line}" for name, lines in study_checks.items() for line in lines]
    for kind, paths in made.items():
        for path in paths:
            own = {
                "dciodvfy": dciodvfy(path, ALLOWED_OF_STATES if kind == "pr" else ALLOWED),
                "same_study": same_study(dcmread(path), images[0]), "dangling": dangling(dcmread(path), [*sources, *files]),
                "meanings": meanings(dcmread(path)), **_OF_KIND[kind](path, made, images, [*sources, *files], said)}
            found += [f"{name}: {path.name}: {line}" for name, lines in own.items() for line in lines]
    return found


Found = dict[str, list[str]]


def _of_report(path: Path, made: dict[str, list[Path]], images: Sequence[Dataset], files: Sequence[Path],
               said: Assessment | None) -> Found:
    report = dcmread(path)
    found = {
        "mandatory_rows": mandatory_rows(report), "references": references(report, files),
        "read_by_highdicom": read_by_highdicom(path), "read_by_dcmqi": read_by_dcmqi(path, said), "dsrdump": dsrdump(path)}
    if said is None:
        return found | {"never_normal": never_normal(report)}
    return found | {
        "no_finding_for_absent": no_finding_for_absent(report, said), "speakers": speakers(report, said),
        "regions": regions(report, said, images), "explained": explained(report, made.get("sc", []))}


def _of_segmentation(path: Path, made: dict[str, list[Path]], images: Sequence[Dataset], files: Sequence[Path],
                     said: Assessment | None) -> Found:
    assert said is not None and said.masks is not None
    slices = [one for image in images for one in slices_of(image)]
    return {"on_source_grid": on_source_grid(dcmread(path), slices), "voxels": voxels(path, said),
            "volumes": volumes(path, dcmread(made["sr"][0]), slices)}


_OF_KIND: dict[str, Callable[..., Found]] = {
    "sr": _of_report, "seg": _of_segmentation,
    "sc": lambda path, made, images, files, said: {"captured": captured(dcmread(path), images)},
    "pr": lambda path, made, images, files, said: {"outlined": outlined(dcmread(path), images), "dcmpschk": dcmpschk(path)},
    "ko": lambda path, made, images, files, said: {"references": references(dcmread(path), files), "dsrdump": dsrdump(path)},
}
CHECKS = (
    "class_is", "dciodvfy", "dcentvfy", "same_study", "dangling", "meanings", "mandatory_rows", "references",
    "read_by_highdicom", "read_by_dcmqi", "dsrdump", "never_normal", "no_finding_for_absent", "speakers", "regions",
    "explained", "on_source_grid", "voxels", "volumes", "captured", "outlined", "dcmpschk")
"""The name of each check; a fault of the test proves that it catches."""


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


def class_is(made: Dataset, kind: str) -> list[str]:
    """Compare SOP class, series number and the marks of every object of ours."""
    found = [] if made.SOPClassUID == CLASSES[kind] else [f"{kind}: SOP class {made.SOPClassUID.name}"]
    if made.SeriesNumber < 900:
        found.append(f"{kind}: series number {made.SeriesNumber}")
    item = made.ContributingEquipmentSequence[0]
    if made.Manufacturer != "firstlook" or item.PurposeOfReferenceCodeSequence[0].CodeValue != "109102":
        found.append(f"{kind}: not marked as ours")
    if not str(item.get("DeviceUID", "")).startswith("2.25."):
        found.append(f"{kind}: no Device UID")
    return found


def same_study(made: Dataset, source: Dataset) -> list[str]:
    """Compare patient and study with the source's."""
    wrong = [k for k in (*REQUIRED, "StudyInstanceUID", "StudyDescription", "IssuerOfPatientID")
             if str(made.get(k) or "") != str(source.get(k) or "")]
    missing = [k for k in REQUIRED if k not in made]
    return [f"{k} differs from the source" for k in wrong] + [f"{k} is missing" for k in missing]


def on_source_grid(seg: Dataset, images: Sequence[Dataset]) -> list[str]:
    """Compare frame of reference, size, orientation and every plane position with the source slices."""
    found = []
    if any(seg.FrameOfReferenceUID != i.FrameOfReferenceUID for i in images):
        found.append("Frame of Reference UID differs from the source")
    if (seg.Rows, seg.Columns) != (images[0].Rows, images[0].Columns):
        found.append("Rows or Columns differ from the source")
    shared = seg.SharedFunctionalGroupsSequence[0]
    cosines = shared.PlaneOrientationSequence[0].ImageOrientationPatient
    if not np.allclose(cosines, images[0].ImageOrientationPatient, atol=1e-6):
        found.append("orientation differs from the source")
    if not np.allclose(shared.PixelMeasuresSequence[0].PixelSpacing, images[0].PixelSpacing, atol=1e-6):
        found.append("Pixel Spacing differs from the source")
    at = {place: np.array(i.ImagePositionPatient, dtype=float) for i in images for place in [_place(i)]}
    for number, frame in enumerate(seg.PerFrameFunctionalGroupsSequence, 1):
        position = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        source = frame.DerivationImageSequence[0].SourceImageSequence[0]
        place = str(source.ReferencedSOPInstanceUID), int(source.get("ReferencedFrameNumber") or 0)
        if place not in at or np.abs(at[place] - position).max() > 1e-3:
            found.append(f"frame {number} is not at the position of its source slice")
    listed = [str(r.ReferencedSOPInstanceUID) for s in seg.ReferencedSeriesSequence for r in s.ReferencedInstanceSequence]
    if sorted(listed) != sorted({uid for uid, _ in at}):
        found.append("Referenced Series Sequence does not list the source images")
    return found


def slices_of(image: Dataset) -> list[Dataset]:
    """Return the frames of an enhanced CT as images, by their functional groups; another image as it is."""
    if "PerFrameFunctionalGroupsSequence" not in image:
        return [image]
    made = []
    for number, own in enumerate(image.PerFrameFunctionalGroupsSequence, 1):
        one = Dataset()
        one.update({e.tag: e for e in image if e.VR != "SQ" and e.keyword != "InstanceNumber"})
        for groups in (image.SharedFunctionalGroupsSequence[0], own):
            for group in groups:
                one.update({e.tag: e for e in group.value[0]})
        one.InstanceNumber = number
        made.append(one)
    return made


def _place(image: Dataset) -> tuple[str, int]:
    """Return the SOP Instance UID of a slice and, of a frame, its number."""
    return str(image.SOPInstanceUID), int(image.InstanceNumber) if "NumberOfFrames" in image else 0


def voxels(path: Path, said: Assessment) -> list[str]:
    """Read the SEG back with highdicom and dcmqi and compare each segment's voxels with the mask."""
    try:
        seg = hd.seg.segread(path)
        other = dcmqi_voxels(path, path.parent / f"{path.stem}-dcmqi")
    except (AttributeError, KeyError, ValueError, RuntimeError) as error:
        return [f"it cannot be read back: {error}"[:400]]
    wanted = {s.label: int(said.mask(s).sum()) for s in said.segments if said.mask(s).any()}
    labels = {n: str(seg.get_segment_description(n).SegmentLabel) for n in seg.segment_numbers}
    volume = seg.get_volume(combine_segments=False).array
    found = [] if sorted(labels.values()) == sorted(wanted) else [f"segments {sorted(labels.values())}"]
    for place, number in enumerate(seg.segment_numbers):
        mine, theirs = int(volume[..., place].sum()), other.get(number)
        if {mine, theirs} != {wanted.get(labels[number])}:
            found.append(f"segment {labels[number]}: {mine} and {theirs} voxels, {wanted.get(labels[number])} in the mask")
    return found


def slice_thickness(images: Sequence[Dataset]) -> dict[tuple[float, ...], float]:
    """Return what each slice stands for, mm, by its position: the median distance, or, where distances vary in runs, half
    of the distance to either neighbour."""
    points = np.array([i.ImagePositionPatient for i in images], dtype=float)
    cosines = np.array(images[0].ImageOrientationPatient, dtype=float)
    along = points @ np.cross(cosines[:3], cosines[3:])
    order = np.argsort(along)
    steps = np.diff(along[order])
    median, wide = float(np.median(steps)), int(np.count_nonzero(np.abs(steps - np.median(steps)) > 0.1 * np.median(steps)))
    own = (np.r_[steps[0], steps] + np.r_[steps, steps[-1]]) / 2 if wide > 1 else np.full(len(along), median)
    return {tuple(round(float(v), 2) for v in points[n]): float(t) for n, t in zip(order, own, strict=True)}


def volumes(path: Path, report: Dataset, images: Sequence[Dataset]) -> list[str]:
    """Recompute each volume of the SR from the frames of the SEG it refers to and the distances of their slices."""
    seg = dcmread(path)
    numbers = [int(s.SegmentNumber) for s in seg.SegmentSequence]
    if seg.NumberOfFrames != len(seg.PerFrameFunctionalGroupsSequence):
        return ["frames and functional groups differ"]
    area_mm2 = float(np.prod(seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing))
    thickness = slice_thickness(images)
    found, ml = [], dict.fromkeys(numbers, 0.0)
    for frame, pixels in zip(seg.PerFrameFunctionalGroupsSequence, seg.pixel_array.reshape(-1, seg.Rows, seg.Columns),
                             strict=True):
        position = tuple(round(float(v), 2) for v in frame.PlanePositionSequence[0].ImagePositionPatient)
        number = int(frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        ml[number] = ml.get(number, 0.0) + int(np.count_nonzero(pixels)) * area_mm2 * thickness.get(position, 0.0) / 1000
    for group in groups(report):
        segment = [i for i in group.ContentSequence if _name(i) == "121191"]
        said = [i for i in group.ContentSequence if _name(i) == codes.VOLUME.value]
        for item in said if segment else []:
            number = int(segment[0].ReferencedSOPSequence[0].ReferencedSegmentNumber)
            volume = ml.get(number, 0.0)
            if abs(float(item.MeasuredValueSequence[0].NumericValue) - volume) > 1e-4 * max(volume, 1):
                found.append(f"volume of segment {number} differs from the SEG ({volume:.3f} cm3)")
    return found


def mandatory_rows(report: Dataset) -> list[str]:
    """Look for the mandatory rows of TID 1500 and of each measurement group, and the flags of a preliminary result."""
    rows = [_name(i) for i in report.ContentSequence]
    found = [f"TID 1500 row {row} is missing" for row in REPORT_ROWS if row not in rows]
    for group in groups(report):
        inside = [_name(i) for i in group.ContentSequence]
        found += [f"measurement group row {row} is missing" for row in GROUP_ROWS if row not in inside]
    flags = (report.CompletionFlag, report.VerificationFlag, report.PreliminaryFlag, report.ContentQualification)
    if flags != ("COMPLETE", "UNVERIFIED", "PRELIMINARY", "RESEARCH"):
        found.append(f"flags are {flags}")
    if "Research use only. Not for clinical diagnosis." not in texts(report):
        found.append("the disclaimer is missing")
    if "TimezoneOffsetFromUTC" not in report:
        found.append("the time zone is missing")
    return found


def no_finding_for_absent(report: Dataset, said: Assessment) -> list[str]:
    """Check that every finding stands under the right concept name, as often as it was said."""
    found = []
    for presence, name in ((Presence.PRESENT, codes.FINDING), (Presence.ABSENT, codes.FINDING_ABSENT)):
        wanted = sorted(f.code.value for f in said.findings if f.presence is presence and f.code != codes.NO_FINDING
                        for _ in range(max(1, len(f.outlines))))
        own = {f.code.value for f in said.findings}
        written = sorted(_value(i) for g in groups(report) for i in g.ContentSequence
                         if _name(i) == name.value and _value(i) in own)
        if written != wanted:
            found.append(f"{presence}: {written} written under {name.meaning!r}, {wanted} said")
    return found


def speakers(report: Dataset, said: Assessment) -> list[str]:
    """Check that each finding stands beside the algorithm that said it, and that every model is named as equipment."""
    named = [(str(i.ManufacturerModelName), str(i.SoftwareVersions), str(i.get("DeviceUID", "")))
             for i in report.ContributingEquipmentSequence]
    found = [] if named == [(b.name, b.version, b.device_uid) for b in said.bundles] else [f"equipment is {named}"]
    wanted = sorted((f.code.value, said.speaker(f).name, said.speaker(f).version) for f in said.findings
                    if f.code != codes.NO_FINDING)
    by_group = []
    for group in groups(report):
        items = {_name(i): i for i in group.ContentSequence}
        finding = items.get(codes.FINDING.value, items.get(codes.FINDING_ABSENT.value))
        if finding is not None and codes.PROBABILITY.value in items:
            by_group.append((_value(finding), str(items["111001"].TextValue), str(items["111003"].TextValue)))
    if sorted(by_group) != wanted:
        found.append(f"findings are said by {sorted(by_group)}, not by {wanted}")
    return found


def regions(report: Dataset, said: Assessment, images: Sequence[Dataset]) -> list[str]:
    """Check that every outline stands in the report as a closed polyline within the image that it was said of."""
    sizes = {str(i.SOPInstanceUID): (int(i.Columns), int(i.Rows)) for i in images}
    wanted = sorted((f.code.value, f.sop_instance_uid, o) for f in said.findings for o in f.outlines)
    found, written = [], []
    for group in groups(report):
        items = {_name(i): i for i in group.ContentSequence}
        region = items.get("111030")
        if region is None:
            continue
        uid = str(region.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID)
        flat = [float(v) for v in region.GraphicData]
        points = tuple(zip(flat[::2], flat[1::2], strict=True))
        columns, rows = sizes.get(uid, (0, 0))
        if region.GraphicType != "POLYLINE" or points[0] != points[-1]:
            found.append("a region is not a closed polyline")
        if any(not (0 <= x <= columns and 0 <= y <= rows) for x, y in points):
            found.append("a region leaves its image")
        written.append((_value(items[codes.FINDING.value]) if codes.FINDING.value in items else "", uid, points))
    return found if sorted(written) == wanted else [*found, f"{len(written)} regions are not the {len(wanted)} outlines"]


def explained(report: Dataset, pictures: Sequence[Path]) -> list[str]:
    """Check that the report refers to each picture of ours as its visual explanation."""
    said = sorted(str(i.ReferencedSOPSequence[0].ReferencedSOPInstanceUID) for g in groups(report)
                  for i in g.ContentSequence if _name(i) == codes.VISUAL_EXPLANATION.value)
    return [] if said == sorted(str(dcmread(p).SOPInstanceUID) for p in pictures) else ["a picture is not referred to"]


def outlined(state: Dataset, images: Sequence[Dataset]) -> list[str]:
    """Check a presentation state: closed lines within an image of the study, its size, and the warning."""
    by_uid = {str(i.SOPInstanceUID): i for i in images}
    found = []
    for annotation in state.get("GraphicAnnotationSequence", []):
        image = by_uid.get(str(annotation.ReferencedImageSequence[0].ReferencedSOPInstanceUID))
        if image is None:
            found.append("an annotation refers to an image that does not exist")
            continue
        area = [int(v) for v in state.DisplayedAreaSelectionSequence[0].DisplayedAreaBottomRightHandCorner]
        if area != [image.Columns, image.Rows]:
            found.append(f"the displayed area is {area}")
        for line in annotation.GraphicObjectSequence:
            points = list(zip(line.GraphicData[::2], line.GraphicData[1::2], strict=True))
            if points[0] != points[-1] or any(not (0 <= x <= image.Columns and 0 <= y <= image.Rows) for x, y in points):
                found.append("an outline is open or leaves its image")
        if not any("NOT FOR DIAGNOSIS" in t.UnformattedTextValue for t in annotation.TextObjectSequence):
            found.append("the warning is missing")
    inverse = images[0].get("PhotometricInterpretation") == "MONOCHROME1"
    if state.PresentationLUTShape != ("INVERSE" if inverse else "IDENTITY"):
        found.append(f"Presentation LUT Shape is {state.PresentationLUTShape}")
    return found


def captured(picture: Dataset, images: Sequence[Dataset]) -> list[str]:
    """Check a picture of ours: marked as burned in, made of images of the study, with something written at its top."""
    known = {str(i.SOPInstanceUID) for i in images}
    found = [] if picture.BurnedInAnnotation == "YES" else ["burned-in text is not declared"]
    if not {str(i.ReferencedSOPInstanceUID) for i in picture.SourceImageSequence} <= known:
        found.append("a picture is made of an image that does not exist")
    if np.count_nonzero(picture.pixel_array[:min(36, max(12, picture.Columns // 24))] > 150) < 100:
        found.append("the warning is not burned in")
    return found


def never_normal(report: Dataset) -> list[str]:
    """Check that a refusal says so, gives a reason, and holds no finding at all."""
    found = []
    items = [i for g in groups(report) for i in g.ContentSequence]
    if [_value(i) for i in items if _name(i) == codes.PROCESSING_SUMMARY.value] != [codes.FAILED_WITHOUT_FINDINGS.value]:
        found.append("the processing summary does not say that no algorithm succeeded")
    if any(_name(i) in (codes.FINDING.value, codes.FINDING_ABSENT.value) or i.ValueType == "NUM" for i in items):
        found.append("a refusal holds a finding or a number")
    if not any(_name(i) == codes.REASON_NOT_ASSESSED.value for i in items):
        found.append("the reason is missing")
    return found


def references(report: Dataset, files: Iterable[Path]) -> list[str]:
    """Check that every object in the evidence is one of the study's files."""
    known = {str(dcmread(p, stop_before_pixels=True).SOPInstanceUID) for p in files}
    listed = {str(r.ReferencedSOPInstanceUID) for s in report.CurrentRequestedProcedureEvidenceSequence
              for series in s.ReferencedSeriesSequence for r in series.ReferencedSOPSequence}
    return [f"evidence {uid} does not exist" for uid in sorted(listed - known)]


def dangling(made: Dataset, files: Iterable[Path]) -> list[str]:
    """Check that every reference, however deep, is to an object of the study, by its class, and to a frame that it has."""
    known = {str(d.SOPInstanceUID): d for d in (dcmread(p, stop_before_pixels=True) for p in files)}
    found = set()
    for item in (item for element in made.iterall() if element.VR == "SQ" for item in element.value):
        if "ReferencedSOPInstanceUID" not in item:
            continue
        other = known.get(str(item.ReferencedSOPInstanceUID))
        if other is None:
            found.add(f"{item.ReferencedSOPInstanceUID} is referred to and does not exist")
        elif other.SOPClassUID != item.ReferencedSOPClassUID:
            found.add(f"{item.ReferencedSOPInstanceUID} is referred to as {item.ReferencedSOPClassUID.name}")
        elif not 1 <= int(item.get("ReferencedFrameNumber") or 1) <= int(other.get("NumberOfFrames") or 1):
            found.add(f"frame {item.ReferencedFrameNumber} is referred to and does not exist")
    return sorted(found)


def meanings(made: Dataset) -> list[str]:
    """Compare every code with our table, or with pydicom's dictionaries where highdicom wrote it."""
    ours = REVIEWED | {(c.value, c.scheme): c.meaning for c in codes.BY_NAME.values()}
    found = []
    for item in _coded(made):
        value, scheme = str(item.get("CodeValue") or item.get("LongCodeValue")), str(item.CodingSchemeDesignator)
        known = [ours[value, scheme]] if (value, scheme) in ours else [
            by_value[value][0] for by_value in concepts.get(scheme, {}).values() if value in by_value]
        if str(item.CodeMeaning).casefold() not in [meaning.casefold() for meaning in known]:
            found.append(f"code {value} ({scheme}) is written as {str(item.CodeMeaning)!r}")
    return found


def groups(report: Dataset) -> list[Dataset]:
    """Return the measurement groups of an SR."""
    outer = [i for i in report.ContentSequence if _name(i) == "126010"]
    return [g for container in outer for g in container.ContentSequence]


def texts(report: Dataset) -> list[str]:
    """Return the texts of all measurement groups."""
    return [str(i.TextValue) for g in groups(report) for i in g.ContentSequence if i.ValueType == "TEXT"]


def _coded(made: Dataset) -> list[Dataset]:
    sequences = (element.value for element in made.iterall() if element.VR == "SQ")
    return [item for items in sequences for item in items if "CodeMeaning" in item]


def _name(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeValue)


def _value(item: Dataset) -> str:
    code = item.ConceptCodeSequence[0]
    return str(code.get("CodeValue") or code.get("LongCodeValue"))


def _run(command: Sequence[object]) -> tuple[int, str]:
    done = subprocess.run([str(c) for c in command], capture_output=True, timeout=120, check=False)
    return done.returncode, (done.stdout + done.stderr).decode("utf-8", "replace")
