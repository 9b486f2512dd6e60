"""Which images of a study a model shall read: chosen by stated rules, or refused with a reason code."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from service.assemble.geometry import GeometryRules, stack
from service.domain.study import (
    CR_IMAGE_STORAGE,
    CT_IMAGE_STORAGE,
    DX_FOR_PRESENTATION,
    ENHANCED_CT_IMAGE_STORAGE,
    Header,
    Kind,
    Selection,
    SetAside,
    age_years,
)
from service.errors import Reason, UnusableStudy

THIN_MM = 3.0  # a series with slices at most this far apart is preferred to a thicker one
SamePixels = Callable[[Header, Header], bool]
FramesOf = Callable[[Header], Sequence[Header]]
"""Gives a header for each frame of an enhanced CT; raises UnusableStudy."""

_CHEST = re.compile(r"\b(chest|thorax|thoracic|lungs?|pulm\w*|ribs?|cxr|heart|cardiac)\b", re.I)
_ELSEWHERE = re.compile(
    r"\b(skull|head|brain|neck|spine|pelvis|hips?|knees?|legs?|foot|feet|ankles?|hands?|wrists?|arms?|elbows?|shoulders?"
    r"|abdomen|abdominal|extremity|femur|tibia|humerus|breast|sinus(es)?)\b", re.I)
_FRONTAL = re.compile(r"\b(AP|PA|PORTABLE)\b|postero-?anterior|antero-?posterior|frontal", re.I)
_NOT_FRONTAL = re.compile(
    r"\b(LL|RL|LLD|RLD|LLO|RLO|LAO|RAO|LPO|RPO|LAT|LATERALS?|OBLIQUE|OBL|DECUBITUS|SEITL\w*|PROFILE?)\b", re.I)


@dataclass(frozen=True)
class Candidate:
    """A CT series that makes a volume."""

    selection: Selection
    coverage_mm: float


def no_frames(header: Header) -> Sequence[Header]:
    """Refuse a multi-frame image, where nobody can look into it."""
    raise UnusableStudy(Reason.MULTIFRAME)


def choose(headers: Sequence[Header], rules: GeometryRules, same_pixels: SamePixels,
           frames_of: FramesOf = no_frames) -> Selection:
    """Choose the images of one study that shall be read; each frame of an enhanced CT counts as a slice.

    CT before radiographs. Of several usable CT series: slices at most 3 mm apart first, then the longest coverage,
    then the lowest Series Number. All frontal radiographs are read.
    Raises: UnusableStudy with the reason that explains most.
    """
    issuers = {h.issuer_of_patient_id for h in headers} - {""}
    if len({h.patient_id for h in headers}) > 1 or len(issuers) > 1:
        raise UnusableStudy(Reason.PATIENT_MISMATCH)
    slices = [h for h in headers if h.sop_class_uid in (CT_IMAGE_STORAGE, ENHANCED_CT_IMAGE_STORAGE)]
    radiographs = [h for h in headers if h.sop_class_uid in (CR_IMAGE_STORAGE, DX_FOR_PRESENTATION)]
    if not slices and not radiographs:
        raise UnusableStudy(Reason.NO_SUPPORTED_IMAGES)
    if slices:
        try:
            return _choose_ct(slices, rules, same_pixels, frames_of)
        except UnusableStudy:
            if not radiographs:
                raise
    return _choose_radiographs(radiographs)


def _choose_ct(
    slices: Sequence[Header], rules: GeometryRules, same_pixels: SamePixels, frames_of: FramesOf,
) -> Selection:
    aside: list[tuple[SetAside, UnusableStudy]] = []
    candidates: list[Candidate] = []
    for uid, series in _by_series(slices).items():
        try:
            candidates.append(_as_volume(_single(series, frames_of), rules, same_pixels))
        except UnusableStudy as error:
            aside.append((SetAside(uid, error.reason, error.detail), error))
    if not candidates:
        raise max((e for _, e in aside), key=lambda e: _TELLING.index(e.reason) if e.reason in _TELLING else -1)
    candidates.sort(key=_preference)
    best = candidates[0].selection
    others = [
        SetAside(c.selection.series_instance_uid, "not_preferred", "usable, but another series is preferred")
        for c in candidates[1:]
    ]
    return replace(best, set_aside=(*(a for a, _ in aside), *others), reason=_why(candidates))


_TELLING = (
    Reason.LOCALIZER_ONLY, Reason.DERIVED_ONLY, Reason.TOO_FEW_SLICES, Reason.NOT_AXIAL, Reason.MULTIFRAME,
    Reason.SLICES_TOO_THICK, Reason.INVALID_GEOMETRY, Reason.VARIABLE_GEOMETRY, Reason.CONFLICTING_DUPLICATES,
    Reason.MISSING_SLICES, Reason.INVALID_RESCALE,
)


def _single(series: Sequence[Header], frames_of: FramesOf) -> list[Header]:
    """Return a header for each slice, of an enhanced CT for each frame. Raises: UnusableStudy."""
    single: list[Header] = []
    for header in series:
        if header.sop_class_uid == ENHANCED_CT_IMAGE_STORAGE:
            single.extend(frames_of(header))
        elif (header.number_of_frames or 1) > 1:
            raise UnusableStudy(Reason.MULTIFRAME)
        else:
            single.append(header)
    return single


def _as_volume(series: Sequence[Header], rules: GeometryRules, same_pixels: SamePixels) -> Candidate:
    no_scout = [h for h in series if "LOCALIZER" not in h.image_type[2:3]]
    if not no_scout:
        raise UnusableStudy(Reason.LOCALIZER_ONLY)
    primary = [h for h in no_scout if h.image_type[:1] != ("DERIVED",) and h.image_type[1:2] != ("SECONDARY",)]
    if not primary:
        raise UnusableStudy(Reason.DERIVED_ONLY)
    if any(not h.rescale_slope or h.rescale_intercept is None for h in primary):
        raise UnusableStudy(Reason.INVALID_RESCALE, "Rescale Slope or Intercept is absent or zero")
    used, note = _one_acquisition(primary)
    ordered, geometry, limitations = stack(used, rules, same_pixels)
    notes = [*limitations, *note, *_study_limitations(ordered[0])]
    if len(primary) < len(series):
        notes.append(f"{len(series) - len(primary)} localizer or derived images of the series were left out")
    selection = Selection(Kind.CT, ordered, "", geometry, limitations=tuple(notes))
    return Candidate(selection, geometry.positions_mm[-1] - geometry.positions_mm[0])


def _one_acquisition(series: Sequence[Header]) -> tuple[Sequence[Header], list[str]]:
    """Split a series that repeats its positions by acquisition or temporal position; keep the largest part."""
    positions = {h.image_position_patient for h in series}
    if len(positions) == len(series):
        return series, []
    parts: dict[tuple[int | None, int | None], list[Header]] = defaultdict(list)
    for header in series:
        parts[header.acquisition_number, header.temporal_position_identifier].append(header)
    if len(parts) == 1:
        return series, []
    largest = max(parts.values(), key=len)
    return largest, [f"the series repeats its positions; {len(largest)} slices of one of {len(parts)} acquisitions are used"]


def _preference(candidate: Candidate) -> tuple[bool, float, int]:
    geometry = candidate.selection.geometry
    spacing = geometry.spacing_mm[0] if geometry else 99.0
    number = candidate.selection.headers[0].series_number
    return spacing > THIN_MM, -round(candidate.coverage_mm), number if number is not None else 1 << 31


def _why(candidates: list[Candidate]) -> str:
    best = candidates[0]
    spacing = best.selection.geometry.spacing_mm[0] if best.selection.geometry else 0.0
    what = f"{len(best.selection.headers)} axial slices, {spacing:g} mm apart, {best.coverage_mm:.0f} mm covered"
    if len(candidates) == 1:
        return f"the only usable CT series: {what}"
    return f"preferred of {len(candidates)} usable CT series (thin slices, then coverage, then series number): {what}"


def _choose_radiographs(radiographs: Sequence[Header]) -> Selection:
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
        if header.patient_orientation[:1] in (("R",),):
            notes.append("the image is mirrored (Patient Orientation R\\F)")
        notes.extend(_study_limitations(header))
    if not frontal:
        raise UnusableStudy(Reason(aside[0].reason), f"{len(aside)} radiographs, none usable")
    return Selection(
        Kind.CXR, tuple(frontal), f"{len(frontal)} of {len(radiographs)} radiographs are frontal",
        set_aside=tuple(aside), limitations=tuple(dict.fromkeys(notes)),
    )


def _why_not_frontal(header: Header) -> Reason | None:
    if header.presentation_intent_type == "FOR PROCESSING":
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


def _study_limitations(header: Header) -> list[str]:
    notes = []
    years = age_years(header)
    if years is not None and years < 18:
        notes.append("the patient is under 18; the model's figures are for adults unless its card says otherwise")
    if header.modality == "CT" and header.lossy_image_compression == "01":
        notes.append("the image has been lossy compressed")
    return notes


def _by_series(headers: Sequence[Header]) -> dict[str, list[Header]]:
    series: dict[str, list[Header]] = defaultdict(list)
    for header in headers:
        series[header.series_instance_uid].append(header)
    return series
