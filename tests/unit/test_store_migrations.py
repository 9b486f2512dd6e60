"""The revisions make the schema as declared, on SQLite and on PostgreSQL; readers do not stop writers."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text
from sqlmodel import SQLModel, select

from service.store.database import Database
from service.store.tables import Delivery, Study
from tests.peers import free_port, missing

_POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


def _differences(database: Database) -> list[Any]:
    with database.engine.connect() as connection:
        options = {"compare_type": True, "compare_server_default": True}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), SQLModel.metadata))


def _study(number: int) -> Study:
    uid = f"1.2.{number}"
    return Study(study_instance_uid=uid, state="receiving", first_received_at=1.0, last_received_at=1.0)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path / 'a%20b.db'}")
    database.migrate()
    yield database
    database.close()


def test_an_empty_database_gets_every_table_as_declared(database: Database) -> None:
    made = set(inspect(database.engine).get_table_names())
    assert made == set(SQLModel.metadata.tables) | {"alembic_version"}
    assert _differences(database) == []


def test_the_index_of_open_jobs_is_partial(database: Database) -> None:
    with database.engine.connect() as connection:
        query = text("SELECT sql FROM sqlite_master WHERE name = 'ix_job_open'")
        made = connection.execute(query).scalar_one()
    assert made.endswith("WHERE state IN ('waiting', 'leased')")


def test_migrating_again_keeps_what_is_there(database: Database) -> None:
    with database.transaction() as session:
        session.add(_study(1))
    database.migrate()
    with database.reading() as session:
        assert session.exec(select(Study.study_instance_uid)).all() == ["1.2.1"]


def test_what_was_stored_before_proof_was_asked_for_counts_as_proven(tmp_path: Path) -> None:
    old = Database(f"sqlite:///{tmp_path / 'old.db'}")
    old.migrate("0001")
    with old.transaction() as session:
        columns = [c["name"] for c in inspect(session.connection()).get_columns("study") if not c["nullable"]]
        values = ", ".join("1" if name == "id" else "'{}'" if name == "summary" else "'1'" for name in columns)
        for statement in (
                f"INSERT INTO study ({', '.join(columns)}) VALUES ({values})",
                "INSERT INTO resultobject VALUES (1, 1, 1, 'sr', '1', '2', 'p', '', 5.0)",
                "INSERT INTO delivery (id, result_object_id, target, stored_at) VALUES (1, 1, 'pacs', 7.0)"):
            session.connection().execute(text(statement))
    old.migrate()
    with old.reading() as session:
        row = session.get_one(Delivery, 1)
        assert (row.stored_at, row.proven_at, row.proof) == (7.0, 7.0, "stored")
    assert _differences(old) == []
    old.close()


def test_two_processes_may_migrate_at_the_same_time(tmp_path: Path) -> None:
    databases = [Database(f"sqlite:///{tmp_path / 'new.db'}") for _ in range(4)]
    with ThreadPoolExecutor() as pool:
        for _ in pool.map(Database.migrate, databases):
            pass
    assert _differences(databases[0]) == []
    for database in databases:
        database.close()


def test_a_reader_neither_waits_for_a_writer_nor_stops_one(database: Database) -> None:
    with database.transaction() as writer:
        writer.add(_study(1))
        writer.flush()
        with database.reading() as reader:
            assert reader.exec(select(Study)).all() == []
    with database.reading() as reader:
        assert len(reader.exec(select(Study)).all()) == 1
        with database.transaction() as writer:
            writer.add(_study(2))
        assert len(reader.exec(select(Study)).all()) == 1, "a reader keeps the state it began with"


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[str]:
    """Start a PostgreSQL server of our own on 127.0.0.1 and yield its URL."""
    with running_postgres(tmp_path) as url:
        yield url


@contextmanager
def running_postgres(tmp_path: Path) -> Iterator[str]:
    """Run a PostgreSQL server in a folder and yield its URL; skip the test where it is not installed."""
    if not _POSTGRES or (os.geteuid() == 0 and not shutil.which("runuser")):
        missing("PostgreSQL")
    port = free_port()
    tmp_path.mkdir(exist_ok=True)
    folder = tmp_path / "pg"
    as_user = []
    if os.geteuid() == 0:  # the server refuses to run as root
        as_user = ["runuser", "-u", "nobody", "--"]
        _open(tmp_path)
        folder.mkdir()
        shutil.chown(folder, "nobody")
    plain = ("-U", "firstlook", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C")
    _run(as_user, "initdb", "-D", folder, *plain)
    start = ("-D", folder, "-w", "-t", "60", "-l", folder / "log")
    _run(as_user, "pg_ctl", *start, "-o", f"-h 127.0.0.1 -p {port} -k {folder}", "start")
    try:
        yield f"postgresql+psycopg://firstlook@127.0.0.1:{port}/postgres"
    finally:
        _open(tmp_path)  # pytest closes its folder when it is started beside this
        _run(as_user, "pg_ctl", "-D", folder, "-m", "immediate", "-w", "stop")


def _open(folder: Path) -> None:
    """Let others go through a folder of pytest's."""
    for parent in (folder, *folder.parents[:4]):
        if parent.is_relative_to("/tmp") and parent != Path("/tmp"):
            parent.chmod(parent.stat().st_mode | 0o011)


def _run(as_user: list[str], program: str, *arguments: str | Path) -> None:
    command = [*as_user, str(_POSTGRES[-1] / program), *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.DEVNULL if "start" in arguments else subprocess.PIPE,
                          stderr=subprocess.STDOUT, cwd="/", text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{program}: {done.stdout}"


@pytest.mark.peer
def test_postgresql_gets_every_table_as_declared(postgres: str) -> None:
    database = Database(postgres)
    database.migrate()
    database.migrate()
    assert _differences(database) == []
    with database.transaction() as session:
        session.add(_study(1))
    with database.reading() as session:
        assert session.exec(select(Study.study_instance_uid)).all() == ["1.2.1"]
    database.close()
