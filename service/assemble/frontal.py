"""Which radiographs of a study are frontal views of a chest, by what their labels say."""

from __future__ import annotations

import re
from collections.abc import Sequence

from service.assemble.traits import limits
from service.domain.study import DX_FOR_PROCESSING, SECONDARY_CAPTURE_STORAGE, Header, Kind, Selection, SetAside
from service.errors import Reason, UnusableStudy

_CHEST = re.compile(r"\b(chest|thorax|thoracic|lungs?|pulm\w*|ribs?|cxr|heart|cardiac)\b", re.I)
_ELSEWHERE = re.compile(
    r"\b(skull|head|brain|neck|spine|pelvis|hips?|knees?|legs?|foot|feet|ankles?|hands?|wrists?|arms?|elbows?|shoulders?"
    r"|abdomen|abdominal|extremity|femur|tibia|humerus|breast|sinus(es)?)\b", re.I)
_FRONTAL = re.compile(r"\b(AP|PA|PORTABLE)\b|postero-?anterior|antero-?posterior|frontal", re.I)
_NOT_FRONTAL = re.compile(
    r"\b(LL|RL|LLD|RLD|LLO|RLO|LAO|RAO|LPO|RPO|LAT|LATERALS?|OBLIQUE|OBL|DECUBITUS|SEITL\w*|PROFILE?)\b", re.I)
_FROM_THE_FRONT = re.compile(r"\b(AP|PORTABLE)\b|antero-?posterior", re.I)


def is_from_the_front(header: Header) -> bool:
    """Tell whether a radiograph is stated to be an AP view: the heart looks larger than it is."""
    return bool(_FROM_THE_FRONT.search(_view_in_words(header)))


def choose_radiographs(radiographs: Sequence[Header]) -> Selection:
    """Choose all frontal radiographs of the chest, in order of series and instance number.

    Raises: UnusableStudy with the reason of the first when none is.
    """
    frontal: list[Header] = []
    aside: list[SetAside] = []
    notes: list[str] = []
    for header in sorted(radiographs, key=lambda h: (h.series_number or 0, h.instance_number or 0, h.sop_instance_uid)):
        reason = _why_not_frontal(header)
        if reason:
            aside.append(SetAside(header.series_instance_uid, reason, f"instance {header.instance_number}"))
            continue
        frontal.append(header)
        if not _FRONTAL.search(_view_in_words(header)):
            notes.append("the view is not stated; the image is taken as frontal")
        if header.patient_orientation[:1] == ("R",):
            notes.append("the image is mirrored (Patient Orientation R\\F)")
        notes.extend(limits(header))
        if is_from_the_front(header):
            notes.append("the image was taken from the front (AP), often lying: heart size is not judged, and air or fluid "
                         "in the pleura may not be seen")
    if not frontal:
        raise UnusableStudy(Reason(aside[0].reason), f"{len(aside)} radiographs, none usable")
    return Selection(
        Kind.CXR, tuple(frontal), f"{len(frontal)} of {len(radiographs)} radiographs are frontal",
        set_aside=tuple(aside), limitations=tuple(dict.fromkeys(notes)),
    )


def _why_not_frontal(header: Header) -> Reason | None:
    if header.sop_class_uid == SECONDARY_CAPTURE_STORAGE:
        return Reason.SECONDARY_CAPTURE
    if header.sop_class_uid == DX_FOR_PROCESSING or header.presentation_intent_type == "FOR PROCESSING":
        return Reason.FOR_PROCESSING
    if (header.number_of_frames or 1) > 1:
        return Reason.MULTIFRAME
    if _is_elsewhere(header):
        return Reason.NOT_CHEST
    row, column = (*header.patient_orientation, "", "")[:2]
    if row[:1] in ("A", "P") or column[:1] in ("A", "P") or _NOT_FRONTAL.search(_view_in_words(header)):
        return Reason.LATERAL_VIEW
    if row[:1] in ("H", "F") or column[:1] in ("L", "R"):
        return Reason.ROTATED_IMAGE
    return None


def _is_elsewhere(header: Header) -> bool:
    """Tell whether the image is labelled as another body part: the nearest label that names one decides."""
    for label in (header.body_part_examined, header.series_description, header.protocol_name, header.study_description):
        words = _words(label)
        if _CHEST.search(words):
            return False
        if _ELSEWHERE.search(words):
            return True
    return bool(header.body_part_examined)


def _view_in_words(header: Header) -> str:
    """Return the nearest text that tells the view: the view's own attributes, else a description that names one."""
    own = _words(f"{header.view_position} {header.view_code_meaning}")
    if own.strip():
        return own
    for label in (header.series_description, header.protocol_name, header.study_description):
        words = _words(label)
        if _NOT_FRONTAL.search(words) or _FRONTAL.search(words):
            return words
    return ""


def _words(label: str) -> str:
    """Return a label with its separators as spaces: THORAX_LAT is two words."""
    return re.sub(r"[_\-./,;:()]+", " ", label)
