"""What is measured on the masks of a CT: volumes, percentages, attenuation and the extent score."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from service.domain import codes
from service.domain.codes import Code
from service.domain.finding import Measurement, Segment
from service.domain.study import VolumeGeometry
from service.infer.tidy import each

RIGHT_LUNG = Segment(1, "right lung", codes.ANATOMICAL_STRUCTURE, codes.LUNG, (70, 130, 220), codes.RIGHT)
LEFT_LUNG = Segment(2, "left lung", codes.ANATOMICAL_STRUCTURE, codes.LUNG, (60, 180, 150), codes.LEFT)
INFECTION = Segment(3, "infection", codes.MORPHOLOGICALLY_ABNORMAL, codes.OPACITY, (230, 80, 40))
SEGMENTS = (RIGHT_LUNG, LEFT_LUNG, INFECTION)

_THREE = (codes.UPPER_ZONE, codes.MIDDLE_ZONE, codes.LOWER_ZONE)
_TWO = (codes.UPPER_ZONE, codes.LOWER_ZONE)

RIGHT_BIT, LEFT_BIT, INFECTION_BIT = (1 << (s.number - 1) for s in SEGMENTS)


@dataclass(frozen=True, eq=False)
class Tally:
    """Voxels and sums by slice and by combination of bits: all that the measurements need of the masks.

    counts, sums_hu: (z, 8); voxel_ml: (z,) volume of a voxel of each slice; height_mm: (z,) toward the head.
    """

    counts: NDArray[np.int64]
    sums_hu: NDArray[np.float64]
    voxel_ml: NDArray[np.float64]
    height_mm: NDArray[np.float64]

    def ml(self, *, bits: int, zone: NDArray[np.bool_] | None = None) -> float:
        """Return the volume, in ml, of the voxels that carry all of `bits`, in the slices of `zone` or in all."""
        by_slice = self.counts[:, _carrying(bits)].sum(axis=1) * self.voxel_ml
        return float(by_slice.sum() if zone is None else by_slice[zone].sum())

    def mean_hu(self, *, bits: int) -> float | None:
        """Return the mean attenuation of the voxels that carry all of `bits`; None when there are none."""
        columns = _carrying(bits)
        count = int(self.counts[:, columns].sum())
        return float(self.sums_hu[:, columns].sum() / count) if count else None

    def area_voxels(self, *, bits: int) -> NDArray[np.int64]:
        """Return (z,) how many voxels of each slice carry all of `bits`."""
        area: NDArray[np.int64] = self.counts[:, _carrying(bits)].sum(axis=1)
        return area


def lung_voxels(masks: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return (z,) how many voxels of each slice are lung; masks: (z, y, x) bits of SEGMENTS."""
    return np.array([np.count_nonzero(plane & np.uint8(RIGHT_BIT | LEFT_BIT)) for plane in masks], np.int64)


def border_mm2(masks: NDArray[np.uint8], geometry: VolumeGeometry) -> float:
    """Return the area of lung, in mm2, that lies at the four sides of the field of view: what is beyond was not seen.

    masks: (z, y, x) bits of SEGMENTS, as stored or turned by quarters.
    """
    lung_bits, (row_mm, column_mm) = np.uint8(RIGHT_BIT | LEFT_BIT), geometry.spacing_mm[1:]
    if masks.shape[1:] != (geometry.rows, geometry.columns):
        row_mm, column_mm = column_mm, row_mm
    along_rows = np.count_nonzero(masks[:, (0, -1), :] & lung_bits, axis=(1, 2)) * column_mm
    along_columns = np.count_nonzero(masks[:, :, (0, -1)] & lung_bits, axis=(1, 2)) * row_mm
    return float(((along_rows + along_columns) * np.asarray(geometry.thickness_mm)).sum())


def tally(masks: NDArray[np.uint8], hu: NDArray[np.float32], geometry: VolumeGeometry, ascends: bool) -> Tally:
    """Count masks and attenuation slice by slice, each as thick as `geometry` says.

    masks: (z, y, x) bits of SEGMENTS; hu: the same shape.
    """
    counts = np.zeros((len(masks), 8), np.int64)
    sums = np.zeros((len(masks), 8))

    def count(k: int) -> None:
        left, top, width, height = cv2.boundingRect(masks[k])
        if width:
            place = slice(top, top + height), slice(left, left + width)
            flat = masks[k][place].ravel()
            counts[k] = np.bincount(flat, minlength=8)
            sums[k] = np.bincount(flat, weights=hu[k][place].ravel(), minlength=8)

    each(count, range(len(masks)))
    positions = np.asarray(geometry.positions_mm, np.float64)
    voxel_ml = np.asarray(geometry.thickness_mm) * geometry.spacing_mm[1] * geometry.spacing_mm[2] / 1000.0
    return Tally(counts, sums, voxel_ml, positions if ascends else -positions)


