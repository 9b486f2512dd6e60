"""What is told before a result is written: the first look at a CT, marked as such, for the full one revises it, and what
the full one has found, while its documents are made.
"""

from __future__ import annotations

from service import logs
from service.domain.finding import Assessment
from service.domain.flag import FIRST_LOOK, WHOLE, Flag, Look, flags_in, flags_of, in_words, pending, read_as
from service.domain.urgency import Urgency
from service.pipeline.line import Line
from service.pipeline.look_ct import Part
from service.store.arrivals import locked
from service.store.studies import add_event
from service.store.tables import Job, Study

TOLD = "told"
"""The event that says that a full look has told what it found."""
_log = logs.get("first_look")


def tell_first(line: Line, study: Study, digest: str, urgency: Urgency, job: Job | None, said: Assessment, part: Part,
               look: Look = Look.FIRST) -> bool:
    """Put what a look says onto the worklist, unless more is known by now; tell whether it was put there.

    study: its row as read before; digest: of the images that were chosen; urgency: on arrival; job: that looks,
    None while images arrive; look: FULL where the documents are all that is missing.
    """
    whole = look is Look.FULL
    now = line.clock()
    with line.database.transaction() as session:
        row = locked(session, study.id or 0)
        if job is not None and not line.queue.holds(session, job):
            return False
        if _known_better(row, study, digest):
            return False
        flags = flags_of(said, look, now, flags_in(row.summary) if pending(row.summary) else ())
        row.summary = said.summary() | {
            "measurements": [], "flags": [f.to_json() for f in flags],
            FIRST_LOOK: {"pending": True, "digest": digest, "at": now, "slices": part.slices, "of": part.of,
                    "findings": {f.name: round(f.probability, 4) for f in said.findings}, WHOLE: whole}}
        show_flags(row, flags, first=not whole)
        session.add(row)
        present = ", ".join(f"{f.name} {f.probability:.0%}" for f in said.present) or "no finding over its threshold"
        why = "; the documents follow" if whole else f", by {_share(part)}; the full look decides"
        add_event(session, row.id or 0, now, TOLD if whole else FIRST_LOOK,
                  f"{present}{why}; {said.bundle.name} {said.bundle.version}")
    if not whole:
        line.metrics.first_look_seconds.labels(urgency.value).observe(max(0.0, now - row.last_received_at))
    _log.info("told" if whole else "first look",
              extra={"study": row.study_instance_uid, "flags": len(flags), "slices": part.slices})
    return True


def _share(part: Part) -> str:
    if part.step == 1:
        return f"all {part.of} slices so far"
    return f"{part.slices} of {part.of} slices (one of {part.step})"


def _known_better(row: Study, study: Study, digest: str) -> bool:
    """Tell whether a full look has said something, other images are looked at, or a first look at these has been told."""
    first = row.summary.get(FIRST_LOOK, {})
    others = row.revision != study.revision and row.input_digest != digest
    return (others or row.last_received_at != study.last_received_at or row.assessed_at is not None
            or (bool(first) and first.get("digest") == digest))


def show_flags(row: Study, flags: tuple[Flag, ...], first: bool = False) -> None:
    """Show flags on the worklist; AI may raise the place in the reading list, never lower it."""
    row.flag = in_words(flags, first)
    reading = read_as(Urgency(row.urgency), flags)
    row.reading_urgency, row.reading_rank = reading.value, reading.rank


def withdraw(row: Study) -> None:
    """Take back what a first look has said: the full one could not read the images."""
    row.flag, row.summary = "", {}
    row.reading_urgency, row.reading_rank = row.urgency, row.urgency_rank
