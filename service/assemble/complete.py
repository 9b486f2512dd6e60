"""When is a study complete? DICOM sends no "end of study": who knows is believed, else silence has to say it.

Evidence can only bring the end of the wait forward. What never comes, answers late or is wrong leaves the quiet time as
it is, and the longest wait ends the matter in any case: nobody can stall a study.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from service.assemble.notice import Announced
from service.assemble.quiet import Quiet

ASKED_TWICE = 2  # the same count from this many questions in a row is believed


class Because(StrEnum):
    """What made a study complete; the value is the label in the metrics."""

    ANNOUNCED = "announced"
    PACS_COUNT = "pacs_count"
    QUIET = "quiet"
    LONGEST_WAIT = "longest_wait"
    FETCHED = "fetched"


@dataclass(frozen=True)
class Answer:
    """What a PACS answered when asked at `asked_at` (Unix time, seconds): how many images of a study it holds."""

    pacs: str
    asked_at: float
    images: int


@dataclass(frozen=True)
class Evidence:
    """What is known of a study at one moment; times are Unix seconds.

    receiving_since_at: the first image, or the first late one after an earlier completion. images: how many are here.
    association_open: a sender of images of this study has not released its association. quiet: how long to wait.
    announced: what notices say, None without one. answers: of the PACS that are asked, oldest first.
    """

    receiving_since_at: float
    last_received_at: float
    images: int
    association_open: bool
    quiet: Quiet
    announced: Announced | None = None
    answers: Sequence[Answer] = ()


@dataclass(frozen=True)
class Complete:
    """A study is complete: because of what, in words, and what of that is kept with the trace (JSON types)."""

    because: Because
    text: str
    data: dict[str, object] = field(default_factory=dict)


def judge(evidence: Evidence, now: float, longest_wait_s: float) -> Complete | None:
    """Say why a study is complete, or return None while more images may come.

    In this order: all images are here that a notice names (and nobody announced more); the PACS twice named the number
    that is here; every association is released and it was quiet; the longest wait is over.
    """
    announced = evidence.announced
    if announced is not None and announced.ended and not announced.missing:
        return _complete(evidence, Because.ANNOUNCED, f"{announced.told}; all {announced.listed} images are here")
    told = None if evidence.association_open else _agreed(evidence)
    if told is not None:
        return _complete(evidence, Because.PACS_COUNT, f"{told.pacs} twice named {told.images} images, all are here")
    if not evidence.association_open and now - evidence.last_received_at >= evidence.quiet.needed_s:
        return _complete(evidence, Because.QUIET, f"association released and {evidence.quiet.text}")
    waited_s = now - evidence.receiving_since_at
    if waited_s >= longest_wait_s:
        return _complete(evidence, Because.LONGEST_WAIT,
                         f"{waited_s:.0f} s since the first image, the longest wait is {longest_wait_s:g} s")
    return None


def _agreed(evidence: Evidence) -> Answer | None:
    """Return the last answer of a PACS that twice in a row, after the last image, named what is here."""
    for pacs in dict.fromkeys(a.pacs for a in evidence.answers):
        last = [a for a in evidence.answers if a.pacs == pacs][-ASKED_TWICE:]
        if len(last) == ASKED_TWICE and all(
                a.images == evidence.images and a.asked_at > evidence.last_received_at for a in last):
            return last[-1]
    return None


def _complete(evidence: Evidence, because: Because, text: str) -> Complete:
    """Add to the words what others say differently, so that a study that lacks images says so."""
    words: list[str] = [text]
    data: dict[str, object] = {"because": because.value}
    announced = evidence.announced
    if announced is not None and announced.missing:
        words.append(f"{announced.told}: {len(announced.missing)} of {announced.listed} images are missing")
        data |= {"missing": ", ".join(announced.missing[:_NAMED])}
    last = {a.pacs: a for a in evidence.answers}
    words += [f"{a.pacs} named {a.images} images, {evidence.images} are here"
              for a in last.values() if a.images != evidence.images]
    return Complete(because, "; ".join(words), data)


_NAMED = 20  # missing images named in the trace
