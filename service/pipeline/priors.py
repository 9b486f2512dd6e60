"""The earlier study of the same patient that a result is compared with."""

from __future__ import annotations

from service.domain.finding import Assessment
from service.domain.prior import Comparison, compare
from service.pipeline.line import Line
from service.store.priors import others_of_this_id, prior_of
from service.store.studies import add_event
from service.store.tables import Study


def compared_with_prior(line: Line, study: Study, assessment: Assessment) -> Comparison | None:
    """Compare a result with the latest earlier one of this patient and kind of study; None when there is none.

    Patient ID, its issuer and the birth date must agree; that the ID alone does is written into the trace: no comparison.
    """
    with line.database.reading() as session:
        prior = prior_of(session, study)
        doubtful = 0 if prior is not None else others_of_this_id(session, study)
    if prior is None:
        if doubtful:
            with line.database.transaction() as session:
                add_event(session, study.id or 0, line.clock(), "no_comparison",
                          f"{doubtful} earlier studies carry this Patient ID, but another issuer or birth date")
        return None
    return compare(prior.summary, assessment.summary(), prior.study_instance_uid, prior.study_date)
