"""What is known of a model's probabilities: its calibration error, as its own figures give it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

NOT_MEASURED = "calibration not measured"
Notes = Callable[[str, str, str], str]
"""Gives the note of a finding: of a bundle (its name), of these weights (SHA-256), of this finding (its name)."""


def unknown(_bundle: str, _digest: str, _finding: str) -> str:
    """Stand in where no bundle is at hand."""
    return NOT_MEASURED


def notes_in(models_dir: Path) -> Notes:
    """Return what gives the notes of the bundles of a folder; each file is read once until it changes."""

    def note(bundle: str, digest: str, finding: str) -> str:
        folder = models_dir / bundle
        if not bundle or folder.parent != models_dir:
            return NOT_MEASURED
        try:
            stamp = (folder / "figures.json").stat().st_mtime_ns, (folder / "manifest.toml").stat().st_mtime_ns
        except OSError:
            return NOT_MEASURED
        measured, found = _figures(folder, stamp)
        if measured != digest:
            return "calibration measured for other weights only"
        return found.get(finding) or found.get("") or NOT_MEASURED

    return note


@lru_cache(maxsize=64)
def _figures(folder: Path, _stamp: tuple[int, int]) -> tuple[str, dict[str, str]]:
    """Return the weights that the figures are of, and the notes by finding, "" for all of the bundle's."""
    try:
        digest = str(tomllib.loads((folder / "manifest.toml").read_text(encoding="utf-8"))["sha256"])
        stored = json.loads((folder / "figures.json").read_text(encoding="utf-8"))
        made = {str(f.get("of") or ""): _said(f) for f in _measured(stored.get("cross_validation", stored))}
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return "", {}
    return digest, made


def _measured(stored: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for figure in stored.get("figures", ()):
        if figure.get("name") == "calibration error" and figure.get("subset") == "all" and figure.get("value") is not None:
            yield figure


def _said(figure: dict[str, Any]) -> str:
    value, low, high = (figure.get(name) for name in ("value", "low", "high"))
    what = {"radiographs": "radiographs", "ct_slices": "CT slices"}.get(str(figure.get("part")), "cases")
    range_ = f"{low:.2f} to {high:.2f}, " if low is not None and high is not None else ""
    between = f" ({range_}{figure.get('n')} {what})"
    return f"calibration error {value:.2f}{between}"
