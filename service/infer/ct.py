"""Chest CT: lungs, infection, and how much of which lung."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.domain import codes
from service.domain.codes import Code
from service.domain.finding import Assessment, BundleIdentity, Finding, Presence
from service.domain.manifest import InvalidManifest, Manifest
from service.domain.study import CtVolume
from service.infer.extent import (
    INFECTION_BIT,
    LEFT_BIT,
    RIGHT_BIT,
    SEGMENTS,
    Tally,
    border_mm2,
    infected_fraction,
    laterality,
    measurements,
    tally,
)
from service.infer.masks import masks_of
from service.infer.networks import Networks
from service.infer.presentation import Presentation
from service.infer.reading import CtTransform, Read, read_slices
from service.infer.unfamiliar import require_familiar, unfamiliarity

_CUT_AREA_MM2 = 300.0
_MISREAD_SHARE = 0.02
_CANDIDATES = ("too few voxels were marked as infection for a finding; segment, volume, percentages and score of infection "
               "describe these candidates only")
_ZONES = "severity score by five zones of equal height (right lung 3, left lung 2), not by lobes"


def assess_ct(
    volume: CtVolume, engine: Networks, manifest: Manifest, transform: CtTransform, limitations: Sequence[str] = (),
    sop_instance_uids: Sequence[str] = (),
) -> Assessment:
    """Segment lungs and infection in every slice, and measure.

    The model's input `slices` is (n, 1, h, w), turned as a radiologist sees them; its output `probabilities` is
    (n, 3, h, w): background, lung, infection. Lung is lung or infection, and only where there is air close by; both lungs
    and every further piece of at least 10 ml are kept. Infection counts inside them, where a neighbouring slice bears it
    out and it is denser than the patient's own lung. Sides come from patient coordinates.
    sop_instance_uids: of the slices in order; the finding names the one with the largest infected area.
    Masks are on the source grid: bits 1 right lung, 2 left lung, 4 infection.
    Raises: UnusableStudy(NO_LUNG_FOUND, UNFAMILIAR_IMAGE); EngineUnavailable; InvalidManifest for a
    missing parameter of the read-out.
    """
    hu = Presentation.of(volume.geometry).turn(volume.hu)
    return assess_read(volume, read_slices(hu, engine, manifest.name, transform), engine.identity(manifest.name), manifest,
                       limitations, sop_instance_uids)


def assess_read(
    volume: CtVolume, read: Read, bundle: BundleIdentity, manifest: Manifest, limitations: Sequence[str] = (),
    sop_instance_uids: Sequence[str] = (), give_way: Callable[[], None] = lambda: None,
) -> Assessment:
    """Measure what a network has said of every slice; see `assess_ct`.

    read: of the slices as `Presentation` turns them; bundle: whose network that was; give_way: as of `masks_of`.
    Raises: as `assess_ct`.
    """
    presentation = Presentation.of(volume.geometry)
    hu = presentation.turn(volume.hu)
    require_familiar(unfamiliarity(read.beside, manifest, len(hu)), manifest)
    masks, misread = masks_of(read.classes, hu, volume.geometry.spacing_mm,
                              _parameter(manifest.parameters, "min_infection_ml", 0.0), give_way)
    give_way()
    found = tally(masks, hu, volume.geometry, presentation.ascends)
    own = _limitations(found, volume, misread, border_mm2(masks, volume.geometry))
    complete = not any(text.startswith("incomplete coverage") for text in own)
    findings = _findings(found, manifest, sop_instance_uids)
    if found.ml(bits=INFECTION_BIT) and not any(f.presence is Presence.PRESENT for f in findings):
        own.append(_CANDIDATES)
    return Assessment(
        bundle=bundle, findings=findings,
        measurements=measurements(found, complete), limitations=(*limitations, *own, *([_ZONES] if complete else [])),
        segments=SEGMENTS, masks=np.ascontiguousarray(presentation.turn_back(masks)),
    )


def _findings(found: Tally, manifest: Manifest, sop_instance_uids: Sequence[str]) -> tuple[Finding, ...]:
    probability = study_probability(infected_fraction(found), manifest.parameters)
    area = found.area_voxels(bits=INFECTION_BIT)
    worst = sop_instance_uids[int(area.argmax())] if sop_instance_uids and area.any() else ""
    findings = []
    for output in manifest.outputs:
        if output.code is None:
            continue
        present = probability >= output.threshold
        side: Code | None = laterality(found, _parameter(manifest.parameters, "min_infection_ml", 0.0))
        findings.append(Finding(
            name=output.name, code=output.code, presence=Presence.PRESENT if present else Presence.ABSENT,
            probability=probability, threshold=output.threshold, site=codes.LUNG, laterality=side if present else None,
            sop_instance_uid=worst, urgency=output.urgency.value if output.urgency else "",
        ))
    return tuple(findings)


def study_probability(fraction: float, parameters: Mapping[str, Any]) -> float:
    """Return the probability, 0..1, that a study shows infection, from the infected fraction of the lungs.

    The manifest's `study_probability` table gives a logistic curve: intercept + slope * feature, where the feature is
    "infected_fraction" itself or "log_infected_fraction", the natural logarithm of fraction + epsilon.
    Raises: InvalidManifest when the table or a key is missing or the feature is unknown.
    """
    curve = parameters.get("study_probability")
    if not isinstance(curve, Mapping):
        raise InvalidManifest("parameters: the table study_probability is missing")
    feature = curve.get("feature", "infected_fraction")
    if feature == "infected_fraction":
        value = fraction
    elif feature == "log_infected_fraction":
        value = math.log(fraction + _parameter(curve, "epsilon"))
    else:
        raise InvalidManifest(f"study_probability.feature {feature!r} is unknown; accepted: infected_fraction, "
                              "log_infected_fraction")
    logit = _parameter(curve, "intercept") + _parameter(curve, "slope") * value
    return 1.0 / (1.0 + math.exp(-min(max(logit, -60.0), 60.0)))


def _limitations(found: Tally, volume: CtVolume, misread: NDArray[np.bool_], at_border_mm2: float) -> list[str]:
    """Say what was not seen: lungs cut by the ends or the sides of the scan, a lung not found, slices that were misread."""
    texts = []
    area_mm2 = (found.area_voxels(bits=RIGHT_BIT) + found.area_voxels(bits=LEFT_BIT)) * (
        volume.geometry.spacing_mm[1] * volume.geometry.spacing_mm[2])
    ends = (found.height_mm.argmax(), "top"), (found.height_mm.argmin(), "bottom")
    cut = [name for index, name in ends if area_mm2[index] > _CUT_AREA_MM2]
    cut += ["side"] if at_border_mm2 > _CUT_AREA_MM2 else []
    if cut:
        texts.append(f"incomplete coverage: the lungs are cut at the {' and '.join(cut)} of the scan; volumes are of the "
                     "part shown, and there is no percentage and no severity score")
    for bit, segment in ((RIGHT_BIT, SEGMENTS[0]), (LEFT_BIT, SEGMENTS[1])):
        if found.ml(bits=bit) == 0:
            texts.append(f"no {segment.label} was found")
    lung_ml = (found.area_voxels(bits=RIGHT_BIT) + found.area_voxels(bits=LEFT_BIT)) * found.voxel_ml
    if lung_ml[misread].sum() > _MISREAD_SHARE * lung_ml.sum():
        texts.append(f"infection could not be told in {int(misread.sum())} slices, where the model took soft tissue for "
                     "lung")
    return texts


def _parameter(parameters: Mapping[str, Any], key: str, absent: float | None = None) -> float:
    value = parameters.get(key, absent)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidManifest(f"parameter {key} must be a number, got {value!r}")
    return float(value)
