"""From the settings to what keeps images that we ask for ourselves."""

from __future__ import annotations

from collections.abc import Callable

from service.domain.patient import PriorRules
from service.inlets import policy_of
from service.metrics import Metrics
from service.receive.fetched import Fetched
from service.receive.listener import Listener
from service.receive.spool import Spool
from service.settings import Settings
from service.store.database import Database
from service.store.intake import Intake


def prior_rules_of(settings: Settings) -> PriorRules:
    """Return which earlier studies these settings want."""
    priors = settings.priors
    return PriorRules(priors.most_studies, priors.max_age_days, priors.deliver)


def fetched_of(settings: Settings, spool: Spool, database: Database, clock: Callable[[], float],
               metrics: Metrics) -> Fetched:
    """Return what keeps objects that come by C-GET."""
    intake = Intake(database, clock)
    return Fetched(policy_of(settings.receive), spool, intake, metrics, intake.is_ours)


def open_studies(listener: Listener | None, fetched: Fetched | None) -> frozenset[str]:
    """Return the Study Instance UIDs of which images are coming in: by the listener, or because we asked for them."""
    sent: frozenset[str] = listener.open_studies() if listener is not None else frozenset()
    return sent | (fetched.open_studies() if fetched is not None else frozenset())
