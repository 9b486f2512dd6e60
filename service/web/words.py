"""What a page says, in words: names, ages, waits, states and reasons. Pure; knows no HTML."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import lru_cache

from service.domain.flag import told_at
from service.domain.job import DeliveryState, StudyState
from service.errors import Reason
from service.store.marks import reopened
from service.store.tables import Study

_ACRONYMS = {"covid": "COVID", "covid19": "COVID-19", "ct": "CT", "ggo": "GGO", "hu": "HU", "ai": "AI", "sars": "SARS"}

NO_NAME = "No name"


@dataclass(frozen=True)
class Said:
    """A short text, a longer one under it, and a tone: plain, dim, good, busy, warn or bad."""

    text: str
    more: str = ""
    tone: str = "plain"


@lru_cache(maxsize=512)
def humanised(name: str) -> str:
    """Turn a name of the code ("covid_pneumonia") into words ("COVID pneumonia")."""
    text = spelled(name)
    return text[:1].upper() + text[1:]


def spelled(name: str) -> str:
    """Turn a name of the code into words for the middle of a sentence ("mean_hu" gives "mean HU")."""
    return " ".join(_ACRONYMS.get(word, word) for word in name.replace("_", " ").replace("-", " ").split())


def sentence(text: str) -> str:
    """Return the sentence of a reason code ("peer_refused" or "peer_refused: status 0xA900"); other text stays."""
    code, _, detail = text.partition(": ")
    if code not in list(Reason):
        return text
    return f"{Reason(code).sentence} {detail}".rstrip()


def band(probability: float) -> str:
    """Say a probability (0..1) in one word: "high" from 0.8, "medium" from 0.5, else "low"."""
    return "high" if probability >= 0.8 else "medium" if probability >= 0.5 else "low"


def duration(seconds: float) -> str:
    """Say a time span with two units at most: "40 s", "12 min", "3 h 05 min", "2 d 4 h"."""
    whole = max(0, math.floor(seconds))
    if whole < 60:
        return f"{whole} s"
    minutes = whole // 60
    if minutes < 60:
        return f"{minutes} min"
    hours = minutes // 60
    if hours < 24:
        return f"{hours} h {minutes % 60:02d} min"
    return f"{hours // 24} d {hours % 24} h"


def against(waited_s: float, target_s: float) -> Said:
    """Say a wait against its target, seconds: "of 30 min", and "late by 5 min"; nothing where there is no target."""
    if not target_s:
        return Said("")
    target = duration(target_s).replace(" h 00 min", " h").replace(" d 0 h", " d")
    if waited_s <= target_s:
        return Said(f"of {target}")
    return Said(f"of {target}", f"late by {duration(waited_s - target_s)}", "warn")


def elapsed(seconds: float) -> str:
    """Say a time after a beginning, to the second: "+0:47", "+1:02:05"."""
    whole = max(0, math.floor(seconds))
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"+{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"+{minutes}:{whole % 60:02d}"


def clock_time(at: float | None, now: float) -> str:
    """Say a moment in the server's time zone: the time of day, with the date before it when not within 12 hours."""
    if at is None:
        return ""
    moment = datetime.fromtimestamp(at, UTC).astimezone()
    return moment.strftime("%H:%M:%S" if abs(now - at) < 43200 else "%Y-%m-%d %H:%M")


def dicom_date(text: str) -> str:
    """Write a DICOM date (DA, PS3.5 6.2) as 2026-01-31; what is no date is left out."""
    day = _day(text)
    return day.isoformat() if day else ""


def ordinal(text: str) -> int | None:
    """Return the number of the day of a DICOM date, for distances in time; None where it is no date."""
    day = _day(text)
    return day.toordinal() if day else None


def person(name: str, how: str) -> str:
    """Write a DICOM person name (PN, PS3.5 6.2.1) for the page.

    how: "full" gives "Doe, Jane", "initials" gives "D. J.", "hidden" gives nothing of it. The alphabetic group is
    taken; where it is empty, the ideographic one.
    """
    if how == "hidden":
        return "Name hidden"
    group = next((g for g in name.split("=") if g.strip(" ^")), "")
    family, given, middle, *_ = ([part.strip() for part in group.split("^")] + [""] * 3)
    if how == "initials":
        return " ".join(f"{part[0].upper()}." for part in (family, given) if part) or NO_NAME
    rest = " ".join(part for part in (given, middle) if part)
    return ", ".join(part for part in (family, rest) if part) or NO_NAME


