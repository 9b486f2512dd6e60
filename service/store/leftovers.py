"""Files that a process had not finished writing when it ended: told by their names, removed at a start."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

from service.store.process import is_dead, this_process

PART = ".part"
_ABANDONED_S = 3600.0


def part_ending() -> str:
    """Return the ending of the name of a file that this process is writing, no two of them the same: it says whose it is."""
    return f".{this_process()}:{secrets.token_hex(4)}{PART}"


def remove_leftovers(root: Path) -> int:
    """Remove the files <root>/<2 hex digits>/*.part that nobody writes any more; return how many.

    What another process of this host is writing now stays, and what one of another host was within the last hour.
    """
    leftovers = [file for file in root.glob("[0-9a-f][0-9a-f]/*" + PART) if _is_leftover(file)]
    for file in leftovers:
        file.unlink(missing_ok=True)
    return len(leftovers)


def _is_leftover(file: Path) -> bool:
    """Tell whether nobody writes this file any more."""
    _, _, owner = file.name.removesuffix(PART).partition(".")
    if not owner or is_dead(owner):  # without an owner: of a release before
        return True
    try:
        return time.time() - file.stat().st_mtime > _ABANDONED_S  # the file system's clock, not the service's
    except FileNotFoundError:
        return False  # it was finished meanwhile
