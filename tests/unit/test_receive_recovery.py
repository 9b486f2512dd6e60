"""At start, rows and files are brought together."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest
from sqlmodel import select

from service.receive.recovery import Recovered, recover
from service.receive.spool import Spool, Spooled
from service.store.database import Database
from service.store.intake import Intake
from service.store.tables import Instance, Study
from tests import builders
from tests.peers import Raw


@pytest.fixture
def intake(database: Database) -> Intake:
    return Intake(database, lambda: 1000.0)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


def put(spool: Spool, raw: Raw) -> Spooled:
    return spool.write(raw.data, raw.sop_class_uid, raw.sop_instance_uid, raw.transfer_syntax_uid)


def rows(database: Database) -> list[Instance]:
    with database.reading() as session:
        return list(session.exec(select(Instance).order_by(Instance.id)))


def test_a_file_whose_row_was_never_committed_gets_it(database: Database, intake: Intake, spool: Spool):
    slices = builders.ct_series(slices=3, size=16)
    spooled = [put(spool, Raw.of(ds)) for ds in slices]
    assert recover(spool, intake) == Recovered(leftovers=0, rows=3, quarantined=0, missing=0)
    made = {row.path: row for row in rows(database)}
    assert {p: (r.sha256, r.size_bytes) for p, r in made.items()} == {
        s.path: (s.sha256, s.size_bytes) for s in spooled}
    assert {r.sop_instance_uid for r in made.values()} == {ds.SOPInstanceUID for ds in slices}
    with database.reading() as session:
        assert session.exec(select(Study)).one().patient_id == "P0001"


def test_a_second_start_finds_nothing_to_do(intake: Intake, spool: Spool):
    put(spool, Raw.of(builders.radiograph()))
    recover(spool, intake)
    assert recover(spool, intake) == Recovered(0, 0, 0, 0)


def test_parts_are_removed(intake: Intake, spool: Spool):
    (spool.root / "ab" / "ab00.part").write_bytes(b"half")
    assert recover(spool, intake).leftovers == 1
    assert list(spool.root.rglob("*.part")) == []


def test_the_second_file_of_an_image_is_removed_and_a_changed_one_set_aside(database, intake: Intake, spool: Spool):
    made = builders.radiograph()
    first = put(spool, Raw.of(made))
    recover(spool, intake)
    again, changed = put(spool, Raw.of(made)), put(spool, Raw.of(builders.radiograph(StudyDescription="other")))
    assert recover(spool, intake) == Recovered(leftovers=0, rows=0, quarantined=1, missing=0)
    assert [row.path for row in rows(database)] == list(spool.files()) == [first.path]
    assert not spool.locate(again.path).exists()
    assert (spool.root / "quarantine" / Path(changed.path).name).exists()


@pytest.mark.parametrize("content", [b"", b"x" * 500, bytes(128) + b"DICM" + bytes(100)])
def test_an_unreadable_file_is_set_aside_and_the_others_are_taken(intake: Intake, spool: Spool, content: bytes, caplog):
    (spool.root / "00" / "00aa.dcm").write_bytes(content)
    put(spool, Raw.of(builders.radiograph()))
    with caplog.at_level(logging.ERROR):
        assert recover(spool, intake) == Recovered(leftovers=0, rows=1, quarantined=1, missing=0)
    assert (spool.root / "quarantine" / "00aa.dcm").read_bytes() == content
    assert "unreadable" in caplog.text


def test_a_row_whose_file_is_missing_is_told(intake: Intake, spool: Spool, caplog):
    spooled = put(spool, Raw.of(builders.radiograph()))
    recover(spool, intake)
    spool.discard(spooled.path)
    with caplog.at_level(logging.ERROR):
        assert recover(spool, intake).missing == 1
    assert "missing" in caplog.text


def test_a_cut_file_is_set_aside(intake: Intake, spool: Spool):
    raw = Raw.of(builders.radiograph())
    put(spool, replace(raw, data=raw.data[:-1]))
    assert recover(spool, intake) == Recovered(leftovers=0, rows=0, quarantined=1, missing=0)
