"""What the networks were given and said, counted by scanner and site, and how far it is from the bundle's reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.exc import IntegrityError

from service import logs
from service.domain.drift import InvalidReference, Reference, read_reference, stability_index
from service.domain.study import Header
from service.infer.catalogue import Catalogue
from service.infer.watched import Seen
from service.metrics import Metrics
from service.pipeline.line import Line
from service.store.database import Database
from service.store.drift import DAY_S, Source, counted, forget, named, note

_log = logs.get("drift")
_TRIES = 3


@dataclass(frozen=True)
class Drifted:
    """How far one measure of a bundle is from the reference for one scanner and site; images: of the days looked at."""

    bundle: str
    source: Source
    measure: str
    images: int
    index: float


def count(line: Line, headers: Sequence[Header], sender: str, seen: Seen) -> None:
    """Count what was measured in a look at these images. A bundle without a reference of its own weights is left out."""
    source = source_of(headers[0], sender)
    for bundle, values in seen.values().items():
        reference = reference_of(line.catalogue, bundle)
        if reference is not None:
            _count(line, bundle, reference, source, values)


def source_of(header: Header, sender: str) -> Source:
    """Return where an image comes from. sender: calling AE title, for images that name no institution."""
    return Source(named(header.manufacturer, header.manufacturer_model_name), named(header.institution_name or sender))


def reference_of(catalogue: Catalogue, bundle: str) -> Reference | None:
    """Return the reference of a bundle, None where it has none that can be used: that is logged, and no study waits."""
    manifest = catalogue.get(bundle)
    try:
        reference = read_reference(manifest.folder)
    except InvalidReference as error:
        _log.error("a reference cannot be used", extra={"bundle": bundle, "error": str(error)})
        return None
    return reference if reference is not None and reference.digest == manifest.sha256 else None


def _count(line: Line, bundle: str, reference: Reference, source: Source,
           values: Mapping[str, NDArray[np.float64]]) -> None:
    counts = {name: np.bincount(np.searchsorted(reference.bins[name].edges, found, side="right"),
                                minlength=len(reference.bins[name].counts)).tolist()
              for name, found in values.items() if name in reference.bins}
    images = max(len(found) for found in values.values())
    for _ in range(_TRIES):
        try:
            with line.database.transaction() as session:
                note(session, bundle, reference.digest, source, line.clock(), counts, images)
            return
        except IntegrityError:
            continue  # another process made the row of today


def drift(database: Database, catalogue: Catalogue, now: float, days: int, least_images: int) -> list[Drifted]:
    """Compare the last days with the references; sources with fewer images are left out.

    Bundles whose reference is of other weights, and counts of such weights, are left out.
    """
    with database.reading() as session:
        found = counted(session, now - (days - 1) * DAY_S)
    drifted = []
    for (bundle, digest, source), (images, counts) in sorted(found.items(), key=lambda item: str(item[0])):
        reference = reference_of(catalogue, bundle) if bundle in catalogue else None
        if reference is None or reference.digest != digest or images < least_images:
            continue
        drifted += [Drifted(bundle, source, name, images, stability_index(reference.bins[name].counts, there))
                    for name, there in sorted(counts.items())
                    if name in reference.bins and len(there) == len(reference.bins[name].counts)]
    return drifted


def show_drift(database: Database, catalogue: Catalogue, metrics: Metrics, now: float, days: int, least_images: int) -> None:
    """Set the gauges of drift afresh, and delete counts that are not looked at any more."""
    with database.transaction() as session:
        forget(session, now - 2 * days * DAY_S)
    found = drift(database, catalogue, now, days, least_images)
    metrics.drift_index.clear()
    metrics.drift_images.clear()
    for one in found:
        place = one.bundle, one.source.scanner, one.source.site
        metrics.drift_index.labels(*place, one.measure).set(one.index)
        metrics.drift_images.labels(*place).set(one.images)
