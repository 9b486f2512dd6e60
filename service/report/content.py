"""The measurement groups of the structured report: TID 1411 for segments, TID 1501 for findings and the study."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from highdicom.sr import (
    AlgorithmIdentification,
    FindingSite,
    GraphicTypeValues,
    ImageContentItem,
    ImageRegion,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    ReferencedSegment,
    SourceImageForMeasurementGroup,
    SourceImageForRegion,
    SourceSeriesForSegmentation,
    TextContentItem,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from highdicom.sr import Measurement as NumericMeasurement
from highdicom.sr import MeasurementsAndQualitativeEvaluations as Group
from pydicom.dataset import Dataset

from service.domain import codes
from service.domain.codes import Code
from service.domain.finding import Assessment, BundleIdentity, Finding, Measurement, Outline, Presence, Segment
from service.domain.study import SEGMENTATION_STORAGE
from service.errors import Defect, Reason
from service.report.coded import concept
from service.report.document import Context
from service.report.segmentation import Drawn


def algorithm(context: Context, bundle: BundleIdentity | None = None) -> AlgorithmIdentification:
    """Return TID 4019, name and version only: readers list its family and manufacturer as results.

    bundle: who speaks; None: the leading one of the context.
    """
    equipment = context.by(bundle).equipment if bundle else context.equipment
    return AlgorithmIdentification(name=equipment.model_name, version=equipment.software_version)


def study_group(
    context: Context, status: Code, measurements: Iterable[Measurement], comments: Sequence[tuple[Code, str]],
    quality: Code | None = None, explanations: Iterable[Dataset] = (),
) -> Group:
    """Return the group about the whole study (TID 1501): processing status, quality, measurements, comments in words.

    explanations: pictures of ours that show what the result rests on.
    """
    judged = [(codes.PROCESSING_SUMMARY, status), *([(codes.QUALITY_ASSESSMENT, quality)] if quality else [])]
    group = Group(
        tracking_identifier=_tracking(context, "study"), algorithm_id=algorithm(context),
        measurements=[numeric(m, with_site=True) for m in measurements],
        qualitative_evaluations=[QualitativeEvaluation(concept(name), concept(value)) for name, value in judged],
    )
    for name, text in comments:
        say(group, name, text)
    for picture in explanations:
        group[0].ContentSequence.append(ImageContentItem(
            concept(codes.VISUAL_EXPLANATION), picture.SOPClassUID, picture.SOPInstanceUID, relationship_type="CONTAINS"))
    return group


def finding_groups(context: Context, finding: Finding, image: Dataset | None, images: Sequence[Dataset] = ()) -> list[Group]:
    """Return the group of one finding: who says it, present or absent, site, probability and threshold.

    image: the one with the highest score, of `images`, whose scores are told where several were read. A finding with
    outlines gets a group with an image region for each (TID 1410), the first of them with the numbers; another one a single
    group (TID 1501). An absent finding stands under "Clinical finding absent" instead of "Finding" (AIR Rev 1.3), for
    viewers print whatever stands under "Finding".
    """
    drawn = finding.outlines if image is not None else ()
    group = _region_group(context, finding, image, 0, drawn[0]) if drawn and image else _whole_group(context, finding, image)
    if finding.presence is Presence.ABSENT:
        _rename_finding(group)
    for text in _said_of(finding, images):
        say(group, codes.COMMENT, text)
    further = [_region_group(context, finding, image, n, drawn[n]) for n in range(1, len(drawn)) if image]
    return [group, *further]


def _whole_group(context: Context, finding: Finding, image: Dataset | None) -> Group:
    return Group(
        tracking_identifier=_tracking_of(context, finding), finding_type=concept(finding.code),
        finding_sites=_sites(finding), algorithm_id=algorithm(context, finding.bundle),
        measurements=[_probability(finding)],
        source_images=[SourceImageForMeasurementGroup(image.SOPClassUID, image.SOPInstanceUID)]
        if image is not None else None,
    )


def _region_group(
    context: Context, finding: Finding, image: Dataset, number: int, outline: Outline,
) -> PlanarROIMeasurementsAndQualitativeEvaluations:
    """Return the group of one outline, a closed polyline on its image; the numbers stand with the first one only."""
    return PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking_of(context, finding, number), finding_type=concept(finding.code),
        finding_sites=_sites(finding), algorithm_id=algorithm(context, finding.bundle),
        referenced_region=ImageRegion(
            GraphicTypeValues.POLYLINE, np.array(outline, np.float32),
            SourceImageForRegion(image.SOPClassUID, image.SOPInstanceUID)),
        measurements=None if number else [_probability(finding)],
    )


def _probability(finding: Finding) -> NumericMeasurement:
    return numeric(Measurement(finding.name, codes.PROBABILITY, finding.probability * 100, codes.PERCENT))


def _said_of(finding: Finding, images: Sequence[Dataset]) -> list[str]:
    """Return the sentences about one finding."""
    said = [f"Reported as {finding.presence}: the threshold is {finding.threshold * 100:.4g} %. The number is the model's "
            "output, not a calibrated probability of disease."]
    if len(finding.by_image) > 1:
        named = {str(i.SOPInstanceUID): f"series {i.get('SeriesNumber')} image {i.get('InstanceNumber')}" for i in images}
        each = [f"{named.get(uid, uid)}: {100 * score:.1f} %" for uid, score in finding.by_image]
        said.append(f"Score of each image: {'; '.join(each)}. The study has the highest.")
    if finding.zone:
        said.append(f"The evidence is strongest in the {finding.place}.")
    if finding.outlines:
        said.append("The region is where the model's evidence is at least half of its strongest; it is not the border of a "
                    "lesion.")
    if finding.urgency and finding.presence is Presence.PRESENT:
        said.append(f"Suggested priority of reading: {finding.urgency}.")
    return said


def segment_group(
    context: Context, segment: Segment, measurements: Iterable[Measurement], assessment: Assessment, seg_uid: str
) -> VolumetricROIMeasurementsAndQualitativeEvaluations:
    """Return the group of one segment of the SEG (TID 1411) with what was measured on it."""
    denied = {f.code for f in assessment.findings
              if f.presence is Presence.ABSENT and assessment.speaker(f) == assessment.drawer}
    side = concept(segment.laterality) if segment.laterality else None
    return VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(context, segment.label),
        referenced_segment=ReferencedSegment(
            SEGMENTATION_STORAGE, seg_uid, segment.number,
            source_series=SourceSeriesForSegmentation(str(context.source.SeriesInstanceUID)),
        ),
        finding_category=concept(segment.category),
        finding_type=None if segment.property_type in denied else concept(segment.property_type),
        finding_sites=[FindingSite(concept(codes.LUNG), side)], algorithm_id=algorithm(context, assessment.drawer),
        measurements=[numeric(m) for m in measurements],
    )


def empty_segment_group(
    context: Context, label: str, measurements: Iterable[Measurement], by: BundleIdentity | None = None,
) -> Group:
    """Return the group of a segment that is empty and therefore not in the SEG (TID 1501). by: the bundle that drew."""
    group = Group(
        tracking_identifier=_tracking(context, label), algorithm_id=algorithm(context, by),
        measurements=[numeric(m, with_site=True) for m in measurements],
    )
    say(group, codes.COMMENT, f"No voxel was marked as {label}.")
    return group


def numeric(measurement: Measurement, with_site: bool = False) -> NumericMeasurement:
    """Return one number with its unit and method (TID 300), rounded to eight digits.

    with_site: also its finding site; a group of its own already has one. Raises: Defect for NaN or infinity.
    """
    if not math.isfinite(measurement.value):
        raise Defect(Reason.INTERNAL_ERROR, f"the measurement {measurement.name!r} is not a finite number")
    site = None
    if with_site and measurement.site:
        side = concept(measurement.laterality) if measurement.laterality else None
        site = [FindingSite(concept(measurement.site), side)]
    return NumericMeasurement(
        name=concept(measurement.code), value=float(f"{measurement.value:.8g}"), unit=concept(measurement.unit),
        method=concept(measurement.method) if measurement.method else None, finding_sites=site,
    )


def key_slices(found: Drawn) -> list[int]:
    """Return up to three slices to look at: the largest area of the abnormal segments in each third of their extent.

    Without an abnormal segment: in each third of the extent of all segments.
    """
    abnormal = [n for n, s in enumerate(found.segments) if s.category == codes.MORPHOLOGICALLY_ABNORMAL]
    area = found.areas[abnormal or slice(None)].sum(axis=0)
    where = [z for z, voxels in enumerate(area) if voxels]
    third = math.ceil(len(where) / 3)
    return [max(where[k:k + third], key=lambda z: int(area[z])) for k in range(0, len(where), third)]


def _sites(finding: Finding) -> list[FindingSite] | None:
    """Return where a finding lies: the zone of the lung where it is known, with the side."""
    site = finding.zone if finding.zone and finding.site == codes.LUNG else finding.site
    side = concept(finding.laterality) if finding.laterality else None
    return [FindingSite(concept(site), side)] if site else None


def tracking_uid(context: Context, finding: Finding, number: int = 0) -> str:
    """Return the Tracking UID of a finding, or of one further region of it (number from 1)."""
    by = [finding.bundle.digest] if finding.bundle else []
    which = [str(number)] if number else []
    return context.uid("tracking", finding.name, finding.sop_instance_uid, *by, "finding", *which)


def _tracking_of(context: Context, finding: Finding, number: int = 0) -> TrackingIdentifier:
    """Return how a finding, or one further region of it, is tracked."""
    return TrackingIdentifier(
        uid=tracking_uid(context, finding, number), identifier=f"{finding.name} {number + 1}" if number else finding.name)


def _tracking(context: Context, label: str, *of: str) -> TrackingIdentifier:
    return TrackingIdentifier(uid=context.uid("tracking", label, *of), identifier=label)


def say(group: Group, name: Code, text: str) -> None:
    """Add a sentence to a group, as a qualitative evaluation in words (TID 1501)."""
    group[0].ContentSequence.append(
        TextContentItem(name=concept(name), value=text, relationship_type="CONTAINS"))


def _rename_finding(group: Group) -> None:
    for item in group[0].ContentSequence:
        if item.name.value == codes.FINDING.value and item.name.scheme_designator == codes.FINDING.scheme:
            item.ConceptNameCodeSequence = [concept(codes.FINDING_ABSENT)]
