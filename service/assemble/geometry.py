"""Where the slices of a CT series lie, and what is wrong with how they lie (PS3.3 C.7.6.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from service.assemble.traits import Kernel
from service.domain.study import Header, VolumeGeometry
from service.errors import Reason, UnusableStudy

AXIAL_COSINE = 0.85  # the normal must be within 32 degrees of the patient's long axis
SAME_POSITION_MM = 0.01
GAP_FACTOR = 1.5  # a distance over this many medians is a missing slice
UNEVEN = 0.10  # distances may differ from their median by this part
LEAST_RUN = 4  # so many equal distances in a row are meant so
SHEAR = 0.02  # sideways drift per mm along the normal: a tilted gantry


@dataclass(frozen=True)
class GeometryRules:
    """The fewest slices and the widest distance between them (mm) that a volume may have; the kernel that is preferred."""

    min_slices: int
    max_slice_gap_mm: float
    kernel: Kernel = Kernel.UNKNOWN


def stack(
    headers: Sequence[Header], rules: GeometryRules, same_pixels: Callable[[Header, Header], bool]
) -> tuple[tuple[Header, ...], VolumeGeometry, tuple[str, ...]]:
    """Order slices by their position along the normal and check that they make a volume.

    same_pixels tells whether two slices at one position show the same. Returns the slices, one per position; their
    geometry; and limitations in words. Raises: UnusableStudy with the reason.
    """
    orientation, normal = _common_orientation(headers)
    _require_one_grid(headers)
    placed = sorted(((_position(h, normal), h) for h in headers), key=lambda p: p[0])
    placed, dropped = _without_duplicates(placed, same_pixels)
    if len(placed) < rules.min_slices:
        raise UnusableStudy(Reason.TOO_FEW_SLICES, f"{len(placed)} slices, at least {rules.min_slices} are needed")
    positions = np.array([p for p, _ in placed])
    spacing_mm, varies, limitations = _spacing(positions, rules.max_slice_gap_mm)
    ordered = tuple(h for _, h in placed)
    if dropped:
        limitations.append(f"{dropped} repeated slices with the same pixels were left out")
    if _shear(ordered, normal) > SHEAR:
        limitations.append("the slices are sheared (tilted gantry)")
    row_mm, column_mm = ordered[0].pixel_spacing
    geometry = VolumeGeometry(
        positions_mm=tuple(float(p) for p in positions), spacing_mm=(spacing_mm, row_mm, column_mm),
        orientation=_six(orientation), normal=(float(normal[0]), float(normal[1]), float(normal[2])),
        rows=ordered[0].rows or 0, columns=ordered[0].columns or 0,
        frame_of_reference_uid=ordered[0].frame_of_reference_uid, varies=varies,
    )
    return ordered, geometry, tuple(limitations)


def _common_orientation(headers: Sequence[Header]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    orientation = _orientation(headers[0])
    for header in headers[1:]:
        if not np.allclose(_orientation(header), orientation, atol=1e-3):
            raise UnusableStudy(Reason.VARIABLE_GEOMETRY, "slices have different Image Orientation (Patient)")
    normal = np.cross(orientation[:3], orientation[3:])
    if abs(normal[2]) < AXIAL_COSINE:
        raise UnusableStudy(Reason.NOT_AXIAL, f"slice normal is {np.round(normal, 2).tolist()}")
    return orientation, normal


def _orientation(header: Header) -> NDArray[np.float64]:
    """Return the six direction cosines. Raises: UnusableStudy when they are not two perpendicular unit vectors."""
    values = np.array(header.image_orientation_patient, dtype=float)
    if values.shape != (6,) or not np.isfinite(values).all():
        raise UnusableStudy(Reason.INVALID_GEOMETRY, "Image Orientation (Patient) is absent or not six numbers")
    row, column = values[:3], values[3:]
    long = np.abs(values).max() > 2 or any(abs(np.linalg.norm(one) - 1) > 0.01 for one in (row, column))
    if long or abs(row @ column) > 0.01:
        raise UnusableStudy(Reason.INVALID_GEOMETRY, "Image Orientation (Patient) is not two perpendicular unit vectors")
    return values


def _require_one_grid(headers: Sequence[Header]) -> None:
    first = headers[0]
    spacing = first.pixel_spacing
    if len(spacing) != 2 or not all(isfinite(s) and 0.05 <= s <= 10 for s in spacing):
        raise UnusableStudy(Reason.INVALID_GEOMETRY, f"Pixel Spacing is {list(spacing)}; accepted: two of 0.05 to 10 mm")
    for header in headers:
        if (header.rows, header.columns) != (first.rows, first.columns):
            raise UnusableStudy(Reason.VARIABLE_GEOMETRY, "slices have different Rows or Columns")
        if len(header.pixel_spacing) != 2 or not np.allclose(header.pixel_spacing, spacing, rtol=1e-3):
            raise UnusableStudy(Reason.VARIABLE_GEOMETRY, "slices have different Pixel Spacing")
        if header.frame_of_reference_uid != first.frame_of_reference_uid:
            raise UnusableStudy(Reason.VARIABLE_GEOMETRY, "slices have different Frame of Reference UIDs")
    if not first.frame_of_reference_uid:
        raise UnusableStudy(Reason.INVALID_GEOMETRY, "Frame of Reference UID is absent")


def _position(header: Header, normal: NDArray[np.float64]) -> float:
    position = np.array(header.image_position_patient, dtype=float)
    if position.shape != (3,) or not np.isfinite(position).all():
        raise UnusableStudy(Reason.INVALID_GEOMETRY, "Image Position (Patient) is absent or not three numbers")
    return float(position @ normal)


def _without_duplicates(
    placed: list[tuple[float, Header]], same_pixels: Callable[[Header, Header], bool]
) -> tuple[list[tuple[float, Header]], int]:
    kept = placed[:1]
    for position, header in placed[1:]:
        if position - kept[-1][0] >= SAME_POSITION_MM:
            kept.append((position, header))
        elif not same_pixels(kept[-1][1], header):
            raise UnusableStudy(Reason.CONFLICTING_DUPLICATES, f"two different slices at {position:.2f} mm")
    return kept, len(placed) - len(kept)


def _spacing(positions: NDArray[np.float64], max_gap_mm: float) -> tuple[float, bool, list[str]]:
    """Return the slice distance in mm, whether it varies, and limitations.

    One single missing slice is a limitation, more is a refusal. Distances that differ are no gaps where each is that of
    a run of slices: parts of the body scanned at different distances; then the median is returned.
    """
    distances = np.diff(positions)
    median = float(np.median(distances))
    if median > max_gap_mm + 1e-3:
        raise UnusableStudy(Reason.SLICES_TOO_THICK, f"slices are {median:.2f} mm apart; accepted: up to {max_gap_mm:g}")
    gaps = distances[distances > GAP_FACTOR * median]
    even = distances[distances <= GAP_FACTOR * median]
    if (len(gaps) or np.abs(even - median).max() > UNEVEN * median) and _in_runs(distances, max_gap_mm):
        return median, True, [f"slice distances vary from {distances.min():.2f} to {distances.max():.2f} mm; volumes are "
                              "counted slice by slice"]
    if np.abs(even - median).max() > UNEVEN * median:
        raise UnusableStudy(
            Reason.VARIABLE_GEOMETRY, f"slice distances vary from {even.min():.2f} to {even.max():.2f} mm")
    if len(gaps) > 1 or (len(gaps) == 1 and gaps[0] > 2 * median * (1 + UNEVEN)):
        raise UnusableStudy(
            Reason.MISSING_SLICES, f"{len(gaps)} gaps, the widest {gaps.max():.2f} mm with slices {median:.2f} mm apart")
    if len(gaps):
        at = float(positions[int(np.argmax(distances))])
        return median, False, [f"one slice is missing after position {at:.1f} mm; volumes leave it out"]
    return median, False, []


def _in_runs(distances: NDArray[np.float64], max_gap_mm: float) -> bool:
    """Tell whether the slices lie in runs of equal distance, none of them too wide."""
    if distances.max() > max_gap_mm + 1e-3:
        return False
    breaks = np.flatnonzero(np.abs(np.diff(distances)) > UNEVEN * np.minimum(distances[1:], distances[:-1]))
    return bool(np.diff([-1, *breaks.tolist(), len(distances) - 1]).min() >= LEAST_RUN)


def _shear(headers: Sequence[Header], normal: NDArray[np.float64]) -> float:
    step = np.array(headers[-1].image_position_patient) - np.array(headers[0].image_position_patient)
    along = float(step @ normal)
    return float(np.linalg.norm(step - along * normal) / along) if along else 0.0


def _six(values: NDArray[np.float64]) -> tuple[float, float, float, float, float, float]:
    a, b, c, d, e, f = (float(v) for v in values)
    return a, b, c, d, e, f
