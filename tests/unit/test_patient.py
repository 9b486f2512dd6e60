"""Which earlier studies are fetched: of the same patient, of the kind, before this one, not too old, the latest."""

from __future__ import annotations

import pytest

from service.domain.patient import Match, Patient, PriorRules, worth_fetching

OURS = Patient("P1", "HOSPITAL", "19600101")
WHEN = ("20260102", "101500")


def match(uid: str, date: str, patient: Patient = OURS, modalities: tuple[str, ...] = ("CT",), time: str = "") -> Match:
    return Match(uid, patient, date, time, modalities)


def fetched(found: list[Match], known: tuple[str, ...] = (), **rules: int) -> tuple[list[str], list[str]]:
    wanted, notes = worth_fetching(OURS, WHEN, {"CT"}, found, known, PriorRules(**rules))  # type: ignore[arg-type]
    return [m.study_instance_uid for m in wanted], notes


@pytest.mark.parametrize(("other", "differs"), [
    (Patient("P1", "HOSPITAL", "19600101"), ""), (Patient("P2", "HOSPITAL", "19600101"), "Patient ID"),
    (Patient("P1", "ELSEWHERE", "19600101"), "issuer"), (Patient("P1", "HOSPITAL", "19600102"), "birth date"),
    (Patient("P1"), ""), (Patient("P1", "", "19600102"), "birth date")])
def test_a_patient_differs_in_what_both_tell(other: Patient, differs: str) -> None:
    assert OURS.differs(other) == other.differs(OURS) == differs


def test_the_latest_earlier_ones_of_the_kind_oldest_first() -> None:
    found = [match("1", "20250101"), match("2", "20251201"), match("3", "20251101"), match("later", "20260103"),
             match("same day, later", "20260102", time="120000"), match("same day", "20260102", time="080000"),
             match("cxr", "20251230", modalities=("DX",)), match("both", "20251231", modalities=("SR", "CT")),
             match("unsaid", "20251229", modalities=()), match("undated", "")]
    assert fetched(found, most_studies=4) == (["2", "unsaid", "both", "same day"], [])
    assert fetched(found, known=("both",), most_studies=2)[0] == ["unsaid", "same day"]
    assert fetched(found, most_studies=12, max_age_days=100)[0] == ["3", "2", "unsaid", "both", "same day"]


def test_somebody_else_under_the_same_id_is_left_alone_and_counted() -> None:
    namesake, foreign = Patient("P1", "HOSPITAL", "19310101"), Patient("P1", "ELSEWHERE", "19600101")
    wanted, notes = fetched([match("1", "20250501", namesake), match("2", "20250601", namesake),
                             match("3", "20250701", foreign), match("4", "20250801", Patient("P12"))])
    assert wanted == []
    assert notes == ["2 studies carry this Patient ID, but another birth date: no comparison",
                     "1 studies carry this Patient ID, but another issuer: no comparison"]
