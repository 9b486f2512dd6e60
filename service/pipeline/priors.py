"""The earlier study of the same patient that a result is compared with."""

from __future__ import annotations

from dataclasses import replace

from service.domain.finding import Assessment
from service.domain.prior import Comparison, Earlier, compare, involved
from service.domain.study import Selection
from service.pipeline.following import shown_in, with_followed, with_lesions
from service.pipeline.line import Line
from service.pipeline.timing import timed
from service.store.priors import earlier_of, others_of_this_id, prior_of
from service.store.studies import add_event
from service.store.tables import Study


def compared_with_prior(
    line: Line, study: Study, selection: Selection, assessment: Assessment,
) -> tuple[Assessment, Comparison | None]:
    """Find the lesions of a result, and compare it with the latest earlier one of this patient and kind of study.

    Patient ID, its issuer and the birth date must agree; that the ID alone does is written into the trace: no comparison.
    Returns the assessment with its lesions, which keep the Tracking UIDs that they had, and the comparison; None when there
    is none.
    """
    shown = shown_in(study, selection, assessment)
    with line.database.reading() as session:
        prior = prior_of(session, study)
        doubtful = 0 if prior is not None else others_of_this_id(session, study)
    if prior is None:
        if doubtful:
            with line.database.transaction() as session:
                add_event(session, study.id or 0, line.clock(), "no_comparison",
                          f"{doubtful} earlier studies carry this Patient ID, but another issuer or birth date")
        return with_lesions(assessment, shown), None
    comparison = compare(prior.summary, assessment.summary(), prior.study_instance_uid, prior.study_date)
    if comparison is None:
        return with_lesions(assessment, shown), None
    following = None
    if shown is not None:
        with timed(line.metrics, "follow", selection.kind.value):
            assessment, following = with_followed(line, assessment, shown, prior)
    return assessment, replace(comparison, following=following, course=_course(line, study))


def _course(line: Line, study: Study) -> tuple[Earlier, ...]:
    """Return the extent in each earlier study of the patient, oldest first."""
    with line.database.reading() as session:
        earlier = earlier_of(session, study)
    measured = [(e, involved(e.summary)) for e in reversed(earlier)]
    return tuple(Earlier(e.study_instance_uid, e.study_date, *extent) for e, extent in measured if extent is not None)
