"""From the settings to what we ask others for: images to keep, and work to do."""

from __future__ import annotations

from collections.abc import Callable

from service.domain.patient import PriorRules
from service.inlets import policy_of
from service.metrics import Metrics
from service.outlets import managers
from service.pipeline.line import Line
from service.pipeline.workitems import ItemRules, Watcher
from service.receive.fetched import Fetched
from service.receive.listener import Listener
from service.receive.spool import Spool
from service.settings import Settings
from service.store.database import Database
from service.store.intake import Intake
from service.store.workitems import ask_to_cancel
from service.tls.renewal import Renewed
from service.worker import every


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


def watchers(settings: Settings, line: Line, use: Callable[[Renewed], None]) -> dict[str, Callable[[], bool]]:
    """Return the step of a loop for each manager of work items, by name. use: told of its certificates."""
    found = managers(settings, use)
    return {m.name: every(min(1.0, m.poll_s), Watcher(line, found[m.name], ItemRules(
        m.codes, m.poll_s, m.most, m.wait_h * 3600, m.subscribe, m.archive)).step) for m in settings.workitems.managers}


def cancel_of(settings: Settings, database: Database, clock: Callable[[], float]) -> Callable[[str, str], bool] | None:
    """Return what notes that a work item is to be canceled; None where no manager is set."""
    titles = {m.name: m.ae_title for m in settings.workitems.managers}
    if not titles:
        return None

    def cancel(uid: str, calling: str) -> bool:
        with database.transaction() as session:
            return ask_to_cancel(session, uid, titles, calling, clock())

    return cancel
