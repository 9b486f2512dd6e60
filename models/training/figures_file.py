"""The figures of a bundle, kept in its figures.json, from which the card is written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE = "figures.json"


def write_figures(folder: Path, figures: Mapping[str, Any]) -> None:
    """Write all figures of the bundle in a folder."""
    (folder / FILE).write_text(json.dumps(figures, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def add_figures(folder: Path, more: Mapping[str, Any]) -> None:
    """Put figures beside those that a bundle has, in place of any of the same name; the file need not be there."""
    path = folder / FILE
    figures = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    write_figures(folder, {**figures, **more})
