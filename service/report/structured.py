"""The structured report: Comprehensive 3D SR, TID 1500, preliminary and unverified."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from highdicom.sr import (
    Comprehensive3DSR,
    DeviceObserverIdentifyingAttributes,
    LanguageOfContentItemAndDescendants,
    MeasurementReport,
    ObservationContext,
    ObserverContext,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from highdicom.sr import MeasurementsAndQualitativeEvaluations as Group
from pydicom.dataset import Dataset

from service.domain import codes
from service.domain.codes import Code
from service.domain.finding import Assessment, Finding
from service.domain.study import SECONDARY_CAPTURE_STORAGE, SEGMENTATION_STORAGE, Selection
from service.errors import Reason
from service.report.coded import concept
from service.report.compared import sentences
from service.report.content import empty_segment_group, finding_groups, segment_group, study_group
from service.report.document import Context, Made, anonymous, finish
from service.report.identity import DISCLAIMER, MANUFACTURER, Equipment
from service.report.lesions import lesion_groups
from service.report.segmentation import Drawn


def report(
    context: Context, sources: Sequence[Dataset], selection: Selection, assessment: Assessment,
    found: Drawn | None, others: Sequence[Dataset], library: Sequence[Dataset], previous: Sequence[Dataset],
) -> Made:
    """Build the report of an assessment.

    others: our SEG and SC, which become evidence; library: stand-ins of the images shown in the image library;
    previous: earlier reports of the study, which this one replaces (PredecessorDocumentsSequence).
    """
    status = codes.SUCCEEDED_WITH_FINDINGS if assessment.abnormal else codes.SUCCEEDED_WITHOUT_FINDINGS
    comments = _comments(context, selection, assessment)
    labels = {s.label for s in assessment.segments}
    measured = [m for m in assessment.measurements if m.segment not in labels]
    pictures = [o for o in others if o.SOPClassUID == SECONDARY_CAPTURE_STORAGE]
    groups = [study_group(context, status, measured, comments, assessment.quality, pictures)]
    groups += [group for f in assessment.findings if _worth_saying(f)
               for group in finding_groups(context, f, _image(sources, f), sources)]
    groups += _segment_groups(context, assessment, found, others)
    groups = sorted([*groups, *lesion_groups(context, sources, assessment)], key=_place)
    made = _document(context, [*sources, *others], groups, procedure(context, sources), library, previous)
    finish(made, context, "report", [text for _, text in comments])
    return Made("sr", made, f"{len(assessment.abnormal)} of {_asked(assessment)} findings present")


def refusal(
    context: Context, evidence: Sequence[Dataset], reason: Reason, detail: str, previous: Sequence[Dataset]
) -> Made:
    """Build the report that says that the study was not assessed, and why; it holds no finding, present or absent."""
    comments = [
        (codes.COMMENT, "This study was NOT ASSESSED by the software. This does not mean that it is normal."),
        (codes.REASON_NOT_ASSESSED, str(reason)), (codes.COMMENT, reason.sentence),
        *([(codes.COMMENT, detail)] if detail else []), (codes.COMMENT, DISCLAIMER),
    ]
    group = study_group(context, codes.FAILED_WITHOUT_FINDINGS, [], comments)
    made = _document(context, evidence, [group], procedure(context, [context.source]), [], previous)
    finish(made, context, "NOT ASSESSED", [detail])
    return Made("sr", made, f"not assessed: {reason}")


def procedure(context: Context, sources: Sequence[Dataset]) -> Code:
    """Return the imaging procedure reported (121058): of the images, not of the algorithm."""
    if context.modality == "CT":
        return codes.CT_CHEST
    views = {str(s.get("ViewPosition") or "") for s in sources}
    return codes.XR_CHEST_AP if views == {"AP"} else codes.XR_CHEST_VIEWS


def _segment_groups(
    context: Context, assessment: Assessment, found: Drawn | None, others: Sequence[Dataset]
) -> list[Group]:
    by_label = {s.label: s for s in found.segments} if found else {}
    groups = []
    for label in [s.label for s in assessment.segments]:
        measured = [m for m in assessment.measurements if m.segment == label]
        if label in by_label:
            uid = next(str(o.SOPInstanceUID) for o in others if o.SOPClassUID == SEGMENTATION_STORAGE)
            groups.append(segment_group(context, by_label[label], measured, assessment, uid))
        else:
            groups.append(empty_segment_group(context, label, measured, assessment.drawer))
    return groups


def _document(
    context: Context, evidence: Sequence[Dataset], groups: Sequence[Group], reported: Code,
    library: Sequence[Dataset], previous: Sequence[Dataset],
) -> Comprehensive3DSR:
    content = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=observer_of(context.equipment)),
        procedure_reported=concept(reported), imaging_measurements=groups, referenced_images=library or None,
        language_of_content_item_and_descendants=LanguageOfContentItemAndDescendants(
            concept(codes.ENGLISH)),
    )
    own_uid = context.series("sr")["sop_instance_uid"]
    earlier = [p for p in previous if str(p.SOPInstanceUID) != own_uid]
    made = Comprehensive3DSR(
        evidence=[anonymous(e) for e in evidence], content=content[0], manufacturer=MANUFACTURER,
        is_complete=True, is_final=False, is_verified=False, previous_versions=earlier or None, **context.series("sr"),
    )
    made.ContentQualification = "RESEARCH"
    return made


def observer_of(equipment: Equipment) -> ObserverContext:
    """Return the device that observed (TID 1002, TID 1004)."""
    return ObserverContext(
        observer_type=concept(codes.DEVICE),
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=equipment.device_uid, name=equipment.title[:64] or equipment.model_name, manufacturer_name=MANUFACTURER,
            model_name=equipment.model_name, serial_number=equipment.serial_number),
    )


def _place(group: Group) -> int:
    """Return where a group stands in TID 1500: planar regions first, then volumes, then the rest.

    A viewer that opens a report at its first group then has something to draw.
    """
    if isinstance(group, PlanarROIMeasurementsAndQualitativeEvaluations):
        return 0
    return 1 if isinstance(group, VolumetricROIMeasurementsAndQualitativeEvaluations) else 2


def _comments(context: Context, selection: Selection, assessment: Assessment) -> list[tuple[Code, str]]:
    texts = [DISCLAIMER, f"Images chosen: {selection.reason}", *_input(context, selection, assessment)]
    if context.comparison is not None:
        texts += sentences(context.comparison)
    if selection.set_aside:
        aside = Counter(s.reason for s in selection.set_aside)
        texts.append("Not used: " + ", ".join(f"{n} x {why}" for why, n in sorted(aside.items())))
    texts += [f"Limitation: {text}" for text in dict.fromkeys((*selection.limitations, *assessment.limitations))]
    texts += [
        f"The class {f.name!r} of {assessment.speaker(f).name} has the score {f.probability:.3f}. "
        "This does not mean that the study is normal."
        for f in assessment.findings if f.code == codes.NO_FINDING
    ]
    texts += [f"Model {b.name} {b.version}: {b.title}, sha256 {b.digest}" for b in assessment.bundles]
    return [(codes.COMMENT, text) for text in texts]


def _input(context: Context, selection: Selection, assessment: Assessment) -> list[str]:
    """Say what was read, so that the result can be made again: series, kernel, digest of the input, preparation."""
    series = dict.fromkeys(h.series_instance_uid for h in selection.headers)
    kernels = dict.fromkeys(h.convolution_kernel for h in selection.headers if h.convolution_kernel)
    return [
        f"Input: {len(selection.headers)} images of series {', '.join(series)}, sha256 {context.key[0]}",
        *([f"Convolution kernel: {', '.join(kernels)}"] if kernels else []),
        f"Prepared by {MANUFACTURER} {context.style.software_version} as the manifest of {assessment.bundle.name} says",
    ]


def _worth_saying(finding: Finding) -> bool:
    """Tell whether a finding belongs into the report; "no finding" does not: viewers would print "normal"."""
    return finding.code != codes.NO_FINDING


def _asked(assessment: Assessment) -> int:
    return sum(f.code != codes.NO_FINDING for f in assessment.findings)


def _image(sources: Sequence[Dataset], finding: Finding) -> Dataset | None:
    return next((s for s in sources if s.SOPInstanceUID == finding.sop_instance_uid), None)
