"""One line of the worklist, ready to be written: a study as words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from service.domain.codes import NO_FINDING
from service.domain.flag import FIRST_LOOK, WHOLE, pending
from service.domain.job import StudyState
from service.domain.order import ReadingOrder
from service.domain.study import Kind
from service.domain.urgency import Urgency
from service.store.tables import Study
from service.store.worklist import Census, Entry
from service.web import words
from service.web.calibration import Notes, unknown
from service.web.compared import change_words
from service.web.site import READ_WITHIN, ReadWithin
from service.web.words import Said

_NOT_YET = (StudyState.RECEIVING, StudyState.QUEUED, StudyState.INFERRING)


@dataclass(frozen=True)
class Mark:
    """One finding of the AI: probability and threshold (0..1) as written, "0.87"; share, limit: in per cent.

    band: the probability in a word (`words.band`); place: side and zone in words; model: name and version of the bundle
    that said it; said_by, called: bundle and finding as the result names them; note: on its calibration.
    """

    name: str
    place: str
    model: str
    probability: str
    threshold: str
    band: str
    share: int
    limit: int
    present: bool
    urgency: str
    said_by: str
    called: str
    note: str = ""


@dataclass(frozen=True)
class Row:
    """One study of the worklist. marks: the findings over their threshold, each name once, most probable first.

    read: when and by whom it was marked as read, "" where it is on the open list; target: the wait against its target;
    share: of the target that has passed, 0..100, -1 where there is none.
    """

    uid: str
    urgency: str
    why: str
    raised: bool
    marks: tuple[Mark, ...]
    ai: Said
    extent: str
    change: str
    name: str
    about: str
    modality: str
    description: str
    accession: str
    study_date: str
    waited: str
    target: Said
    share: int
    received: str
    state: Said
    delivery: Said
    read: str


def row(entry: Entry, now: float, patient_names: str, within: ReadWithin = READ_WITHIN) -> Row:
    """Say one entry of the reading list in words.

    now: Unix time, seconds; patient_names: full, initials or hidden; within: how soon studies should be read.
    """
    study = entry.study
    found, target_s = marks(study.summary), within.seconds(study.reading_urgency)
    return Row(
        uid=study.study_instance_uid,
        urgency=study.reading_urgency,
        why=words.why_here(study, entry.overdue, entry.waited_s),
        raised=study.reading_rank < study.urgency_rank,
        marks=foremost(found),
        ai=ai_words(study, found),
        extent=extent(study.summary),
        change=change_words(study.summary),
        name=words.called(study, patient_names),
        about=words.about_patient(study, patient_names),
        modality=study.modality or study.kind.upper(),
        description=study.study_description or "No description",
        accession=study.accession_number,
        study_date=words.dicom_date(study.study_date),
        waited=words.duration(entry.waited_s),
        target=words.against(entry.waited_s, target_s),
        share=round(100 * min(1.0, entry.waited_s / target_s)) if target_s else -1,
        received=words.clock_time(study.first_received_at, now),
        state=words.state(study, entry.place, now),
        delivery=words.delivery(study, now),
        read=words.read(study, now),
    )


def marks(summary: dict[str, Any], notes: Notes = unknown) -> tuple[Mark, ...]:
    """Return the findings of a summary (`Assessment.summary`), those present first, then by probability.

    A class that stands for "no finding" is left out: a model cannot call a study normal, it can only raise no flag.
    notes: on the calibration of models.
    """
    made, weights = [], {b["name"]: str(b["digest"]) for b in summary.get("bundles", ())}
    for found in summary.get("findings", ()):
        if found.get("code") == NO_FINDING.value:
            continue
        probability, threshold = float(found["probability"]), float(found["threshold"])
        said_by = found.get("bundle") or summary.get("bundle", "")
        made.append(Mark(
            name=words.humanised(found["name"]), place=found.get("place", ""),
            model=" ".join(filter(None, (found.get("bundle"), found.get("version")))),
            probability=f"{probability:.2f}", threshold=f"{threshold:.2f}",
            band=words.band(probability),
            share=round(100 * probability), limit=round(100 * threshold),
            present=found["presence"] == "present", urgency=found.get("urgency", ""),
            said_by=said_by, called=found["name"], note=notes(said_by, weights.get(said_by, ""), found["name"]),
        ))
    return tuple(sorted(made, key=lambda mark: (not mark.present, -float(mark.probability))))


def foremost(found: tuple[Mark, ...]) -> tuple[Mark, ...]:
    """Return what is present, one mark for each name: where several models say the same, the most probable."""
    named: dict[str, Mark] = {}
    for mark in found:
        if mark.present:
            named.setdefault(mark.name, mark)
    return tuple(named.values())


def ai_words(study: Study, found: tuple[Mark, ...]) -> Said:
    """Say what the AI answered. Never "normal": where nothing is over its threshold it says "No flag". found: its marks."""
    earlier = "of the earlier images" if found and study.state != StudyState.ASSESSED else ""
    if pending(study.summary):
        earlier = _early_words(study, study.summary[FIRST_LOOK])
    if any(mark.present for mark in found):
        return Said("", earlier)
    if found:
        top = found[0]
        return Said("No flag", earlier or f"highest: {top.name} {top.probability} (threshold {top.threshold})")
    if study.state in _NOT_YET:
        return Said("No result yet", tone="dim")
    if study.state == StudyState.ASSESSED:
        return Said("No flag")
    return Said("No AI result", "read without AI", "dim")


def _early_words(study: Study, first: dict[str, Any]) -> str:
    """Say of what is told before a result is written where it comes from."""
    if first.get(WHOLE):
        return "documents follow" if study.state in _NOT_YET else "its documents could not be made"
    return f"first look, {first['slices']} of {first['of']} {'slices' if study.kind == Kind.CT else 'images'}"


def extent(summary: dict[str, Any]) -> str:
    """Return the measurement in per cent of the whole study ("Lung involved 12.4 %"); "" when there is none."""
    for measured in summary.get("measurements", ()):
        if measured["unit"] == "%" and not measured["segment"]:
            return f"{words.humanised(measured['name'])} {measured['value']:.1f} %"
    return ""


def cap_words(wanted: ReadingOrder, order: ReadingOrder) -> str:
    """Say whether a long wait puts a study first. wanted: as set; order: the one in force."""
    if not wanted.longest_wait_s:
        return ""
    after = words.duration(wanted.longest_wait_s)
    if order.longest_wait_s:
        return f"A study unread for {after} counts as urgent."
    return f"No wait puts a study first: fewer than half of those received more than {after} ago are marked as read."


def tally(census: Census, rows: list[Row]) -> list[Said]:
    """Return the figures at the head of the worklist; the studies that need a person are always named."""
    counts = census.by_state
    refused, failed = counts[StudyState.NOT_ASSESSED], counts[StudyState.FAILED]
    flagged = sum(1 for one in rows if one.urgency in (Urgency.STAT, Urgency.URGENT))
    queued = counts[StudyState.QUEUED] + counts[StudyState.INFERRING]
    return [
        Said(str(flagged), "stat or urgent", "warn" if flagged else "plain"),
        Said(str(queued), "in the queue"),
        Said(str(counts[StudyState.RECEIVING]), "receiving"),
        Said(str(counts[StudyState.ASSESSED]), "assessed"),
        Said(str(refused), "not assessed", "warn" if refused else "plain"),
        Said(str(failed), "failed", "bad" if failed else "plain"),
        Said(str(census.read), "read"),
    ]
