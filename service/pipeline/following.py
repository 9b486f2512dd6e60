"""The lesions of a CT, and how they went on since the patient's last one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from service import logs
from service.domain import codes
from service.domain.codes import Code
from service.domain.finding import Assessment
from service.domain.lesion import Following, Lesion
from service.domain.study import Selection
from service.follow.grid import Grid
from service.follow.kept import Marked, Unreadable, read_segmentation
from service.follow.lesions import Shown, alone, followed
from service.pipeline.line import Line
from service.report.identity import derived_uid
from service.store.priors import segmentation_of
from service.store.tables import Study

_NOT_KEPT = "the masks of the earlier study are not here"
_log = logs.get("following")


def shown_in(study: Study, selection: Selection, assessment: Assessment) -> Shown | None:
    """Return what an assessment marked, for its lesions to be found; None where it drew nothing."""
    masks, geometry = assessment.masks, selection.geometry
    if masks is None or geometry is None:
        return None
    origins = np.array([h.image_position_patient for h in selection.headers], np.float64)
    along = np.array(geometry.orientation, np.float64)
    shape = masks.shape[0], masks.shape[1], masks.shape[2]
    marked = Marked(Grid(origins, along[:3], along[3:], geometry.spacing_mm, shape), masks,
                    _bits(assessment, codes.ANATOMICAL_STRUCTURE, codes.RIGHT),
                    _bits(assessment, codes.ANATOMICAL_STRUCTURE, codes.LEFT),
                    _bits(assessment, codes.MORPHOLOGICALLY_ABNORMAL))

    def new_uid(lesion: Lesion) -> str:
        return derived_uid(study.study_instance_uid, study.input_digest, assessment.drawer.digest, "lesion",
                           repr(lesion.seeds_mm[0]))

    return Shown(marked, [h.sop_instance_uid for h in selection.headers], new_uid)


def with_lesions(assessment: Assessment, shown: Shown | None) -> Assessment:
    """Return an assessment with its lesions, each piece one."""
    return assessment if shown is None else replace(assessment, lesions=alone(shown))


def with_followed(line: Line, assessment: Assessment, shown: Shown, prior: Study) -> tuple[Assessment, Following]:
    """Return an assessment with its lesions as they go on from an earlier study, and what became of each."""
    with line.database.reading() as session:
        kept = segmentation_of(session, prior)
    if kept is None:
        return with_lesions(assessment, shown), Following(why_not=_NOT_KEPT)
    known = [Lesion.from_json(stored) for stored in prior.summary.get("lesions", ())]
    try:
        then = read_segmentation(line.results_dir / kept.path)
    except (OSError, Unreadable) as error:
        _log.warning("masks of an earlier study cannot be read",
                     extra={"study": prior.study_instance_uid, "error": type(error).__name__})
        return with_lesions(assessment, shown), Following(why_not=_NOT_KEPT)
    lesions, following = followed(shown, then, known)
    return replace(assessment, lesions=lesions), following


def _bits(assessment: Assessment, category: Code, side: Code | None = None) -> int:
    """Return the bits that the segments of a category and side are in the masks."""
    return sum(1 << (s.number - 1) for s in assessment.segments
               if s.category == category and (side is None or s.laterality == side))
