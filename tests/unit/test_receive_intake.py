"""Rows of received images: idempotent, and one study whoever is first."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from sqlmodel import select

from service.domain.study import Header
from service.errors import Unavailable
from service.store.database import Database
from service.store.intake import Intake, Outcome
from service.store.tables import Event, Instance, Study

HEADER = Header(
    sop_instance_uid="1.2.3.1", sop_class_uid="1.2.840.10008.5.1.4.1.1.2", study_instance_uid="1.2.3",
    series_instance_uid="1.2.3.0", modality="CT", patient_id="P1", patient_name="Test^One", accession_number="A1",
    study_description="CT chest", requested_procedure_priority="STAT", image_position_patient=(0.0, 0.0, 5.0))


@pytest.fixture
def intake(database: Database) -> Intake:
    ticks = itertools.count(100)
    return Intake(database, lambda: float(next(ticks)))


def study(database: Database, uid: str = "1.2.3") -> Study:
    with database.reading() as session:
        return session.exec(select(Study).where(Study.study_instance_uid == uid)).one()


def instances(database: Database) -> list[Instance]:
    with database.reading() as session:
        return list(session.exec(select(Instance)))


def events(database: Database) -> list[Event]:
    with database.reading() as session:
        return list(session.exec(select(Event)))


def test_a_file_that_another_process_wrote_down_first_is_no_second_copy(database: Database, intake: Intake):
    for path in ("ab/first.dcm", "ab/second.dcm"):
        header = replace(HEADER, sop_instance_uid=f"1.2.3.{len(path)}")
        assert intake.record(header, "aa", 7, path, "MOD") is Outcome.STORED
        assert intake.record(header, "aa", 7, path, "MOD") is Outcome.STORED
        assert intake.record(header, "aa", 7, "cd/copy.dcm", "MOD") is Outcome.DUPLICATE
    assert [i.path for i in instances(database)] == ["ab/first.dcm", "ab/second.dcm"]


def test_the_first_image_makes_the_study(database: Database, intake: Intake):
    assert intake.record(HEADER, "aa", 7, "ab/x.dcm", "MOD") is Outcome.STORED
    made = study(database)
    assert (made.state, made.modality, made.patient_id, made.accession_number) == ("receiving", "CT", "P1", "A1")
    assert (made.calling_aet, made.ordered_priority, made.study_description) == ("MOD", "STAT", "CT chest")
    [row] = instances(database)
    assert (row.sha256, row.size_bytes, row.path, row.study_id) == ("aa", 7, "ab/x.dcm", made.id)
    assert Header.from_json(row.header) == HEADER


def test_the_same_image_again_changes_nothing(database: Database, intake: Intake):
    intake.record(HEADER, "aa", 7, "ab/x.dcm", "MOD")
    with database.transaction() as session:
        session.exec(select(Study)).one().state = "assessed"
    before = study(database).model_dump()
    assert intake.record(HEADER, "aa", 7, "cd/y.dcm", "OTHER") is Outcome.DUPLICATE
    assert study(database).model_dump() == before
    assert [row.path for row in instances(database)] == ["ab/x.dcm"]
    assert events(database) == []


def test_the_same_uid_with_other_bytes_keeps_the_first_and_says_so(database: Database, intake: Intake):
    intake.record(HEADER, "aa", 7, "ab/x.dcm", "MOD")
    before = study(database).model_dump()
    assert intake.record(HEADER, "bb", 7, "cd/y.dcm", "MOD") is Outcome.CHANGED_DUPLICATE
    assert study(database).model_dump() == before
    assert [(row.path, row.sha256) for row in instances(database)] == [("ab/x.dcm", "aa")]
    [event] = events(database)
    assert event.data["reason"] == "changed_duplicate"


@pytest.mark.parametrize("state", ["queued", "inferring", "assessed", "not_assessed", "failed"])
def test_a_late_image_puts_a_study_back_to_receiving(database: Database, intake: Intake, state: str):
    intake.record(HEADER, "aa", 7, "ab/x.dcm", "MOD")
    with database.transaction() as session:
        row = session.exec(select(Study)).one()
        row.state, row.state_reason, row.revision = state, "not_chest", 1
    before = study(database)
    intake.record(replace(HEADER, sop_instance_uid="1.2.3.2"), "bb", 7, "cd/y.dcm", "MOD")
    after = study(database)
    assert (after.state, after.state_reason, after.revision) == ("receiving", "", 1)
    assert after.last_received_at > before.last_received_at
    assert after.first_received_at == before.first_received_at


def test_an_image_of_another_patient_is_kept_under_the_study_as_it_was(database: Database, intake: Intake):
    intake.record(HEADER, "aa", 7, "ab/x.dcm", "MOD")
    other = replace(HEADER, sop_instance_uid="1.2.3.2", patient_id="P2", patient_name="Test^Two")
    assert intake.record(other, "bb", 7, "cd/y.dcm", "MOD") is Outcome.STORED
    assert (study(database).patient_id, study(database).patient_name) == ("P1", "Test^One")
    assert [row.header["patient_id"] for row in instances(database)] == ["P1", "P2"]


def test_modalities_are_joined_each_once(database: Database, intake: Intake):
    for number, modality in enumerate(("DX", "CR", "DX", "")):
        intake.record(replace(HEADER, sop_instance_uid=f"1.2.3.{number}", modality=modality), "aa", 7, f"{number}", "M")
    assert study(database).modality == "CR/DX"


def test_an_order_that_comes_with_a_later_image_is_not_lost(database: Database, intake: Intake):
    intake.record(replace(HEADER, requested_procedure_priority=""), "aa", 7, "1", "M")
    intake.record(replace(HEADER, sop_instance_uid="1.2.3.2"), "bb", 7, "2", "M")
    assert study(database).ordered_priority == "STAT"
    later = replace(HEADER, sop_instance_uid="1.2.3.3", requested_procedure_priority="")
    intake.record(later, "cc", 7, "3", "M")
    assert study(database).ordered_priority == "STAT"


def test_the_trace_is_written_only_for_a_study_that_exists(database: Database, intake: Intake):
    assert not intake.trace("9.9.9", "receive", "nothing here")
    intake.record(HEADER, "aa", 7, "1", "M")
    assert intake.trace("1.2.3", "receive", "1 image received", {"stored": 1})
    [event] = events(database)
    assert (event.stage, event.text, event.data) == ("receive", "1 image received", {"stored": 1})


def test_known_paths_are_those_of_the_rows(intake: Intake):
    assert intake.known_paths() == set()
    intake.record(HEADER, "aa", 7, "ab/x.dcm", "M")
    assert intake.known_paths() == {"ab/x.dcm"}


def test_threads_that_store_one_study_at_once_make_one_study(database: Database, intake: Intake):
    start = threading.Barrier(8)

    def bring(thread: int) -> list[Outcome]:
        start.wait()
        return [intake.record(replace(HEADER, sop_instance_uid=f"1.2.3.{n}"), f"{n:02x}", 7, f"{thread}-{n}", "M")
                for n in range(12)]

    with ThreadPoolExecutor(8) as pool:
        outcomes = [outcome for made in pool.map(bring, range(8)) for outcome in made]
    assert outcomes.count(Outcome.STORED) == 12
    assert outcomes.count(Outcome.DUPLICATE) == 84
    assert len(instances(database)) == 12
    study(database)


def test_a_database_that_is_away_is_unavailable(tmp_path: Path):
    intake = Intake(Database(f"sqlite:///{tmp_path / 'absent' / 'x.db'}"), lambda: 0.0)
    with pytest.raises(Unavailable):
        intake.record(HEADER, "aa", 7, "x", "M")
    with pytest.raises(Unavailable):
        intake.trace("1.2.3", "receive", "text")
    with pytest.raises(Unavailable):
        intake.known_paths()