def measurements(found: Tally, complete: bool) -> tuple[Measurement, ...]:
    """Return every measurement that can be made; percentages and the extent score only when the lungs are complete."""
    lungs = ((RIGHT_LUNG, RIGHT_BIT), (LEFT_LUNG, LEFT_BIT))
    rows: list[Measurement] = []
    for segment, bit in lungs:
        rows += _of_lung(found, segment, bit, complete)
    total, infected = (sum(found.ml(bits=bit | extra) for _, bit in lungs) for extra in (0, INFECTION_BIT))
    rows.append(Measurement("lung volume", codes.VOLUME, total, codes.CUBIC_CENTIMETER, site=codes.LUNG,
                            laterality=codes.BILATERAL, method=codes.SUM_OF_VOXELS))
    rows.append(Measurement("infection volume", codes.VOLUME, infected, codes.CUBIC_CENTIMETER, INFECTION.label,
                            site=codes.LUNG, method=codes.SUM_OF_VOXELS))
    mean = found.mean_hu(bits=INFECTION_BIT)
    if mean is not None:
        rows.append(Measurement("infection mean attenuation", codes.MEAN_ATTENUATION, mean, codes.HOUNSFIELD_UNIT,
                                INFECTION.label, site=codes.LUNG))
    if complete:
        rows.append(_percent("lung involved", infected, total, "", codes.BILATERAL))
        rows += _of_zones(found)
        rows.append(Measurement("severity score", codes.SEVERITY_SCORE, float(severity(found)), codes.NO_UNITS,
                                site=codes.LUNG))
    return tuple(rows)


def infected_fraction(found: Tally) -> float:
    """Return the infected part of both lungs, 0..1."""
    total = found.ml(bits=RIGHT_BIT) + found.ml(bits=LEFT_BIT)
    return found.ml(bits=INFECTION_BIT) / total if total else 0.0


def laterality(found: Tally, min_ml: float) -> Code | None:
    """Return the side, or sides, on which infection lies; a side counts from `min_ml` and 5 % of the infection."""
    least = max(min_ml, 0.05 * found.ml(bits=INFECTION_BIT))
    right, left = (0 < found.ml(bits=bit | INFECTION_BIT) >= least for bit in (RIGHT_BIT, LEFT_BIT))
    if right and left:
        return codes.BILATERAL
    return codes.RIGHT if right else codes.LEFT if left else None


def severity(found: Tally) -> int:
    """Return the extent score, 0 to 25: the sum over five zones of 0 to 5 each.

    The zones are cut by height, not by lobes, for fissures are not segmented: the right lung in three and the left in
    two zones of equal height. A zone without infection scores 0, below 5 % 1, to 25 % 2, below 50 % 3, to 75 % 4,
    above 5.
    """
    score = 0
    for bit, parts in ((RIGHT_BIT, 3), (LEFT_BIT, 2)):
        for zone in _zones(found, bit, parts):
            whole = found.ml(bits=bit, zone=zone)
            if whole:
                score += zone_score(100.0 * found.ml(bits=bit | INFECTION_BIT, zone=zone) / whole)
    return score


def zone_score(percent: float) -> int:
    """Return 0 to 5 for the involved percentage of one zone."""
    if percent <= 0:
        return 0
    return 1 + (percent >= 5) + (percent > 25) + (percent >= 50) + (percent > 75)


def _zones(found: Tally, bit: int, parts: int) -> list[NDArray[np.bool_]]:
    """Cut a lung into slabs of equal height, by the centres of its slices."""
    with_lung = found.height_mm[found.area_voxels(bits=bit) > 0]
    if not len(with_lung):
        return []
    low, high = float(with_lung.min()), float(with_lung.max())
    place = (found.height_mm - low) / max(high - low, 1e-6) * parts
    part = np.clip(np.floor(place), 0, parts - 1)
    inside = (found.height_mm >= low) & (found.height_mm <= high)
    return [(part == number) & inside for number in range(parts)]


def _of_lung(found: Tally, segment: Segment, bit: int, complete: bool) -> list[Measurement]:
    """Measure one lung: volume, mean attenuation, infection included, and the involved percentage of a complete one."""
    label, side = segment.label, segment.laterality
    whole = found.ml(bits=bit)
    rows = [Measurement(f"{label} volume", codes.VOLUME, whole, codes.CUBIC_CENTIMETER, label, site=codes.LUNG,
                        laterality=side, method=codes.SUM_OF_VOXELS)]
    mean = found.mean_hu(bits=bit)
    if mean is not None:
        if complete:
            rows.append(_percent(f"{label} involved", found.ml(bits=bit | INFECTION_BIT), whole, label, side))
        rows.append(Measurement(f"{label} mean attenuation", codes.MEAN_ATTENUATION, mean, codes.HOUNSFIELD_UNIT, label,
                                site=codes.LUNG, laterality=side))
    return rows


def _of_zones(found: Tally) -> list[Measurement]:
    """Measure the involved percentage of each zone that the extent score counts, from the head down."""
    rows = []
    for segment, bit, names in ((RIGHT_LUNG, RIGHT_BIT, _THREE), (LEFT_LUNG, LEFT_BIT, _TWO)):
        for zone, code in zip(reversed(_zones(found, bit, len(names))), names, strict=False):
            whole = found.ml(bits=bit, zone=zone)
            if whole and segment.laterality:
                part = found.ml(bits=bit | INFECTION_BIT, zone=zone)
                name = f"{segment.laterality.meaning.lower()} {code.meaning.removesuffix(' of lung').lower()} involved"
                rows.append(Measurement(name, codes.PERCENT_INVOLVED, 100.0 * part / whole, codes.PERCENT, site=code,
                                        laterality=segment.laterality))
    return rows


def _percent(name: str, part: float, whole: float, label: str, side: Code | None) -> Measurement:
    return Measurement(name, codes.PERCENT_INVOLVED, 100.0 * part / whole, codes.PERCENT, label, site=codes.LUNG,
                       laterality=side)


def _carrying(bits: int) -> NDArray[np.intp]:
    return np.array([b for b in range(8) if b & bits == bits])
