"""Lesions in the structured report: a group for each, with the Tracking UID that it keeps over time (TID 1501)."""

from __future__ import annotations

from collections.abc import Sequence

from highdicom.sr import FindingSite, SourceImageForMeasurementGroup, TrackingIdentifier
from highdicom.sr import Measurement as NumericMeasurement
from highdicom.sr import MeasurementsAndQualitativeEvaluations as Group
from pydicom.dataset import Dataset

from service.domain import codes
from service.domain.finding import Assessment, Measurement, Presence
from service.domain.lesion import Course, Followed, Lesion
from service.report.coded import concept
from service.report.compared import of_lesion
from service.report.content import algorithm, numeric, say
from service.report.document import Context

_SIDES = {"Right": codes.RIGHT, "Left": codes.LEFT}


def lesion_groups(context: Context, sources: Sequence[Dataset], assessment: Assessment) -> list[Group]:
    """Return a group for each lesion, the largest first, then for each that is gone: with a volume of 0.

    The volumes are of parts of one segment; that one has a group of its own.
    """
    following = context.comparison.following if context.comparison else None
    said = {f.tracking_uid: f for f in following.lesions if f.course is not Course.MERGED} if following else {}
    groups = [_group(context, sources, assessment, lesion, said.get(lesion.tracking_uid)) for lesion in assessment.lesions]
    gone = [f for f in said.values() if f.course is Course.GONE and f.tracking_uid]
    return groups + [_gone(context, assessment, n, f) for n, f in enumerate(gone, 1)]


def _group(context: Context, sources: Sequence[Dataset], assessment: Assessment, lesion: Lesion,
           followed: Followed | None) -> Group:
    image = next((s for s in sources if s.SOPInstanceUID == lesion.sop_instance_uid), None)
    drawn = next(s for s in assessment.segments if s.category == codes.MORPHOLOGICALLY_ABNORMAL)
    group = Group(
        tracking_identifier=TrackingIdentifier(uid=lesion.tracking_uid, identifier=lesion.name),
        finding_category=concept(drawn.category),
        finding_type=None if drawn.property_type in _denied(assessment) else concept(drawn.property_type),
        finding_sites=_site(lesion.side), algorithm_id=algorithm(context, assessment.drawer),
        measurements=[_volume(lesion.volume_ml)],
        source_images=[SourceImageForMeasurementGroup(image.SOPClassUID, image.SOPInstanceUID)] if image else None)
    if followed is not None:
        say(group, codes.COMMENT, of_lesion(followed))
    return group


def _gone(context: Context, assessment: Assessment, number: int, followed: Followed) -> Group:
    """Return the group of a lesion that was marked then and is not now; it is no finding of this study."""
    group = Group(
        tracking_identifier=TrackingIdentifier(uid=followed.tracking_uid, identifier=f"earlier lesion {number}"),
        finding_sites=_site(followed.side), algorithm_id=algorithm(context, assessment.drawer),
        measurements=[_volume(0.0)])
    say(group, codes.COMMENT, of_lesion(followed))
    return group


def _volume(volume_ml: float) -> NumericMeasurement:
    return numeric(Measurement("volume", codes.VOLUME, volume_ml, codes.CUBIC_CENTIMETER, method=codes.SUM_OF_VOXELS))


def _site(side: str) -> list[FindingSite]:
    return [FindingSite(concept(codes.LUNG), concept(_SIDES[side]) if side in _SIDES else None)]


def _denied(assessment: Assessment) -> set[codes.Code]:
    return {f.code for f in assessment.findings
            if f.presence is Presence.ABSENT and assessment.speaker(f) == assessment.drawer}