def called(study: Study, how: str) -> str:
    """Say whom a study is of: the name as `person` writes it; the patient ID where there is no name to show."""
    said = person(study.patient_name, how)
    return study.patient_id if said == NO_NAME and how == "full" and study.patient_id else said


def about_patient(study: Study, how: str) -> str:
    """Say the patient's ID, sex and age as far as `how` (full, initials, hidden) lets them be shown."""
    facts = [study.patient_id] if how == "full" and called(study, how) != study.patient_id else []
    if how != "hidden":
        facts += [study.patient_sex, _age(study.patient_birth_date, study.study_date)]
    return " · ".join(fact for fact in facts if fact)


def why_here(study: Study, overdue: bool = False, waited_s: float = 0.0) -> str:
    """Say why a study has its place in the reading list; overdue: it has passed others because it waited too long."""
    said = study.urgency_reason or "as ordered"
    if study.reading_rank < study.urgency_rank:
        said = f"raised by AI: {spelled(study.flag) or 'a finding'}"
    if overdue:
        said = f"unread for {duration(waited_s)}, so it counts as urgent; {said}"
    return "; ".join(filter(None, (reopened(study), said)))


def read(study: Study, now: float) -> str:
    """Say when and by whom a study was marked as read; "" where it is on the open list."""
    if study.read_at is None or reopened(study):
        return ""
    return f"Read {clock_time(study.read_at, now)} by {study.read_by}"


def state(study: Study, place: int | None, now: float) -> Said:
    """Say how far the assessment is, with the reason where there is none."""
    reason = sentence(study.state_reason) if study.state_reason else ""
    late = study.deadline_at is not None and now > study.deadline_at
    overdue = f"late by {duration(now - study.deadline_at)}" if late and study.deadline_at else ""
    under_way = "Model is running" if told_at(study.summary) is None else "Report is being made"
    said = {
        StudyState.RECEIVING: Said("Receiving images", f"last {duration(now - study.last_received_at)} ago", "busy"),
        StudyState.QUEUED: Said(f"Queued, place {place}" if place else "Queued", overdue, "warn" if late else "busy"),
        StudyState.INFERRING: Said(under_way, overdue, "warn" if late else "busy"),
        StudyState.ASSESSED: Said("Assessed", f"at {clock_time(study.assessed_at, now)}" if study.assessed_at else ""),
        StudyState.NOT_ASSESSED: Said("Not assessed", reason, "warn"),
        StudyState.FAILED: Said("Failed", reason, "bad"),
    }
    return said[StudyState(study.state)]


def ended(study: Study) -> bool:
    """Tell whether the assessment has ended, with a result or without."""
    return study.state in (StudyState.ASSESSED, StudyState.NOT_ASSESSED, StudyState.FAILED)


def delivery(study: Study, now: float) -> Said:
    """Say whether the result is in the PACS."""
    why = sentence(study.delivery_detail) if study.delivery_detail else ""
    at = clock_time(study.delivered_at, now)
    said = {
        DeliveryState.NONE: Said("Nothing to send" if ended(study) else "", why),
        DeliveryState.PENDING: Said("Being sent", why, "busy"),
        DeliveryState.SENT: Said("Sent, not yet proven", why, "busy"),
        DeliveryState.DELIVERED: Said("In the PACS", f"at {at}" if at else "", "good"),
        DeliveryState.PARKED: Said("Not delivered", why, "bad"),
        DeliveryState.UNPROVEN: Said("Sent, not proven", why, "bad"),
    }
    return said[DeliveryState(study.delivery)]


def _age(birth: str, then: str) -> str:
    born, day = _day(birth), _day(then)
    if born is None or day is None or day < born:
        return ""
    years = day.year - born.year - ((day.month, day.day) < (born.month, born.day))
    return f"{years} y" if years >= 2 else f"{(day - born).days // 30} mo"


def _day(text: str) -> date | None:
    try:
        return datetime.strptime(text.strip(), "%Y%m%d").replace(tzinfo=UTC).date()
    except ValueError:
        return None
