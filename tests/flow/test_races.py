"""What happens between two steps: images that come while a model looks, a kill between two writes."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import FileDataset
from sqlalchemy.exc import OperationalError
from sqlmodel import select

from service.app import App
from service.assemble.complete import Because, Complete
from service.assemble.early import EarlyStart
from service.assemble.quiet import QuietTimes
from service.domain.job import JobKind, StudyState
from service.domain.urgency import Urgency
from service.errors import OutOfSpace
from service.pipeline.admit import admit
from service.pipeline.assembling import Arriving, Assembler
from service.pipeline.first_look import tell_first
from service.pipeline.line import Line
from service.pipeline.look_ct import Part
from service.pipeline.run import run
from service.receive.header import read_header
from service.store.intake import Intake
from service.store.tables import Event, Job, Rhythm, Study
from service.worker import assemble_step
from tests.builders import as_bytes, ct_series, uid
from tests.contracts import assessed
from tests.hospital import TINY, settings_for, tiny_models
from tests.peers import ScriptedPacs

QUIET = Complete(Because.QUIET, "quiet")


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    models = tiny_models(tmp_path / "models")
    with ScriptedPacs(tmp_path / "pacs") as pacs:
        infer = TINY | {"models_dir": models}
        made = App(settings_for(tmp_path, pacs, infer=infer), roles=())
        made.start()
        yield made
        made.stop()


def take_in(app: App, *datasets: FileDataset) -> None:
    """Store images as the listener would."""
    intake = Intake(app.database, time.time)
    for ds in datasets:
        path = app.spool.root / f"{ds.SOPInstanceUID}.dcm"
        path.write_bytes(as_bytes(ds))
        intake.record(read_header(ds), ds.SOPInstanceUID[-64:].rjust(64, "0"), 1, path.name, "CT1")


def study_of(app: App) -> Study:
    with app.database.reading() as session:
        return session.exec(select(Study).where(Study.study_instance_uid == uid(1, 1))).one()


class WhileRunning:
    """An engine that lets something happen once, the first time it is used."""

    def __init__(self, engine: Any, happens: Callable[[], None]) -> None:
        self._engine, self._happens = engine, [happens]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def run(self, *arguments: Any) -> Any:
        """Run the model, after the thing has happened."""
        if self._happens:
            self._happens.pop()()
        return self._engine.run(*arguments)

    def spread(self, *arguments: Any) -> Any:
        """Run the model for many items, after the thing has happened."""
        if self._happens:
            self._happens.pop()()
        return self._engine.spread(*arguments)


def line_of(app: App) -> Line:
    return app._line()


def test_slice_that_comes_while_the_model_looks_leads_to_another_look(app: App) -> None:
    series = ct_series()
    take_in(app, *series[:-1])
    line = line_of(app)
    admit(line, study_of(app).id or 0, QUIET)
    job = line.queue.claim(JobKind.INFER)
    assert job is not None
    engine = WhileRunning(line.engine, lambda: take_in(app, series[-1]))
    run(replace(line, engine=engine), job, study_of(app))  # type: ignore[arg-type]
    study = study_of(app)
    assert (study.state, study.revision) == (StudyState.RECEIVING, 1) and study.summary["findings"]
    admit(line, study.id or 0, QUIET)
    again = line.queue.claim(JobKind.INFER)
    assert again is not None
    run(line, again, study_of(app))
    assert (study_of(app).state, study_of(app).revision) == (StudyState.ASSESSED, 2)


def test_job_whose_images_changed_before_it_began_is_cancelled(app: App) -> None:
    series = ct_series()
    take_in(app, *series[:-1])
    line = line_of(app)
    admit(line, study_of(app).id or 0, QUIET)
    job = line.queue.claim(JobKind.INFER)
    assert job is not None
    take_in(app, series[-1])
    run(line, job, study_of(app))
    with app.database.reading() as session:
        assert session.get_one(Job, job.id).state == "cancelled"
    assert study_of(app).state == StudyState.RECEIVING


@pytest.mark.parametrize("datasets", [ct_series(), ct_series(slices=4)], ids=["queued", "refused"])
def test_admission_is_written_whole_or_not_at_all(app: App, datasets: list[FileDataset]) -> None:
    take_in(app, *datasets)
    line = line_of(app)

    class Killed(Exception):
        """The process ends here."""

    class DyingQueue:
        """A queue that dies when a job is put in, after the study's row was changed."""

        def __getattr__(self, name: str) -> Any:
            return getattr(line.queue, name)

        def insert(self, *_: Any) -> bool:
            """Die."""
            raise Killed

    with pytest.raises(Killed):
        admit(replace(line, queue=DyingQueue()), study_of(app).id or 0, QUIET)  # type: ignore[arg-type]
    study = study_of(app)
    assert (study.state, study.revision, study.input_digest) == (StudyState.RECEIVING, 0, "")
    admit(line, study.id or 0, QUIET)
    assert study_of(app).state in (StudyState.QUEUED, StudyState.NOT_ASSESSED) and study_of(app).revision == 1


