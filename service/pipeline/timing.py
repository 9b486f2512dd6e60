"""How long each stage takes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from service.metrics import Metrics
from service.traces import step


@contextmanager
def timed(metrics: Metrics, stage: str, kind: str) -> Iterator[None]:
    """Measure a stage of the work (decode, infer, report, deliver) for the metrics and the trace."""
    began = time.perf_counter()
    try:
        with step(stage):
            yield
    finally:
        metrics.stage_seconds.labels(stage, kind).observe(time.perf_counter() - began)
