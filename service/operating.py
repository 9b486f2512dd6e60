"""A department as this service would serve it: the bundles in use at their thresholds, its quiet times and its order."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.domain.manifest import InvalidManifest, Manifest
from service.domain.study import Kind
from service.infer.catalogue import Catalogue
from service.settings import Settings
from service.simulate.arrivals import NO_FLAG
from service.simulate.department import Department, Detector
from service.simulate.replay import Past
from service.store.history import Passage

MOST_STUDIES = 500_000
"""The newest studies of a history that are replayed."""


def as_served(department: Department, settings: Settings, catalogue: Catalogue) -> tuple[Department, tuple[str, ...]]:
    """Return the department with what the settings and the bundles say, and a note for each gap.

    Sensitivity and specificity are those of figures.json, measured on whole studies; where a bundle has none, those that
    the department's file assumes for a finding of this name. Raises: InvalidManifest, UnusableStudy (no such bundle).
    """
    notes: list[str] = []
    found = {}
    for kind, names in ((Kind.CXR, settings.infer.cxr_bundles), (Kind.CT, settings.infer.ct_bundles)):
        assumed = next((m.detectors for m in department.modalities if m.name == kind.value), ())
        found[kind.value] = _of_kind([catalogue.get(name) for name in names], assumed, notes)
    triage, assemble = settings.triage, settings.assemble
    if not triage.longest_reading_wait_s and department.longest_wait_s:
        notes.append(f"the service's own list has no cap now: it is in \"our order, no cap\"; with "
                     f"triage.longest_reading_wait_s = {department.longest_wait_s:.0f} it is in \"our order\"")
    chosen = triage.longest_reading_wait_s and "longest_reading_wait_s" in triage.model_fields_set
    quiet_s = {Kind.CXR.value: assemble.early_cxr_s if assemble.start_early else assemble.quiet_cxr_s,
               Kind.CT.value: assemble.early_ct_s if assemble.start_early else assemble.quiet_ct_s}
    served = replace(
        department.with_detectors(found),
        longest_wait_s=triage.longest_reading_wait_s if chosen else department.longest_wait_s,
        targets_s=(triage.stat_s, triage.urgent_s, triage.routine_s, triage.low_s))
    return replace(served, modalities=tuple(
        replace(m, quiet_s=quiet_s.get(m.name, m.quiet_s)) for m in served.modalities)), tuple(notes)


def past_of(seen: Sequence[Passage]) -> Past:
    """Return studies of the database as the simulation wants them; hours are those of this machine's time zone."""
    def times(name: str) -> NDArray[np.float64]:
        return np.array([math.nan if (at := getattr(p, name)) is None else at for p in seen], np.float64)

    flags = [p.reading_urgency.rank if p.flagged else NO_FLAG for p in seen]
    first = datetime.fromtimestamp(seen[0].first_received_at if seen else 0.0, UTC).astimezone()
    monday = (first - timedelta(days=first.weekday())).replace(hour=0, minute=0, second=0, microsecond=0)
    return Past(
        times("first_received_at"), times("last_received_at"), times("queued_at"), times("started_at"), times("assessed_at"),
        tuple(p.kind or p.modality.split("/")[0].lower() or "other" for p in seen),
        np.array([p.urgency.rank for p in seen], np.int8), np.array(flags, np.int8), monday.timestamp())


def publish(settings: Settings, result: dict[str, Any]) -> None:
    """Put a result where the page /effect finds it; replaces the one before at once."""
    path = expectation_file(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(result), encoding="utf-8")
    part.replace(path)


def expectation_file(settings: Settings) -> Path:
    """Return the file of the published simulation."""
    return settings.store.data_dir.resolve() / "expectation.json"


def _of_kind(manifests: Iterable[Manifest], assumed: tuple[Detector, ...], notes: list[str]) -> tuple[Detector, ...]:
    """Return a detector for each output that asks for an urgency, and for each assumed finding that no bundle has."""
    by_name = {d.finding: d for d in assumed}
    found: list[Detector] = []
    for manifest in manifests:
        figures = _figures(manifest)
        for output in manifest.outputs:
            if output.urgency is None or output.code is None:
                continue
            measured = figures.get(output.name)
            if measured is not None:
                found.append(Detector(manifest.name, output.name, *measured[:2], output.urgency, measured[2]))
            elif output.name in by_name:
                found.append(replace(by_name[output.name], bundle=manifest.name, urgency=output.urgency))
            else:
                notes.append(f"{manifest.name}: no figures of studies for {output.name}, and none assumed "
                             f"([modality.{manifest.kind.value}.assumed.{output.name}]); it is left out")
    told = {d.finding for d in found}
    return (*found, *(d for d in assumed if d.finding not in told))


def _figures(manifest: Manifest) -> dict[str, tuple[float, float, str]]:
    """Return sensitivity, specificity and where they are from, by output; only figures of whole studies."""
    path = manifest.folder / "figures.json"
    if not path.is_file():
        return {}
    try:
        rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cross_validation"]["figures"]
        told = {(r["name"], r["of"]): (float(r["value"]), int(r["n"])) for r in rows
                if r["subset"] == "all" and r["name"] in ("sensitivity", "specificity") and "slice" not in r["part"]}
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidManifest(f"{path}: not the figures that firstlook models export writes ({error!r})") from error
    return {
        of: (value, told["specificity", of][0],
             f"measured out of fold on {n} with it and {told['specificity', of][1]} without")
        for (name, of), (value, n) in told.items() if name == "sensitivity" and ("specificity", of) in told}