def test_slice_that_comes_while_a_study_is_being_admitted_is_not_left_behind(app: App) -> None:
    series = ct_series()
    take_in(app, *series[:-1])
    line = line_of(app)
    number = study_of(app).id or 0

    class Comparing:
        """A comparison of pixels during which the last slice arrives."""

        def of(self, images: Any) -> Any:
            """Let the slice arrive, between the reading of the images and the writing of the decision."""
            if len(images) < len(series):
                take_in(app, series[-1])
            return line.comparison.of(images)

    assert not admit(replace(line, comparison=Comparing()), number, QUIET)  # type: ignore[arg-type]
    assert (study_of(app).state, study_of(app).completed_at) == (StudyState.RECEIVING, None)
    assert admit(replace(line, comparison=Comparing()), number, QUIET)  # type: ignore[arg-type]
    job = line.queue.claim(JobKind.INFER)
    assert job is not None
    run(line, job, study_of(app))
    assert study_of(app).state == StudyState.ASSESSED


def test_a_database_without_room_is_waited_for_and_no_study_is_given_up(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk met while a study is judged says nothing about the study."""
    take_in(app, *ct_series())
    assembler = Assembler(line_of(app), QuietTimes(0, 0), EarlyStart(False), Arriving())
    full = sqlite3.OperationalError("database or disk is full")
    full.sqlite_errorcode = sqlite3.SQLITE_FULL  # type: ignore[misc]
    with monkeypatch.context() as patch:
        patch.setattr(Assembler, "advance", raising(OperationalError("UPDATE", {}, full)))
        with pytest.raises(OutOfSpace):
            assemble_step(line_of(app), assembler)()
    assert (study_of(app).state, study_of(app).completed_at) == (StudyState.RECEIVING, None)
    assert assemble_step(line_of(app), assembler)() and study_of(app).completed_at is not None


@pytest.mark.parametrize(("digest", "told"), [("these", True), ("others", False)])
def test_first_look_that_ends_after_its_study_was_queued_counts_for_the_same_images(
        app: App, digest: str, told: bool) -> None:
    take_in(app, *ct_series())
    before, (_, said) = study_of(app), assessed.ct(ct_series())
    with app.database.transaction() as session:
        row = session.get_one(Study, before.id)
        row.revision, row.input_digest = before.revision + 1, "these"
        session.add(row)
    assert tell_first(line_of(app), before, digest, Urgency.ROUTINE, None, said, Part(40, 40, 1)) is told
    assert bool(study_of(app).flag) is told


def raising(error: Exception) -> Callable[..., bool]:
    """Return a function that raises an error."""

    def raises(*_: object) -> bool:
        raise error

    return raises


def test_silence_is_judged_no_sooner_than_another_process_can_have_said_that_images_are_coming(app: App) -> None:
    line, began = line_of(app), EarlyStart(True, 0.0, 0.0)
    take_in(app, *ct_series())
    came_at = study_of(app).last_received_at
    arriving = Arriving(known_after_s=1.0)
    assembler = Assembler(replace(line, clock=lambda: came_at + 0.9), QuietTimes(0, 0), began, arriving)
    assert not assembler.advance(study_of(app)) and study_of(app).state == StudyState.RECEIVING
    assembler = Assembler(replace(line, clock=lambda: came_at + 1.1), QuietTimes(0, 0), began, arriving)
    assert assembler.advance(study_of(app)) and study_of(app).completed_at is not None


def test_the_study_that_came_last_is_judged_first(app: App) -> None:
    with app.database.transaction() as session:
        for number, last in ((1, 5.0), (2, 9.0), (3, 7.0)):
            session.add(Study(study_instance_uid=f"1.9.{number}", state="receiving", first_received_at=float(number),
                              last_received_at=last))
    assembler = Assembler(line_of(app), QuietTimes(0, 0), EarlyStart(False), Arriving())
    assert [study.study_instance_uid for study in assembler.open()] == ["1.9.2", "1.9.3", "1.9.1"]


def test_quiet_time_is_learned_from_the_studies_of_a_sender_and_the_trace_says_so(app: App) -> None:
    line = line_of(app)
    with app.database.transaction() as session:
        for number in range(30):
            session.add(Study(study_instance_uid=f"1.9.{number}", state="assessed", first_received_at=0,
                              last_received_at=0, completed_at=1.0))
        session.flush()
        for study in session.exec(select(Study)).all():
            session.add(Rhythm(study_id=study.id or 0, calling_aet="CT1", modality="CT", images=9, study_pause_s=4.0,
                               series_pause_s=0.0, at=1.0))
    take_in(app, *ct_series())
    came_at = study_of(app).last_received_at
    assembler = Assembler(replace(line, clock=lambda: came_at + 5.9), QuietTimes(5, 60), EarlyStart(False), Arriving())
    assert not assembler.advance(study_of(app))
    assembler = Assembler(replace(line, clock=lambda: came_at + 6.1), QuietTimes(5, 60), EarlyStart(False), Arriving())
    assert assembler.advance(study_of(app))
    with app.database.reading() as session:
        told = session.exec(select(Event.text).where(Event.stage == "complete")).one()
        own = session.exec(select(Rhythm).where(Rhythm.study_id == study_of(app).id)).one()
    assert "no image for 6 s (learned from 30 CT studies of CT1" in told
    assert own.images == 40 and 0 < own.study_pause_s < 60


def test_two_processes_that_judge_one_study_admit_it_once(app: App) -> None:
    take_in(app, *ct_series())
    line = line_of(app)
    number = study_of(app).id or 0

    class Slow:
        """A comparison during which the other process is faster."""

        def of(self, images: Any) -> Any:
            """Let the other process admit the study."""
            assert admit(line, number, QUIET)
            return line.comparison.of(images)

    assert not admit(replace(line, comparison=Slow()), number, QUIET)  # type: ignore[arg-type]
    assert study_of(app).revision == 1
