"""Read a structured report that was sent back: which findings a person calls present or absent (TID 1500 and its like)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset

from service.domain import codes
from service.domain.codes import Code
from service.domain.finding import Presence
from service.feedback.said import Said, Unfit

_OBSERVER_TYPE, _PERSON = Code("121005", "DCM", "Observer Type"), Code("121006", "DCM", "Person")
_NAMES = {codes.FINDING.value: Presence.PRESENT, codes.FINDING_ABSENT.value: Presence.ABSENT}
_MOST_ITEMS, _MOST_DEPTH = 20_000, 32


def read_report(path: Path, patient_id: str, ours: frozenset[str]) -> Said:
    """Read a report.

    patient_id: of the study; ours: SOP Instance UIDs of our reports of it. Present is what stands under "Finding", absent
    under "Clinical finding absent"; what it says both of is left out.
    Raises: Unfit for another patient's, and for one that is neither verified nor observed by a person; what pydicom raises
    for a file that it cannot read.
    """
    report = dcmread(path, stop_before_pixels=True)
    require_patient(report, patient_id)
    found: dict[str, set[Presence]] = {}
    by_person = verified = str(report.get("VerificationFlag", "")) == "VERIFIED"
    for item in items(report):
        name, value = code_of(item, "ConceptNameCodeSequence"), code_of(item, "ConceptCodeSequence")
        if (name, value) == (_OBSERVER_TYPE.value, _PERSON.value):
            by_person = True
        if name in _NAMES and value:
            found.setdefault(value, set()).add(_NAMES[name])
    if not by_person:
        raise Unfit("it is not verified, and no person observed it: the word of a device is no feedback")
    return Said({code: next(iter(said)) for code, said in found.items() if len(said) == 1}, verified=verified,
                replaces=bool(predecessors(report) & ours))


def require_patient(dataset: Dataset, patient_id: str) -> None:
    """Raise Unfit when an object is of another patient than its study."""
    if str(dataset.get("PatientID", "") or "").strip() != patient_id.strip():
        raise Unfit("its Patient ID is another one than that of the images")


def items(report: Dataset) -> Iterator[Dataset]:
    """Yield every content item of a report (PS3.3 C.17.3). Raises: Unfit when there are too many, or too deep."""
    waiting, seen = [(item, 1) for item in report.get("ContentSequence") or ()], 0
    while waiting:
        item, depth = waiting.pop()
        seen += 1
        if seen > _MOST_ITEMS or depth > _MOST_DEPTH:
            raise Unfit(f"its content tree has more than {_MOST_ITEMS} items, or is deeper than {_MOST_DEPTH}")
        yield item
        waiting += [(inner, depth + 1) for inner in item.get("ContentSequence") or ()]


def code_of(item: Dataset, sequence: str) -> str:
    """Return the code value of the first item of a code sequence, "" where there is none."""
    coded = item.get(sequence) or ()
    return str(coded[0].get("CodeValue", "") or "") if coded else ""


def predecessors(report: Dataset) -> set[str]:
    """Return the SOP Instance UIDs of the reports that this one replaces (PS3.3 C.17.2)."""
    return {str(one.get("ReferencedSOPInstanceUID", ""))
            for study in report.get("PredecessorDocumentsSequence") or ()
            for series in study.get("ReferencedSeriesSequence") or ()
            for one in series.get("ReferencedSOPSequence") or ()}
