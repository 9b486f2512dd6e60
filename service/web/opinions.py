"""What readers said of the findings of one study, in words."""

from __future__ import annotations

from collections.abc import Sequence

from service.domain.verdict import Verdict, Why
from service.store.tables import Opinion
from service.web import words


def opinions(said: Sequence[Opinion], now: float) -> dict[tuple[str, str], list[str]]:
    """Write what readers said, by bundle and finding: "Disagrees: nothing is there (anna, 14:02:11). Note"."""
    written: dict[tuple[str, str], list[str]] = {}
    for one in said:
        text = "Agrees" if one.verdict == Verdict.AGREE else f"Disagrees: {Why(one.why).words}"
        when = f" ({one.reader}, {words.clock_time(one.at, now)})"
        written.setdefault((one.bundle, one.finding), []).append(text + when + (f": {one.note}" if one.note else ""))
    return written
