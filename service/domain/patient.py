"""Whose study is it: what two systems say of a patient, compared before anything else is."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True)
class Patient:
    """What identifies a patient: Patient ID, Issuer of Patient ID, Patient's Birth Date (YYYYMMDD); "" not told."""

    patient_id: str
    issuer_of_patient_id: str = ""
    patient_birth_date: str = ""

    def differs(self, other: Patient) -> str:
        """Say in what another one differs, "" in nothing. An issuer or birth date that one of them lacks is no difference:
        an archive need not return it, and the images decide."""
        if self.patient_id != other.patient_id:
            return "Patient ID"
        pairs = (("issuer", self.issuer_of_patient_id, other.issuer_of_patient_id),
                 ("birth date", self.patient_birth_date, other.patient_birth_date))
        return next((name for name, one, another in pairs if one and another and one != another), "")


@dataclass(frozen=True)
class Match:
    """A study that an archive names. images: 0 where it does not say."""

    study_instance_uid: str
    patient: Patient
    study_date: str
    study_time: str = ""
    modalities: tuple[str, ...] = ()
    images: int = 0


@dataclass(frozen=True)
class PriorRules:
    """Which earlier studies are fetched. most_studies: in all; max_age_days: before this one; deliver: their results are
    sent like those of any study."""

    most_studies: int = 3
    max_age_days: int = 1095
    deliver: bool = False


def worth_fetching(
    patient: Patient, when: tuple[str, str], modalities: Collection[str], found: Sequence[Match], known: Collection[str],
    rules: PriorRules,
) -> tuple[list[Match], list[str]]:
    """Return the studies to fetch, oldest first, and what the trace says of those of somebody else.

    when: Study Date and Time of this study; modalities: of its kind; known: Study Instance UIDs that are here already.
    """
    mistaken: dict[str, int] = {}
    fitting = []
    for match in found:
        other = patient.differs(match.patient)
        if other and other != "Patient ID":
            mistaken[other] = mistaken.get(other, 0) + 1
        if other or match.study_instance_uid in known or not (match.study_date, match.study_time) < when:
            continue
        if (not match.modalities or set(match.modalities) & set(modalities)) and _recent(match, when[0], rules.max_age_days):
            fitting.append(match)
    latest = sorted(fitting, key=lambda m: (m.study_date, m.study_time))[-rules.most_studies:]
    return latest, [f"{n} studies carry this Patient ID, but another {what}: no comparison" for what, n in mistaken.items()]


def _recent(match: Match, date: str, most_days: int) -> bool:
    try:
        then, now = (datetime.strptime(d, "%Y%m%d") for d in (match.study_date, date))  # noqa: DTZ007 - dates only
    except ValueError:
        return False
    return now - then <= timedelta(days=most_days)
