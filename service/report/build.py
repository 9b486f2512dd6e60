"""From an assessment to the objects for the PACS: SEG and SR for a CT, SR and SC for radiographs, SR for a refusal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from service.domain.finding import Assessment
from service.domain.prior import Comparison
from service.domain.study import Kind, Selection
from service.errors import Reason, UnusableStudy
from service.report.capture import capture
from service.report.content import key_slices
from service.report.document import Context, Made, Style, anonymous
from service.report.frames import refer_to_frames
from service.report.identity import equipment_of
from service.report.key_objects import key_objects
from service.report.montage import montage
from service.report.segmentation import Drawn, drawn, grid, segmentation
from service.report.softcopy import of_radiographs, of_slices
from service.report.structured import refusal, report

__all__ = ["Made", "Style", "build", "build_refusal"]

Pictures = Mapping[str, NDArray[np.float32]]
Compared = Callable[[], tuple[Assessment, Comparison | None]]
"""Gives an assessment with its lesions, and its comparison with an earlier study."""


def build(
    selection: Selection, sources: Sequence[Dataset], assessment: Assessment, style: Style, input_digest: str,
    revision: int, previous: Sequence[Dataset], now: datetime, pictures: Pictures | None = None,
    compared: Compared | None = None, give_way: Callable[[], None] = lambda: None,
) -> list[Made]:
    """Build every object that goes back for one assessed study; evidence first, the SR last.

    sources: data sets of `selection.headers`, in that order, without pixels, of a frame of an enhanced CT as if it were an
    image; masks lie on their grid. input_digest: of
    the selected images, so that the same input and bundles give the same UIDs, whatever the revision. previous: earlier
    SRs of the study, which the new SR replaces. now: with a time zone. pictures: by SOP Instance UID, (y, x) float32
    0..1, bright = dense, the grid of the image (of a CT in the lung window; only those of key slices are asked for);
    images without one get no SC. compared: gives the assessment with its lesions, and its comparison with an earlier study
    of the patient, once they are known: only the SR tells of them, so it is asked when all else is made.
    give_way: called before each object; it returns when nothing more urgent is under way.
    Raises: UnusableStudy when the sources are not of one study or lack plane geometry; Defect when masks do not fit; what
    `compared` raises.
    """
    if len(sources) != len(selection.headers) or len({str(s.StudyInstanceUID) for s in sources}) != 1:
        raise UnusableStudy(Reason.INTERNAL_ERROR, "the sources are not the selected images of one study")
    equipment = tuple(equipment_of(bundle, style.software_version) for bundle in assessment.bundles)
    context = Context(
        source=sources[0], style=style, equipment=equipment[0], contributors=equipment,
        key=(input_digest, *(bundle.digest for bundle in assessment.bundles)), now=now,
        modality="CT" if selection.kind is Kind.CT else "CXR",
        urgent=any(f.urgency for f in assessment.present), revision=revision,
    )

    def last() -> tuple[Assessment, Comparison | None]:
        give_way()
        return (assessment, None) if compared is None else compared()

    if selection.kind is Kind.CT:
        made = _ct(context, selection, sources, assessment, previous, pictures or {}, last, give_way)
        for one in made:
            refer_to_frames(one.dataset, selection.headers)
        return made
    return _radiographs(context, selection, sources, assessment, previous, pictures or {}, last)


def build_refusal(
    source: Dataset, evidence: Sequence[Dataset], reason: Reason, detail: str, style: Style, input_digest: str,
    previous: Sequence[Dataset], now: datetime, revision: int = 1,
) -> list[Made]:
    """Build the SR that says that a study was not assessed and why, so that silence never looks like "normal".

    source: any image of the study, for patient and study; evidence: the images that were looked at (at least one);
    detail: a sentence without patient data.
    """
    modality = "CT" if source.get("Modality") == "CT" else "CXR" if source.get("Modality") in ("CR", "DX") else "study"
    context = Context(
        source=source, style=style, equipment=equipment_of(None, style.software_version),
        key=(input_digest, "refusal", str(reason)), now=now, modality=modality, urgent=False, revision=revision,
    )
    return [refusal(context, list(evidence) or [source], reason, detail, previous)]


def _ct(
    context: Context, selection: Selection, sources: Sequence[Dataset], assessment: Assessment,
    previous: Sequence[Dataset], pictures: Pictures, compared: Compared, give_way: Callable[[], None],
) -> list[Made]:
    if selection.geometry is None:
        raise UnusableStudy(Reason.INVALID_GEOMETRY, "a CT without geometry cannot be reported")
    found = drawn(assessment)
    if found is None:
        return [_report(context, sources, selection, compared, None, [], [], previous)]
    drawer, style, keys = context.by(assessment.drawer), context.style, key_slices(found)
    shown = [sources[z] for z in keys]
    made = [segmentation(drawer, sources, selection.geometry, found)]
    give_way()
    if style.secondary_capture and all(str(s.SOPInstanceUID) in pictures for s in shown):
        made.append(montage(drawer, sources, selection.geometry, assessment, found, keys, pictures))
    states = of_slices(drawer, sources, found, keys) if style.presentation_state else []
    objects = [*made, *states, *_key_objects(context, shown, made, assessment)]
    evidence = [m.dataset for m in objects if m.kind != "ko"]
    library = grid(shown, selection.geometry)
    return [*objects, _report(context, sources, selection, compared, found, evidence, library, previous)]


def _radiographs(
    context: Context, selection: Selection, sources: Sequence[Dataset], assessment: Assessment,
    previous: Sequence[Dataset], pictures: Pictures, compared: Compared,
) -> list[Made]:
    shown = [s for s in sources if s.SOPInstanceUID in assessment.saliency and s.SOPInstanceUID in pictures]
    captures = [
        capture(context.by(assessment.drawer), s, assessment, pictures[str(s.SOPInstanceUID)], number)
        for number, s in enumerate(shown, 1)
    ] if context.style.secondary_capture else []
    library = [_library_entry(s) for s in sources]
    states = of_radiographs(context, sources, assessment) if context.style.presentation_state else []
    named = {f.sop_instance_uid for f in assessment.abnormal}
    found = [s for s in sources if str(s.SOPInstanceUID) in named]
    evidence = [m.dataset for m in (*captures, *states)]
    made = [*captures, *states, *_key_objects(context, found, captures, assessment)]
    return [*made, _report(context, sources, selection, compared, None, evidence, library, previous)]


def _report(
    context: Context, sources: Sequence[Dataset], selection: Selection, compared: Compared, found: Drawn | None,
    evidence: Sequence[Dataset], library: Sequence[Dataset], previous: Sequence[Dataset],
) -> Made:
    """Return the SR, once the comparison that it tells of is known."""
    assessment, comparison = compared()
    context = replace(context, comparison=comparison)
    return report(context, sources, selection, assessment, found, evidence, library, previous)


def _key_objects(
    context: Context, images: Sequence[Dataset], made: Sequence[Made], assessment: Assessment,
) -> list[Made]:
    """Return the key object selection of a study in which something was found, where the site wants one."""
    if not (context.style.key_objects and assessment.abnormal and images):
        return []
    return [key_objects(context, images, [m.dataset for m in made if m.kind == "sc"], assessment)]


def _library_entry(source: Dataset) -> Dataset:
    """Return a stand-in of a radiograph for the image library; without modality, for spacing is often not known."""
    made = anonymous(source)
    made.Modality, made.Rows, made.Columns = "", source.Rows, source.Columns
    return made
