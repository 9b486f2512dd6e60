"""Open the database: SQLite by default, PostgreSQL by URL; the schema is brought up to date by Alembic."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlmodel import Session, create_engine

from service.errors import OutOfSpace, Reason, Unavailable
from service.store import fetched, workitems  # noqa: F401 - their tables belong to the schema

MIGRATIONS = Path(__file__).parent / "migrations"
_MIGRATION_LOCK = 7105210
_READS = "firstlook_reads"
_BUSY_S = 30


class Database:
    """A connection pool and its transactions. Safe to share between threads."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.is_sqlite = url.startswith("sqlite")
        options: dict[str, Any] = {"pool_pre_ping": True}
        if self.is_sqlite:
            options = {"connect_args": {"timeout": 30}}
        self.engine: Engine = create_engine(url, **options)
        if self.is_sqlite:
            event.listen(self.engine, "connect", _tune_sqlite)
            event.listen(self.engine, "begin", _begin)
        self._reader = self.engine.execution_options(**{_READS: True})
        self._rebuildable = self._make_rebuildable()
        self._witness: sqlite3.Connection | None = None
        self._witness_lock = threading.Lock()

    def migrate(self, to: str = "head") -> None:
        """Bring the schema to a revision, the newest by default; an empty database gets all of it."""
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        with self.engine.begin() as connection:
            if not self.is_sqlite:  # processes that start together take turns, as on SQLite
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
            config.attributes["connection"] = connection
            command.upgrade(config, to)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """Yield a session; commit (durably) when the block ends, roll back when it raises."""
        with Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Yield a session that only reads: it never waits for a writer, nor a writer for it."""
        with Session(self._reader, expire_on_commit=False, autoflush=False) as session:
            yield session

    @contextmanager
    def rebuildable(self) -> Iterator[Connection]:
        """Yield a connection for rows that can be made again from elsewhere; commit when the block ends.

        What is committed is seen by all at once and survives the end of this process, but the disk has it a little
        later: a power cut can take the last of it. What `transaction` commits afterwards takes it along.
        """
        with self._rebuildable.begin() as connection:
            yield connection

    def changes(self) -> int | None:
        """Return a number that differs from an earlier one when anything was committed since, by whatever process.

        None where that cannot be told for less than a look at the tables costs: all may have changed.
        """
        path = self.engine.url.database if self.is_sqlite else None
        if not path or path == ":memory:":
            return None
        with self._witness_lock:
            if self._witness is None:  # it never writes: its own commits would not count
                self._witness = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
            try:
                number: int = self._witness.execute("PRAGMA data_version").fetchone()[0]
            except sqlite3.Error:
                return None  # a look at the tables will say what is wrong
        return number

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()
        self._rebuildable.dispose()
        with self._witness_lock:
            if self._witness is not None:
                self._witness.close()
                self._witness = None

    def _make_rebuildable(self) -> Engine:
        if not self.is_sqlite:
            return create_engine(self.url, pool_pre_ping=True, connect_args={"options": "-c synchronous_commit=off"})
        engine = create_engine(self.url, connect_args={"timeout": 30})
        event.listen(engine, "connect", _tune_sqlite)
        event.listen(engine, "connect", _sync_later)
        event.listen(engine, "begin", _begin)
        return engine


def unavailable(error: SQLAlchemyError) -> Unavailable:
    """Return the error of ours for a database that does not do as it should: OutOfSpace where its disk is full."""
    cause = error.orig if isinstance(error, DBAPIError) else None
    if getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL or getattr(cause, "sqlstate", "") == "53100":
        return OutOfSpace(Reason.OUT_OF_SPACE, "the disk of the database is full")
    return Unavailable(Reason.INTERNAL_ERROR, f"the database does not answer as it should ({type(error).__name__})")


def _tune_sqlite(connection: Any, _record: Any) -> None:
    """WAL with a full sync at each commit: what was committed survives a power cut."""
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout={_BUSY_S * 1000}").close()
    _use_wal(connection)
    for pragma in ("synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}").close()
    connection.create_function("lower", 1, _lower, deterministic=True)


def _lower(value: Any) -> Any:
    """Lower the case of every alphabet; SQLite's own does so for ASCII only."""
    return value.lower() if isinstance(value, str) else value


def _use_wal(connection: Any) -> None:
    """Turn the write-ahead log on; SQLite does not wait by itself for another one that turns it on at this moment."""
    deadline = time.monotonic() + _BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL").close()
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _sync_later(connection: Any, _record: Any) -> None:
    """With WAL, NORMAL keeps the database whole in a power cut and leaves out the sync at each commit."""
    connection.execute("PRAGMA synchronous=NORMAL").close()


def _begin(connection: Connection) -> None:
    """Take the write lock at once, unless only reading: a transaction that turns into a writer can fail."""
    reads = connection.get_execution_options().get(_READS, False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")
