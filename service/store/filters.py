"""Which studies a list shows: what a reader may choose, as conditions of the database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, and_, func, not_, or_
from sqlmodel import col

from service.domain.job import StudyState
from service.domain.urgency import Urgency
from service.store.marks import is_read
from service.store.tables import Study

MOST_TEXT = 100
"""Characters of a search."""
_MOST_WORDS = 8


class Shown(StrEnum):
    """Which part of the studies a list holds."""

    OPEN = "open"
    READ = "read"
    ALL = "all"


class Age(StrEnum):
    """Age of the patient today, in whole years."""

    CHILD = "child"
    ADULT = "adult"
    OLDER = "older"

    @property
    def years(self) -> tuple[int, int]:
        """The first year of the group and the first one after it."""
        return {Age.CHILD: (0, 18), Age.ADULT: (18, 65), Age.OLDER: (65, 200)}[self]


@dataclass(frozen=True)
class Filter:
    """What a reader chose; nothing chosen shows all that is open.

    modality: as in DICOM; finding: its name, found over its threshold; text: words that must all occur in description,
    accession number or, with search_patient, patient name or ID; case does not matter.
    """

    shown: Shown = Shown.OPEN
    state: StudyState | None = None
    modality: str = ""
    urgency: Urgency | None = None
    finding: str = ""
    age: Age | None = None
    text: str = ""
    search_patient: bool = False


def in_window(since: float) -> ColumnElement[bool]:
    """Return whether a study has an image since a moment (Unix time). What is complete was so after its last image."""
    return and_(ended_since(since), col(Study.last_received_at) >= since)


def ended_since(since: float) -> ColumnElement[bool]:
    """Return whether a study has been complete only since a moment (Unix time), or is not yet; an index holds this.

    Studies that were fetched to be compared are no work, and on no list.
    """
    return and_(or_(col(Study.completed_at).is_(None), col(Study.completed_at) >= since), col(Study.fetched).is_(False))


def conditions(chosen: Filter, now: float) -> list[ColumnElement[bool]]:
    """Return the conditions of a filter. now: Unix time, seconds, for ages."""
    made: list[Any] = {Shown.OPEN: [not_(is_read())], Shown.READ: [is_read()], Shown.ALL: []}[chosen.shown]
    if chosen.state:
        made.append(Study.state == chosen.state.value)
    if chosen.modality:
        made.append(or_(col(Study.modality) == chosen.modality, col(Study.modality).like(f"%/{chosen.modality}"),
                        col(Study.modality).like(f"{chosen.modality}/%")))
    if chosen.urgency:
        made.append(Study.reading_rank == chosen.urgency.rank)
    if chosen.finding:
        made.append(col(Study.found).contains(f"|{chosen.finding}|", autoescape=True))
    if chosen.age:
        made.append(_of_age(chosen.age, now))
    return made + [_says(word, chosen.search_patient) for word in chosen.text.split()[:_MOST_WORDS]]


def _of_age(age: Age, now: float) -> ColumnElement[bool]:
    """Compare Patient's Birth Date (DA: YYYYMMDD, so the order of text is that of time); what has none is of no age."""
    today = int(datetime.fromtimestamp(now, UTC).astimezone().strftime("%Y%m%d"))
    first, after = age.years
    born = col(Study.patient_birth_date)
    return and_(func.length(born) == 8, born > f"{today - 10000 * after:08d}", born <= f"{today - 10000 * first:08d}")


def _says(word: str, patient: bool) -> ColumnElement[bool]:
    searched = [Study.study_description, Study.accession_number]
    if patient:
        searched += [Study.patient_name, Study.patient_id]
    return or_(*(func.lower(col(column)).contains(word.lower(), autoescape=True) for column in searched))
