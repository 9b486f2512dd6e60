"""From the settings to the queue and the rules of urgency."""

from __future__ import annotations

from collections.abc import Callable

from service.domain.job import RetryPolicy
from service.settings import Settings
from service.store.database import Database
from service.store.process import this_process
from service.triage.queue import Queue
from service.triage.rules import RULES, Rule, table_of
from service.triage.rules_file import load_rules


def queue_of(settings: Settings, database: Database, clock: Callable[[], float]) -> Queue:
    """Return the queue as these settings want it."""
    work = settings.work
    retry = RetryPolicy(work.tries, work.first_wait_s, work.wait_factor, work.longest_wait_s, work.deliver_for_h * 3600)
    return Queue(database, clock, retry, work.lease_s, this_process(), work.longest_job_s)


def rules_of(settings: Settings) -> tuple[Rule, ...]:
    """Return the rules of urgency that these settings want.  Raises: InvalidRules."""
    triage = settings.triage
    return table_of(triage.emergency_ae_titles, load_rules(triage.rules) if triage.rules else RULES)
