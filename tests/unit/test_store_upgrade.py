"""A database that the release before made, with rows in every table, is brought up to date and loses nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import inspect, text

from service.store import database as store
from service.store.database import Database
from service.store.worklist import study_page
from tests.unit.test_store_migrations import _differences, postgres

__all__ = ["postgres"]
RELEASED = "0001"  # the newest revision of release 0.1.0
_VALUES = {"state": "assessed", "kind": "ct", "urgency": "stat", "reading_urgency": "stat", "modality": "CT",
           "target": "pacs"}


def made_by_the_release(url: str) -> Database:
    """Return a database as release 0.1.0 made it, empty."""
    database = Database(url)
    config = Config()
    config.set_main_option("script_location", str(Path(store.__file__).parent / "migrations"))
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, RELEASED)
    return database


def fill(database: Database, studies: int = 3) -> dict[str, list[dict[str, Any]]]:
    """Put rows into every table of the release, parents first; return them by table."""
    look = inspect(database.engine)
    made: dict[str, list[dict[str, Any]]] = {}
    for table in ("study", "instance", "job", "resultobject", "delivery", "event"):
        columns = look.get_columns(table)
        made[table] = [{c["name"]: _value(c, number) for c in columns} for number in range(1, studies + 1)]
        names = [c["name"] for c in columns]
        query = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join(':' + n for n in names)})"
        with database.engine.begin() as connection:
            connection.execute(text(query), made[table])
    assert set(look.get_table_names()) == {*made, "alembic_version"}
    return made


def _value(column: dict[str, Any], number: int) -> Any:
    name, kind = column["name"], str(column["type"]).upper()
    if name == "id" or (name.endswith("_id") and name not in ("patient_id", "issuer_of_patient_id")):
        return number
    if kind == "JSON":
        return json.dumps({"number": number})
    if kind.startswith(("VARCHAR", "TEXT")):
        return _VALUES.get(name, f"{name}{number}"[:64])
    return float(number) if kind.startswith(("FLOAT", "DOUBLE")) else number


def upgraded(url: str) -> None:
    database = made_by_the_release(url)
    before = fill(database)
    database.close()
    database = Database(url)
    database.migrate()
    try:
        assert _differences(database) == []
        with database.engine.connect() as connection:
            for table, rows in before.items():
                found = [dict(r._mapping) for r in connection.execute(text(f"SELECT * FROM {table} ORDER BY id"))]
                assert len(found) == len(rows)
                for row, now in zip(rows, found, strict=True):
                    kept = {name: json.dumps(now[name]) if isinstance(now[name], dict) else now[name] for name in row}
                    assert kept == row, table
        with database.reading() as session:
            page = study_page(session, "study_instance_uid2")
            assert page is not None and page.events[0].text == "text2" and len(page.results) == len(page.jobs) == 1
            assert sum(page.images.values()) == 1 and page.deliveries[0].target == "pacs"
    finally:
        database.close()


def test_sqlite_of_the_release_before_is_upgraded_with_its_rows(tmp_path: Path) -> None:
    upgraded(f"sqlite:///{tmp_path / 'firstlook.db'}")


@pytest.mark.peer
def test_postgresql_of_the_release_before_is_upgraded_with_its_rows(postgres: str) -> None:
    upgraded(postgres)
