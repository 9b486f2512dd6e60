"""What others sent back for a study, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from service.feedback.said import NAMES, Said
from service.store.corrections import ATTACHED, WAITING
from service.store.tables import Correction
from service.web import words


@dataclass(frozen=True)
class ReturnedLine:
    """One object. counts: it is feedback on this result; why: it is not, or not yet."""

    at: str
    text: str
    why: str
    counts: bool


def returned_lines(corrections: Sequence[Correction], now: float) -> tuple[ReturnedLine, ...]:
    """Write what came back, oldest first."""
    lines = []
    for one in corrections:
        said = Said.of_json(one.told).words(one.kind, one.calling_aet)
        text = said if one.state == ATTACHED else f"a {NAMES[one.kind]} from {one.calling_aet}"
        why = "" if one.state == ATTACHED else "not compared yet" if one.state == WAITING else f"no feedback: {one.detail}"
        lines.append(ReturnedLine(words.clock_time(one.received_at, now), text[:1].upper() + text[1:], why,
                                  one.state == ATTACHED))
    return tuple(lines)


def returned_as_json(corrections: Sequence[Correction]) -> list[dict[str, Any]]:
    """Return what came back for the API."""
    return [{"kind": one.kind, "sop_instance_uid": one.sop_instance_uid, "calling_aet": one.calling_aet,
             "received_at": one.received_at, "state": one.state, "detail": one.detail, "revision": one.revision,
             "told": one.told} for one in corrections]
