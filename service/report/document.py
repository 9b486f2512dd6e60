"""What every object of ours has in common: whose study it is, which series it goes to, when and by whom it was made."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Any

from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.tag import Tag

from service.domain.finding import BundleIdentity
from service.domain.prior import Comparison
from service.report.coded import declare_private_scheme
from service.report.compared import comparison_key
from service.report.identity import IMPLEMENTATION_CLASS_UID, Equipment, derived_uid, equipment_of, stamp_equipment

REQUIRED = (  # type 2 of the Patient and General Study modules: present, if need be empty
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "ReferringPhysicianName",
    "StudyID", "AccessionNumber",
)
CARRIED = (  # Patient, General Study, Patient Study and Clinical Trial modules: copied where the source has them
    "IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence", "TypeOfPatientID", "PatientBirthTime",
    "OtherPatientIDsSequence", "PatientSpeciesDescription", "PatientSpeciesCodeSequence", "PatientBreedDescription",
    "PatientBreedCodeSequence", "ResponsiblePerson", "ResponsibleOrganization", "PatientIdentityRemoved",
    "DeidentificationMethod", "DeidentificationMethodCodeSequence", "QualityControlSubject",
    "StudyDescription", "ProcedureCodeSequence", "IssuerOfAccessionNumberSequence", "PatientAge", "PatientSize",
    "PatientWeight", "PatientSexNeutered", "AdmissionID", "IssuerOfAdmissionIDSequence",
    "ClinicalTrialSponsorName", "ClinicalTrialProtocolID", "ClinicalTrialProtocolName", "ClinicalTrialSiteID",
    "ClinicalTrialSiteName", "ClinicalTrialSubjectID", "ClinicalTrialSubjectReadingID", "ClinicalTrialTimePointID",
    "ClinicalTrialTimePointDescription",
)

_MODALITY = Tag("Modality")
_UIDS = {Tag(k): k for k in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")}
_EMPTY = {Tag(k): DataElement(Tag(k), dictionary_VR(Tag(k)), "") for k in REQUIRED}


SERIES = ("seg", "sr", "sc", "pr", "ko")
"""The kinds of objects that we make, each in a series of its own, in the order of their Series Numbers."""


@dataclass(frozen=True)
class Style:
    """How a site wants its objects. series_number: of the SEG; SR, SC, GSPS and KOS get the ones after it, in this order."""

    institution_name: str = ""
    series_description_prefix: str = "AI"
    series_number: int = 900
    secondary_capture: bool = True
    presentation_state: bool = False
    key_objects: bool = False
    software_version: str = "0"


@dataclass(frozen=True, eq=False)
class Made:
    """One object for the PACS. kind: one of SERIES; summary: one line without patient data."""

    kind: str
    dataset: Dataset
    summary: str

    @property
    def sop_instance_uid(self) -> str:
        """SOP Instance UID."""
        return str(self.dataset.SOPInstanceUID)

    @property
    def sop_class_uid(self) -> str:
        """SOP Class UID."""
        return str(self.dataset.SOPClassUID)


@dataclass(frozen=True, eq=False)
class Context:
    """What all objects of one assessment share.

    source: the first image; equipment: the model that speaks; contributors: every model that had a part; key: texts that
    their UIDs follow from; comparison: with an earlier study of the patient, for the report.
    """

    source: Dataset
    style: Style
    equipment: Equipment
    key: tuple[str, ...]
    now: datetime
    modality: str
    urgent: bool
    revision: int = 1
    contributors: tuple[Equipment, ...] = ()
    comparison: Comparison | None = None

    def by(self, bundle: BundleIdentity) -> Context:
        """Return the context of an object that one bundle alone made."""
        return replace(self, equipment=equipment_of(bundle, self.style.software_version), contributors=())

    def uid(self, *what: str) -> str:
        """Return the UID of one thing in this assessment; the same thing always has the same UID."""
        return derived_uid(str(self.source.StudyInstanceUID), *self.key, *what)

    def series(self, kind: str) -> dict[str, Any]:
        """Return series and instance identity as highdicom's constructors take them.

        Only the report tells of a comparison: where that changes, the other objects stay the same.
        """
        told = comparison_key(self.comparison) if kind == "sr" else ()
        return {
            "series_instance_uid": self.uid("series", kind, *told), "sop_instance_uid": self.uid("instance", kind, *told),
            "series_number": self.style.series_number + SERIES.index(kind), "instance_number": 1,
        }

    def series_description(self, what: str) -> str:
        """Return for example "AI CT: URGENT report, research use only"; at most 64 characters (LO)."""
        urgent = "URGENT " if self.urgent else ""
        again = f" revision {self.revision}" if self.revision > 1 else ""
        prefix = f"{self.style.series_description_prefix} {self.modality}: {urgent}{what}{again}".strip()
        return f"{prefix}, research use only"[:64]


def anonymous(source: Dataset) -> Dataset:
    """Return a stand-in for a source image: its UIDs, with the patient and study left empty.

    highdicom checks what it copies and refuses values that real scanners write, so it gets this; `finish` then copies
    patient and study from the source as they are.
    """
    made = Dataset(dict(_EMPTY))  # element by element: by keyword it takes four times as long, and a CT has 300 of them
    for tag, keyword in _UIDS.items():
        made[tag] = DataElement(tag, "UI", str(source[keyword].value))
    made[_MODALITY] = DataElement(_MODALITY, "CS", str(source.get("Modality") or "OT"))
    return made


def finish(made: Dataset, context: Context, what: str, texts: Iterable[str] = ()) -> Dataset:
    """Write into an object what all of ours share: patient, study, equipment, series description, times, codes.

    what: words for the series description; texts: our free texts in it, which the character set must be able to hold.
    """
    style, source = context.style, context.source
    for keyword in REQUIRED:
        setattr(made, keyword, "")
    for keyword in (*REQUIRED, *CARRIED):
        if keyword in source:
            made.add(copy.deepcopy(source[keyword]))
    made.StudyInstanceUID = str(source.StudyInstanceUID)
    stamp_equipment(made, context.equipment, style.institution_name, style.software_version, context.contributors)
    declare_private_scheme(made)
    made.SeriesDescription = context.series_description(what)
    _stamp_time(made, source, context.now)
    own = (*texts, style.institution_name, made.SeriesDescription, context.equipment.title)
    if declared := character_set(source, own):
        made.SpecificCharacterSet = declared
    else:
        made.pop("SpecificCharacterSet", None)
    if hasattr(made, "file_meta"):
        made.file_meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
        made.file_meta.ImplementationVersionName = f"FIRSTLOOK_{style.software_version}"[:16]
    return made


def _stamp_time(made: Dataset, source: Dataset, now: datetime) -> None:
    """Write all dates and times in the source's time zone when it has one, for the offset covers the study time too."""
    offset = str(source.get("TimezoneOffsetFromUTC") or "").strip()
    found = re.fullmatch(r"([+-])(\d\d)(\d\d)", offset)
    if found:
        minutes = int(found[2]) * 60 + int(found[3])
        now = now.astimezone(timezone(timedelta(minutes=-minutes if found[1] == "-" else minutes)))
    made.TimezoneOffsetFromUTC = now.strftime("%z")[:5]
    date, time = now.strftime("%Y%m%d"), now.strftime("%H%M%S")
    made.SeriesDate = made.ContentDate = made.InstanceCreationDate = date
    made.SeriesTime = made.ContentTime = made.InstanceCreationTime = time


def character_set(source: Dataset, texts: Iterable[str]) -> str | list[str]:
    """Return the source's Specific Character Set when our own texts fit in it too, else UTF-8 (PS3.3 C.12.1.1.2).

    "" when the source has none and all is ASCII: then the attribute is left out.
    """
    declared = source.get("SpecificCharacterSet") or ""
    terms = [str(t) for t in declared] if isinstance(declared, (list, MultiValue)) else [str(declared)]
    if any(term not in python_encoding for term in terms):
        return "ISO_IR 192"
    codec = "ascii" if len(terms) > 1 or not terms[0] else python_encoding[terms[0]]
    try:
        for text in texts:
            text.encode(codec)
    except UnicodeEncodeError:
        return "ISO_IR 192"
    return terms if len(terms) > 1 else terms[0]
