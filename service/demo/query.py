"""Answer C-FIND at study, series and image level of the Study Root model (PS3.4 C.6.2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import Any

from pydicom.dataset import Dataset

from service.domain.study import Header

_LEVELS = {"STUDY": "study_instance_uid", "SERIES": "series_instance_uid", "IMAGE": "sop_instance_uid"}


def answers(identifier: Dataset, headers: Iterable[Header], retrieve_ae_title: str) -> Iterator[Dataset]:
    """Yield one data set for each study, series or image that matches the identifier, in the order they came.

    Matching is universal, by single value, list of UIDs, wild card or range of dates; a key that is not known comes
    back empty. An unknown level matches nothing.
    """
    level = str(identifier.get("QueryRetrieveLevel", ""))
    if level not in _LEVELS:
        return
    every = list(headers)
    groups: dict[str, list[Header]] = {}
    for header in every:
        groups.setdefault(getattr(header, _LEVELS[level]), []).append(header)
    for group in groups.values():
        row = _row(group, every)
        if all(_matches(element, row) for element in identifier):
            yield _answer(identifier, row, level, retrieve_ae_title)


def _row(group: list[Header], every: list[Header]) -> dict[str, Any]:
    """Return what is known of a study, series or image, by DICOM keyword."""
    first = group[0]
    study = [h for h in every if h.study_instance_uid == first.study_instance_uid]
    series = [h for h in study if h.series_instance_uid == first.series_instance_uid]
    return {
        "SOPClassUID": first.sop_class_uid, "SOPInstanceUID": first.sop_instance_uid,
        "StudyInstanceUID": first.study_instance_uid, "SeriesInstanceUID": first.series_instance_uid,
        "PatientID": first.patient_id, "PatientName": first.patient_name, "PatientSex": first.patient_sex,
        "PatientBirthDate": first.patient_birth_date, "AccessionNumber": first.accession_number,
        "StudyDate": first.study_date, "StudyTime": first.study_time, "StudyDescription": first.study_description,
        "Modality": first.modality, "SeriesDescription": first.series_description,
        "SeriesNumber": first.series_number, "InstanceNumber": first.instance_number,
        "BodyPartExamined": first.body_part_examined,
        "ModalitiesInStudy": sorted({h.modality for h in study if h.modality}),
        "NumberOfStudyRelatedInstances": len(study),
        "NumberOfStudyRelatedSeries": len({h.series_instance_uid for h in study}),
        "NumberOfSeriesRelatedInstances": len(series),
    }


def _matches(element: Any, row: dict[str, Any]) -> bool:
    wanted = element.value
    if element.keyword not in row or wanted is None or str(wanted) == "":
        return True
    have = row[element.keyword]
    values = [str(v) for v in have] if isinstance(have, list) else [str(have)]
    asked = [wanted] if isinstance(wanted, str) or not hasattr(wanted, "__iter__") else list(wanted)
    return any(_matches_one(str(want), value, element.VR) for want in asked for value in values)


def _matches_one(wanted: str, value: str, vr: str) -> bool:
    if vr == "DA" and "-" in wanted:
        first, _, last = wanted.partition("-")
        return bool(value) and first <= value and (not last or value <= last)
    if vr == "UI" or not set("*?") & set(wanted):
        return wanted == value
    return fnmatchcase(value.upper(), wanted.upper().replace("[", "[[]"))


def _answer(identifier: Dataset, row: dict[str, Any], level: str, retrieve_ae_title: str) -> Dataset:
    answer = Dataset()
    answer.SpecificCharacterSet = "ISO_IR 192"
    for element in identifier:
        if element.keyword and element.keyword != "SpecificCharacterSet":
            setattr(answer, element.keyword, row.get(element.keyword) if element.VR != "SQ" else [])
    answer.QueryRetrieveLevel = level
    answer.RetrieveAETitle = retrieve_ae_title
    return answer
