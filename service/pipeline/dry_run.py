"""Rules of urgency on past studies: what another table would have made of them. Nothing is changed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from service.pipeline.facts import facts_of
from service.store.database import Database
from service.store.past import MOST_STUDIES, past_studies
from service.store.tables import Study
from service.triage.rules import Rule
from service.triage.trial import Move, Trial, try_rules


@dataclass(frozen=True)
class DryRun:
    """A trial and the studies that it moves, most urgent first. cut: there were more studies than are tried."""

    trial: Trial
    moved: Sequence[tuple[Study, Move]]
    cut: bool


def dry_run(database: Database, text: str, rules: Sequence[Rule], ae_titles: Sequence[str], since: float) -> DryRun:
    """Try a file of rules on the studies that came since a moment (Unix time, seconds).

    text: the file; rules, ae_titles: in use, see `try_rules`. Of each series the first image is looked at.
    Raises: InvalidRules.
    """
    asks = any("prior" in rule.patterns for rule in rules) or "prior" in text
    with database.reading() as session:
        past = past_studies(session, since, with_priors=asks)
    facts = [facts_of(one.headers, one.study.calling_aet, time.localtime(one.study.first_received_at).tm_hour, one.prior)
             for one in past]
    trial = try_rules(text, rules, ae_titles, facts)
    moved = sorted(((past[move.at].study, move) for move in trial.moves), key=lambda one: one[1].after.rank)
    return DryRun(trial, moved, len(past) == MOST_STUDIES)
