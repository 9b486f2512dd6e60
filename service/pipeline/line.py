"""What the line needs: handed in by `service.app`, the only place that makes these objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from service.assemble.geometry import GeometryRules
from service.deliver.target import Target
from service.domain.manifest import Manifest
from service.domain.study import Header, Kind
from service.domain.urgency import Urgency
from service.errors import Reason, UnusableStudy
from service.infer.catalogue import Catalogue
from service.infer.engine import Engine
from service.metrics import Metrics
from service.prepare.pixels import decode
from service.report.build import Style
from service.store.database import Database
from service.store.studies import StoredImage
from service.triage.queue import Queue


@dataclass(frozen=True)
class Line:
    """The parts that `admit` and `run` work with.

    bundles: the active bundle of each kind; target_s: turnaround of an urgency, seconds; clock: Unix time, seconds.
    """

    database: Database
    queue: Queue
    metrics: Metrics
    clock: Callable[[], float]
    spool_dir: Path
    results_dir: Path
    catalogue: Catalogue
    engine: Engine
    bundles: Mapping[Kind, str]
    geometry: GeometryRules
    emergency_ae_titles: tuple[str, ...]
    target_s: Callable[[Urgency], float]
    style: Style
    report_refusals: bool
    targets: Mapping[str, Target]

    def bundle_for(self, kind: Kind) -> Manifest:
        """Return the active bundle for a kind of study. Raises: UnusableStudy (no_model)."""
        name = self.bundles.get(kind, "")
        if not name:
            raise UnusableStudy(Reason.NO_MODEL, f"no bundle is set for {kind}")
        return self.catalogue.get(name)

    def same_pixels(self, images: list[StoredImage]) -> Callable[[Header, Header], bool]:
        """Return a function that tells whether two of these images hold the same pixels."""
        paths = {i.header.sop_instance_uid: self.spool_dir / i.path for i in images}

        def same(one: Header, other: Header) -> bool:
            return np.array_equal(decode(paths[one.sop_instance_uid]), decode(paths[other.sop_instance_uid]))

        return same
