"""Which images of the training data a bundle was not trained on, by the bundle's own `held_out.json`.

`{"images": [...], "cases": [...], "lung_slices": [...]}`: radiographs as in the column `file` of labels.csv, slices of
ct_slices by their path, cases of ct_lesions, and slices of ct_lungs. The export writes it.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import models
from models.evaluation.problems import Problems
from models.evaluation.slices import LESIONS, LUNGS, PAPERS
from service.domain.manifest import Manifest

FILE = "held_out.json"


class Named(Protocol):
    """What can be held out."""

    @property
    def part(self) -> str: ...
    @property
    def name(self) -> str: ...


Item = TypeVar("Item", bound=Named)


class CannotTell(ValueError):
    """The held-out part cannot be told; the text says why."""


@dataclass(frozen=True)
class HeldOut:
    """The names of what a bundle was not trained on. A kind that is None was not among its training data at all."""

    images: frozenset[str] | None
    cases: frozenset[str] | None
    lung_slices: frozenset[str] | None

    def of_part(self, part: str) -> frozenset[str] | None:
        """Return the names that count in a part of the data; None: everything there is unseen."""
        if part == PAPERS:
            papers = {n for n in self.images or () if n.startswith((PAPERS, "covid/", "noncovid/"))}
            return frozenset(n.removeprefix(f"{PAPERS}/") for n in papers) or None
        return {LESIONS: self.cases, LUNGS: self.lung_slices}.get(part, self.images)


def held_out_of(manifest: Manifest) -> HeldOut:
    """Read `held_out.json` of a bundle. Raises: CannotTell when there is none, or it is not such a table."""
    path = manifest.folder / FILE
    if not path.is_file():
        raise CannotTell(f"{manifest.name} has no {FILE}, so what it was not trained on is unknown")
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        found = {key: None if table.get(key) is None else frozenset(map(str, table[key]))
                 for key in ("images", "cases", "lung_slices")}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise CannotTell(f"{path} is not readable as a table of names") from error
    if not any(found.values()):
        raise CannotTell(f"{path} names nothing: the bundle was trained on all of its data; its card has the figures of "
                         "cross-validation")
    return HeldOut(**found)


def kept(items: Sequence[Item], held: HeldOut, problems: Problems) -> list[Item]:
    """Return the items that were held out, and note how many names are not in this data.

    Raises: CannotTell when none of the named is here: it is not the data that the bundle was trained on.
    """
    found: list[Item] = []
    named, seen = 0, 0
    for part in dict.fromkeys(i.part for i in items):
        names = held.of_part(part)
        here = [i for i in items if i.part == part]
        if names is None:
            found += here
            continue
        chosen = [i for i in here if _key(i) in names]
        named, seen = named + len(names), seen + len({_key(i) for i in chosen})
        found += chosen
    if named and not seen:
        raise CannotTell("nothing that was held out is in this data: it is not what the bundle was trained on, so all of it "
                         "is unseen; measure without --held-out")
    if seen < named:
        problems.skip(FILE, f"held out but not in this data: {named - seen} of {named} names")
    return found


def names_of(items: Iterable[Named]) -> dict[str, list[str]]:
    """Return the table of `held_out.json` for what was held out, sorted."""
    table: dict[str, set[str]] = {}
    for item in items:
        kind = {LESIONS: "cases", LUNGS: "lung_slices"}.get(item.part, "images")
        table.setdefault(kind, set()).add(item.name if item.part == PAPERS else _key(item))
    return {kind: sorted(names) for kind, names in sorted(table.items())}


def recipe_of(manifest: Manifest) -> dict[str, Any]:
    """Read `models/training/recipes/<bundle>.toml`. Raises: CannotTell when it is not there."""
    path = Path(next(iter(models.__path__))) / "training" / "recipes" / f"{manifest.name}.toml"
    if not path.is_file():
        raise CannotTell(f"{manifest.name} has no recipe under models/training/recipes")
    return tomllib.loads(path.read_text(encoding="utf-8"))


def figures_of(manifest: Manifest) -> dict[str, Any]:
    """Read the bundle's figures.json. Raises: CannotTell when it is not there."""
    path = manifest.folder / "figures.json"
    if not path.is_file():
        raise CannotTell(f"{manifest.name} has no figures.json")
    try:
        figures: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CannotTell(f"{path} is not readable JSON") from error
    return figures


def _key(item: Named) -> str:
    """The name by which an item is listed: a case, a file of ct_lungs or ct_slices without the part, or `file`."""
    if item.part == LESIONS:
        return item.name.split("/")[1]
    return item.name.removeprefix(f"{item.part}/")
