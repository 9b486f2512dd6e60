"""What one association has brought: told to the ledger and to the metrics, image by image."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from service.metrics import Metrics
from service.receive.ledger import Ledger


@dataclass(frozen=True)
class Kept:
    """What became of an object. label: the outcome in metrics and trace; size_bytes: newly stored, else 0."""

    study_instance_uid: str
    modality: str
    label: str
    size_bytes: int = 0


@dataclass(frozen=True)
class Tally:
    """The tally of one association. Its methods may be called from any thread, also after its end."""

    association: Hashable
    ledger: Ledger
    metrics: Metrics

    def touch(self, study_instance_uid: str) -> None:
        """Note that an image of a study is safe, before the study's row changes."""
        self.ledger.touch(self.association, study_instance_uid)

    def has_brought(self, study_instance_uid: str) -> bool:
        """Tell whether an image of a study was written down on this association already."""
        return self.ledger.has_brought(self.association, study_instance_uid)

    def enter(self, kept: Kept) -> None:
        """Count one object that was written down, or accepted and not kept."""
        self.metrics.instances.labels(kept.modality, kept.label).inc()
        if kept.size_bytes:
            self.metrics.received_bytes.inc(kept.size_bytes)
        self.ledger.count(self.association, kept.study_instance_uid, kept.label)
