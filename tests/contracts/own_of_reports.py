"""Own checks of the report: mandatory rows, what stands under Finding, who says it, its regions, and refusals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset

from service.domain import codes
from service.domain.finding import Assessment, Presence

REPORT_ROWS = (  # TID 1500: mandatory rows, and what every report of ours says besides
    "121049", "121005", "121012", "121058", "126010")

GROUP_ROWS = ("112039", "112040", "111001", "111003")


def mandatory_rows(report: Dataset) -> list[str]:
    """Look for the mandatory rows of TID 1500 and of each measurement group, and the flags of a preliminary result."""
    rows = [name_of(i) for i in report.ContentSequence]
    found = [f"TID 1500 row {row} is missing" for row in REPORT_ROWS if row not in rows]
    for group in groups(report):
        inside = [name_of(i) for i in group.ContentSequence]
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
        written = sorted(value_of(i) for g in groups(report) for i in g.ContentSequence
                         if name_of(i) == name.value and value_of(i) in own)
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
        items = {name_of(i): i for i in group.ContentSequence}
        finding = items.get(codes.FINDING.value, items.get(codes.FINDING_ABSENT.value))
        if finding is not None and codes.PROBABILITY.value in items:
            by_group.append((value_of(finding), str(items["111001"].TextValue), str(items["111003"].TextValue)))
    if sorted(by_group) != wanted:
        found.append(f"findings are said by {sorted(by_group)}, not by {wanted}")
    return found


def regions(report: Dataset, said: Assessment, images: Sequence[Dataset]) -> list[str]:
    """Check that every outline stands in the report as a closed polyline within the image that it was said of."""
    sizes = {str(i.SOPInstanceUID): (int(i.Columns), int(i.Rows)) for i in images}
    wanted = sorted((f.code.value, f.sop_instance_uid, o) for f in said.findings for o in f.outlines)
    found, written = [], []
    for group in groups(report):
        items = {name_of(i): i for i in group.ContentSequence}
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
        written.append((value_of(items[codes.FINDING.value]) if codes.FINDING.value in items else "", uid, points))
    return found if sorted(written) == wanted else [*found, f"{len(written)} regions are not the {len(wanted)} outlines"]


def explained(report: Dataset, pictures: Sequence[Path]) -> list[str]:
    """Check that the report refers to each picture of ours as its visual explanation."""
    said = sorted(str(i.ReferencedSOPSequence[0].ReferencedSOPInstanceUID) for g in groups(report)
                  for i in g.ContentSequence if name_of(i) == codes.VISUAL_EXPLANATION.value)
    return [] if said == sorted(str(dcmread(p).SOPInstanceUID) for p in pictures) else ["a picture is not referred to"]


def never_normal(report: Dataset) -> list[str]:
    """Check that a refusal says so, gives a reason, and holds no finding at all."""
    found = []
    items = [i for g in groups(report) for i in g.ContentSequence]
    if [value_of(i) for i in items if name_of(i) == codes.PROCESSING_SUMMARY.value] != [codes.FAILED_WITHOUT_FINDINGS.value]:
        found.append("the processing summary does not say that no algorithm succeeded")
    if any(name_of(i) in (codes.FINDING.value, codes.FINDING_ABSENT.value) or i.ValueType == "NUM" for i in items):
        found.append("a refusal holds a finding or a number")
    if not any(name_of(i) == codes.REASON_NOT_ASSESSED.value for i in items):
        found.append("the reason is missing")
    return found


def groups(report: Dataset) -> list[Dataset]:
    """Return the measurement groups of an SR."""
    outer = [i for i in report.ContentSequence if name_of(i) == "126010"]
    return [g for container in outer for g in container.ContentSequence]


def texts(report: Dataset) -> list[str]:
    """Return the texts of all measurement groups."""
    return [str(i.TextValue) for g in groups(report) for i in g.ContentSequence if i.ValueType == "TEXT"]


def name_of(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeValue)


def value_of(item: Dataset) -> str:
    code = item.ConceptCodeSequence[0]
    return str(code.get("CodeValue") or code.get("LongCodeValue"))
