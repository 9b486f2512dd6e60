"""The page of the metrics, deploy/docs/metrics.md, made from the metrics themselves so that it cannot rot."""

from __future__ import annotations

from service import DISCLAIMER
from service.metrics import LABELS, Family, Metrics

_HEAD = f"""# Metrics

{DISCLAIMER} Made by `firstlook metrics`; a test compares.

Every process has its own `/metrics`: `firstlook serve` and `firstlook web` on the port of the page, `firstlook listen` and
`firstlook work` where `monitor.port` is set. Nothing is shared between processes; Prometheus scrapes each one. Then:

- counters and histograms are **added** (`sum(rate(...))`): each process counts what it did itself;
- gauges that are read from the database or the disk (marked *same in all* below) are the same in every process: of them
  take the **largest** (`max by (...)`), never the sum.

No metric holds a UID, a name, a date or free text. `process_*` (memory, CPU, open files, start time) come from the client
library; histograms also have `_bucket`, `_sum` and `_count`.
"""
SHARED = frozenset({
    "firstlook_queue_depth", "firstlook_queue_oldest_seconds", "firstlook_jobs_parked", "firstlook_studies_open",
    "firstlook_studies_overdue", "firstlook_last_received_timestamp_seconds", "firstlook_notification_target_seconds",
    "firstlook_deliveries_unproven", "firstlook_disk_free_bytes", "firstlook_disk_size_bytes",
})
"""What each process reads from the same place."""


def metrics_page() -> str:
    """Return the text of deploy/docs/metrics.md."""
    families = Metrics().families()
    lines = [_HEAD, "| metric | type | labels | what it says |", "|---|---|---|---|", *(_row(f) for f in families)]
    used = sorted({label for f in families for label in f.labels})
    lines += ["", "| label | bounded by |", "|---|---|", *(f"| `{name}` | {LABELS[name]} |" for name in used)]
    return "\n".join(lines) + "\n"


def _row(family: Family) -> str:
    labels = ", ".join(f"`{name}`" for name in family.labels)
    shared = " *Same in all.*" if family.name in SHARED else ""
    return f"| `{family.name}` | {family.type} | {labels} | {family.documentation}{shared} |"
