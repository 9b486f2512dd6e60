"""`firstlook models drift`: how far images and scores have moved from what each bundle was measured on."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Table

from service import DISCLAIMER
from service.infer.catalogue import Catalogue
from service.pipeline.drifting import Drifted, drift, reference_of
from service.settings import load
from service.store.database import Database

_FAR, _MOVED = 0.25, 0.1


def add_drift(commands: Any, with_settings: Callable[[argparse.ArgumentParser], argparse.ArgumentParser]) -> None:
    """Add the command."""
    told = "how far images and scores of each scanner and site are from the reference of the bundle"
    command = with_settings(commands.add_parser("drift", help=told, description=told))
    command.add_argument("--days", type=int, default=0, metavar="N", help="the last N days; else drift.days")
    command.add_argument("--least", type=int, default=0, metavar="N", help="leave out fewer images; else drift.least_images")
    command.add_argument("--json", action="store_true", help="as JSON")
    command.set_defaults(run=_drift)


def _drift(asked: argparse.Namespace) -> int:
    settings = load(asked.settings)
    catalogue = Catalogue.load(settings.infer.models_dir)
    database = Database(settings.database_url)
    try:
        found = drift(database, catalogue, time.time(), asked.days or settings.drift.days or 28,
                      asked.least or settings.drift.least_images)
    finally:
        database.close()
    without = [name for name in settings.infer.bundles if reference_of(catalogue, name) is None]
    if asked.json:
        print(json.dumps({"drift": [_plain(one) for one in found], "without_reference": without}, indent=2))  # noqa: T201
        return 0
    _show(found)
    for name in without:
        print(f"{name} has no reference of its own weights: firstlook models reference {name} --data DIR")  # noqa: T201
    return 0


def _show(found: list[Drifted]) -> None:
    table = Table("bundle", "scanner", "site", "images", "measure", "index", "", caption=DISCLAIMER)
    for one in found:
        said = "far" if one.index > _FAR else "moved" if one.index > _MOVED else ""
        table.add_row(one.bundle, one.source.scanner, one.source.site, str(one.images), one.measure, f"{one.index:.3f}",
                      said)
    if found:
        Console().print(table)
    else:
        print("no scanner and site has enough images yet (drift.least_images)")  # noqa: T201


def _plain(one: Drifted) -> dict[str, Any]:
    return {"bundle": one.bundle, "scanner": one.source.scanner, "site": one.source.site, "images": one.images,
            "measure": one.measure, "stability_index": one.index}
