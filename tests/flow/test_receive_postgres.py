"""The rows of received images on a real PostgreSQL, where transactions run side by side."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlmodel import select

from service.domain.study import Header
from service.store.database import Database
from service.store.intake import Intake, Outcome
from service.store.tables import Instance, Study
from tests.unit.test_store_migrations import postgres as postgres

HEADER = Header(sop_instance_uid="1.2.3.1", sop_class_uid="1.2.840.10008.5.1.4.1.1.2", study_instance_uid="1.2.3",
                series_instance_uid="1.2.3.0", modality="CT", patient_name="Müller^Jürgen")


@pytest.mark.peer
def test_threads_that_store_the_same_studies_at_once_write_each_row_once(postgres: str):
    database = Database(postgres)
    database.migrate()
    intake, start = Intake(database, lambda: 1000.0), threading.Barrier(6)

    def bring(thread: int) -> list[Outcome]:
        start.wait()
        outcomes = []
        for number in range(30):
            header = replace(HEADER, study_instance_uid=f"1.2.{number % 10}", sop_instance_uid=f"1.2.3.{number}")
            outcomes.append(intake.record(header, f"{number:02x}", 7, f"{thread}-{number}", "MODALITY"))
        return outcomes

    with ThreadPoolExecutor(6) as pool:
        outcomes = [outcome for made in pool.map(bring, range(6)) for outcome in made]
    assert (outcomes.count(Outcome.STORED), outcomes.count(Outcome.DUPLICATE)) == (30, 150)
    with database.reading() as session:
        assert len(session.exec(select(Study)).all()) == 10
        assert len(session.exec(select(Instance)).all()) == len(intake.known_paths()) == 30
        assert session.exec(select(Study)).first().patient_name == "Müller^Jürgen"
    database.close()
