"""Which images of a study a model shall read: chosen by stated rules, or refused with a reason code."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from service.assemble.frontal import choose_radiographs
from service.assemble.geometry import GeometryRules, stack
from service.assemble.traits import is_animal, is_expiration, is_reconstructed, kernel_of, limits_of_series
from service.domain.study import (
    CT_IMAGE_STORAGE,
    ENHANCED_CT_IMAGE_STORAGE,
    RADIOGRAPH_CLASSES,
    Header,
    Kind,
    Selection,
    SetAside,
)
from service.errors import Reason, UnusableStudy

MOST_SCOUTS = 3  # images that lie otherwise than all the others of their series, without a label that says so
THIN_MM = 3.0  # a series with slices at most this far apart is preferred to a thicker one
SamePixels = Callable[[Header, Header], bool]
FramesOf = Callable[[Header], Sequence[Header]]
"""Gives a header for each frame of an enhanced CT; raises UnusableStudy."""

@dataclass(frozen=True)
class Candidate:
    """A CT series that makes a volume."""

    selection: Selection
    coverage_mm: float
    has_kernel: bool = True


def no_frames(header: Header) -> Sequence[Header]:
    """Refuse a multi-frame image, where nobody can look into it."""
    raise UnusableStudy(Reason.MULTIFRAME)


def choose(headers: Sequence[Header], rules: GeometryRules, same_pixels: SamePixels,
           frames_of: FramesOf = no_frames) -> Selection:
    """Choose the images of one study that shall be read; each frame of an enhanced CT counts as a slice.

    CT before radiographs. Of several usable CT series: not in expiration, slices at most 3 mm apart (else the thinnest), the
    kernel that is wished for, then the longest coverage, then the lowest Series Number. All frontal radiographs are read.
    Raises: UnusableStudy with the reason that explains most.
    """
    issuers = {h.issuer_of_patient_id for h in headers} - {""}
    if len({h.patient_id for h in headers}) > 1 or len(issuers) > 1:
        raise UnusableStudy(Reason.PATIENT_MISMATCH)
    slices = [h for h in headers if h.sop_class_uid in (CT_IMAGE_STORAGE, ENHANCED_CT_IMAGE_STORAGE)]
    radiographs = [h for h in headers if h.sop_class_uid in RADIOGRAPH_CLASSES]
    if any(is_animal(h) for h in headers):
        raise UnusableStudy(Reason.IMAGE_OF_AN_ANIMAL)
    if not slices and not radiographs:
        raise UnusableStudy(Reason.NO_SUPPORTED_IMAGES)
    if slices:
        try:
            return _choose_ct(slices, rules, same_pixels, frames_of)
        except UnusableStudy:
            if not radiographs:
                raise
    return choose_radiographs(radiographs)


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
    no_scout = _without_scouts(series)
    if not no_scout:
        raise UnusableStudy(Reason.LOCALIZER_ONLY)
    primary = [h for h in no_scout if not is_reconstructed(h)]
    if not primary:
        raise UnusableStudy(Reason.DERIVED_ONLY)
    if any(not h.rescale_slope or h.rescale_intercept is None for h in primary):
        raise UnusableStudy(Reason.INVALID_RESCALE, "Rescale Slope or Intercept is absent or zero")
    used, note = _one_acquisition(primary)
    ordered, geometry, limitations = stack(used, rules, same_pixels)
    notes = [*limitations, *note, *limits_of_series(ordered, rules.kernel)]
    if len(primary) < len(series):
        notes.append(f"{len(series) - len(primary)} localizer or derived images of the series were left out")
    selection = Selection(Kind.CT, ordered, "", geometry, limitations=tuple(notes))
    return Candidate(selection, geometry.positions_mm[-1] - geometry.positions_mm[0], kernel_of(ordered[0]) is rules.kernel)


def _without_scouts(series: Sequence[Header]) -> list[Header]:
    """Leave out localizers: by their label, or a few images that lie otherwise than all the others."""
    kept = [h for h in series if "LOCALIZER" not in h.image_type[2:3]]
    directions = Counter(_direction(h) for h in kept)
    usual = directions.most_common(1)[0][0] if directions else ()
    odd = len(kept) - directions[usual]
    return [h for h in kept if _direction(h) == usual] if odd <= min(MOST_SCOUTS, len(kept) // 10) else kept


def _direction(header: Header) -> tuple[int, ...]:
    """Return the direction cosines in tenths."""
    return tuple(round(10 * v) for v in header.image_orientation_patient)


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


def _preference(candidate: Candidate) -> tuple[bool, bool, float, bool, float, int]:
    geometry, first = candidate.selection.geometry, candidate.selection.headers[0]
    spacing = geometry.spacing_mm[0] if geometry else 99.0
    number = first.series_number
    return (is_expiration(first), spacing > THIN_MM, spacing if spacing > THIN_MM else 0.0, not candidate.has_kernel,
            -round(candidate.coverage_mm), number if number is not None else 1 << 31)


def _why(candidates: list[Candidate]) -> str:
    best = candidates[0]
    spacing = best.selection.geometry.spacing_mm[0] if best.selection.geometry else 0.0
    what = f"{len(best.selection.headers)} axial slices, {spacing:g} mm apart, {best.coverage_mm:.0f} mm covered"
    if len(candidates) == 1:
        return f"the only usable CT series: {what}"
    return f"preferred of {len(candidates)} usable CT series (thin slices, then kernel, coverage and series number): {what}"


def _by_series(headers: Sequence[Header]) -> dict[str, list[Header]]:
    series: dict[str, list[Header]] = defaultdict(list)
    for header in headers:
        series[header.series_instance_uid].append(header)
    return series
