"""Which images of the training data a bundle was not trained on, where that can be told for certain.

A recipe names the fold and the seed, and the bundle's figures.json says what was held out. Both must agree with the data
at hand, else the split would be another one and is refused.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import models
from models.evaluation.slices import LESIONS, LUNGS, CtSlice
from service.domain.manifest import Manifest

CT_FOLDS = 4


class CannotTell(ValueError):
    """The held-out part cannot be derived; the text says why."""


def recipe_of(manifest: Manifest) -> dict[str, Any]:
    """Read `models/training/recipes/<bundle>.toml`. Raises: CannotTell when it is not there."""
    path = Path(next(iter(models.__path__))) / "training" / "recipes" / f"{manifest.name}.toml"
    if not path.is_file():
        raise CannotTell(f"{manifest.name} has no recipe under models/training/recipes, so its training images are unknown")
    recipe = tomllib.loads(path.read_text(encoding="utf-8"))
    if "fold" not in recipe.get("split", {}):
        raise CannotTell(f"{path.name} names no [split] fold")
    return recipe


def figures_of(manifest: Manifest) -> dict[str, Any]:
    """Read the bundle's figures.json. Raises: CannotTell when it is not there."""
    path = manifest.folder / "figures.json"
    if not path.is_file():
        raise CannotTell(f"{manifest.name} has no figures.json that names what was held out")
    try:
        figures: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CannotTell(f"{path} is not readable JSON") from error
    return figures


def held_out_slices(slices: Sequence[CtSlice], figures: dict[str, Any], fold: int) -> list[CtSlice]:
    """Return the cases that figures.json names and every fourth lung slice from `fold` on; papers were never trained on.

    Raises: CannotTell when a case is missing or the number of lung slices differs from that of figures.json.
    """
    cases = set(figures.get("cases", {}))
    lesions = [s for s in slices if s.part == LESIONS and s.group in cases]
    lungs = [s for place, s in enumerate(s for s in slices if s.part == LUNGS) if place % CT_FOLDS == fold]
    if missing := sorted(cases - {s.group for s in lesions}):
        raise CannotTell(f"the held-out case {missing[0]} is not in this data; it is not what the bundle was trained on")
    count = figures.get("held_out_lung_slices", {}).get("slices", 0)
    if not cases or len(lungs) != count:
        raise CannotTell(f"{count} lung slices were held out, this data gives {len(lungs)}; it is not the training data")
    return [*lesions, *lungs, *(s for s in slices if s.part not in (LESIONS, LUNGS))]


def held_out_files(rows: Sequence[dict[str, str]], recipe: dict[str, Any], figures: dict[str, Any]) -> set[str]:
    """Return the files of the test patients: the same draw as in training, from the same table.

    Raises: CannotTell without torch, which the training code needs, or when the number of images differs.
    """
    try:
        from models.training.cxr_data import BINS, bins_of, label_of
    except ImportError as error:
        raise CannotTell("the split of the radiographs is drawn by models/training, which needs "
                         f"requirements/train.lock ({error.name} is missing)") from error
    fold, split = recipe["split"]["fold"], recipe["split"]
    try:
        used = [row for row in rows if not any(part in row["orig"] for part in split["excluded"])]
        bins = bins_of(used, split["seed"])
        test = [row for row, place in zip(used, bins, strict=True) if place in {2 * fold % BINS, (2 * fold + 1) % BINS}]
        count = sum(label_of(row) >= 0 for row in test)
    except KeyError as error:
        raise CannotTell(f"labels.csv has no column {error}; it is not the training data") from error
    if count != figures.get("images"):
        raise CannotTell(f"figures.json is of {figures.get('images')} held-out images, this data gives {count}; it is not "
                         "the training data, or the bundle is of another fold")
    return {row["file"] for row in test}
