"""Back up what the service keeps into one file, and put it back: database, results, and the images where wanted.

The database comes first, then the files: a file that a row names was on the disk before the row was.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import sqlite3
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, make_url, text

from service import __version__
from service.receive.spool import READY, Spool
from service.store.database import MIGRATIONS, Database

FORMAT = 1
_CONTENTS, _DATABASE = "contents.json", "database"
_FOLDERS = ("results", "spool")
_TOOL_S = 3600


class BackupFailed(OSError):
    """A backup could not be made or put back; the text says why and what to do. Nothing was changed."""


@dataclass(frozen=True)
class Told:
    """What a backup holds: files and bytes, the revision of the schema."""

    files: int
    size_bytes: int
    revision: str


def back_up(url: str, data_dir: Path, file: Path, images: bool = True) -> Told:
    """Write a backup while the service may run; the file appears whole or not at all, readable by its owner only.

    images: also those received; without them what the PACS has need not be kept twice, but a study that waits is not
    looked at after a restore. Raises: BackupFailed.
    """
    if file.exists():
        raise BackupFailed(f"{file} is there already; nothing is overwritten")
    part = file.with_name(file.name + ".part")
    sums: dict[str, str] = {}
    try:
        with tempfile.TemporaryDirectory(dir=file.parent) as scratch, os.fdopen(
                os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out, tarfile.open(
                fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:
            dump = Path(scratch) / _DATABASE
            revision = _dump(url, dump)
            sums[_DATABASE] = _add(tar, dump, _DATABASE)
            for path in _files(data_dir, images):
                name = path.relative_to(data_dir).as_posix()
                try:
                    sums[name] = _add(tar, path, name)
                except FileNotFoundError:
                    continue  # gone meanwhile: a duplicate that was thrown away
            about = {"format": FORMAT, "version": __version__, "dialect": make_url(url).get_backend_name(),
                     "revision": revision, "images": images, "sha256": sums}
            _add_bytes(tar, _CONTENTS, json.dumps(about).encode())
        with part.open("rb") as written:
            os.fsync(written.fileno())
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    return Told(len(sums), file.stat().st_size, revision)


def restore(url: str, data_dir: Path, file: Path) -> Told:
    """Put a backup back into an empty place, and bring the schema up to date. The service must not run.

    Raises: BackupFailed when the file is damaged, the place is not empty, or the backup is of a newer release.
    """
    about = _judged(file)
    if about["dialect"] != make_url(url).get_backend_name():
        raise BackupFailed(f"the backup is of {about['dialect']}, store.database_url is of another database")
    used = [f for f in _FOLDERS if any(p.is_file() for p in (data_dir / f).rglob("*"))]
    if used or _has_tables(url):
        raise BackupFailed(f"not empty: {', '.join(used) or 'the database'}; a backup is put back into an empty place only")
    data_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=data_dir) as scratch:
        with tarfile.open(file, "r:") as tar:
            tar.extractall(scratch, filter="data")
        _load(url, Path(scratch) / _DATABASE)
        for folder in filter(lambda name: (Path(scratch) / name).exists(), _FOLDERS):
            shutil.rmtree(data_dir / folder, ignore_errors=True)
            shutil.move(Path(scratch) / folder, data_dir / folder)
    database = Database(url)
    try:
        database.migrate()
    finally:
        database.close()
    return Told(len(about["sha256"]), file.stat().st_size, about["revision"])


def _files(data_dir: Path, images: bool) -> Iterator[Path]:
    """Yield what is kept; images that a crash has left in ready files get their places first, as at the next start."""
    ready = data_dir / "spool" / READY
    if images and ready.exists():
        Spool(data_dir / "spool").restore()
    for folder in _FOLDERS if images else _FOLDERS[:1]:
        yield from sorted(
            p for p in (data_dir / folder).rglob("*")
            if p.is_file() and p.suffix != ".part" and ready not in p.parents)


def _add(tar: tarfile.TarFile, path: Path, name: str) -> str:
    """Add a file as it is at this moment; return the sha256 of what was added."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        member = tarfile.TarInfo(name)
        member.size, member.mtime, member.mode = os.fstat(file.fileno()).st_size, int(path.stat().st_mtime), 0o600
        tar.addfile(member, file)
    return digest


def _add_bytes(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o600
    tar.addfile(member, io.BytesIO(content))


def _judged(file: Path) -> dict[str, Any]:
    """Read the whole backup and compare every sum. Raises: BackupFailed."""
    found: dict[str, str] = {}
    about: dict[str, Any] | None = None
    try:
        with tarfile.open(file, "r:") as tar:
            for member in tar:
                content = tar.extractfile(member) if member.isreg() else None
                if content is None:
                    raise BackupFailed(f"{file}: {member.name!r} is no plain file; this is not a backup of firstlook")
                if member.name == _CONTENTS:
                    about = json.load(content)
                else:
                    found[member.name] = _sum_of(content)
    except (tarfile.TarError, json.JSONDecodeError, EOFError) as error:
        raise BackupFailed(f"{file}: damaged, or not a backup of firstlook ({error})") from error
    if about is None or about.get("format") != FORMAT:
        raise BackupFailed(f"{file}: damaged, or not a backup of this kind of firstlook: its contents are not told")
    if found != about["sha256"]:
        bad = sorted(n for n in found.keys() | about["sha256"].keys() if found.get(n) != about["sha256"].get(n))
        raise BackupFailed(f"{file}: damaged: {len(bad)} files are not as they were written, for example {bad[0]}")
    known = {s.revision for s in _script().walk_revisions()}
    if about["revision"] not in known:
        raise BackupFailed(f"{file}: made by firstlook {about['version']}, which is newer; install that release first")
    return about


def _sum_of(content: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while block := content.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def _script() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return ScriptDirectory.from_config(config)


def revision_of(database: Database) -> str:
    """Return the revision of a database's schema; "" for an empty one."""
    with database.reading() as session:  # a writer at work does not hold this up
        connection = session.connection()
        if not inspect(connection).has_table("alembic_version"):
            return ""
        return str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar() or "")


def newest_revision() -> str:
    """Return the revision that this release works with."""
    return str(_script().get_current_head())


def _has_tables(url: str) -> bool:
    where = make_url(url)
    if where.get_backend_name() == "sqlite" and where.database and not Path(where.database).exists():
        return False
    database = Database(url)
    try:
        return revision_of(database) != ""
    finally:
        database.close()


def _dump(url: str, file: Path) -> str:
    """Write one consistent state of the database into a file; return the revision of its schema."""
    database = Database(url)
    try:
        revision = revision_of(database)
    finally:
        database.close()
    if not revision:
        raise BackupFailed("the database is empty: there is nothing to back up")
    where = make_url(url)
    if where.get_backend_name() == "sqlite":
        with closing(sqlite3.connect(f"file:{where.database}?mode=ro", uri=True)) as source, closing(
                sqlite3.connect(file)) as target:
            source.backup(target)
    else:
        _tool(["pg_dump", "--format=custom", "--no-owner", "--no-privileges", f"--file={file}"], url)
    return revision


def _load(url: str, dump: Path) -> None:
    where = make_url(url)
    if where.get_backend_name() == "sqlite":
        file = Path(where.database or "")
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(dump, file)
    else:
        _tool(["pg_restore", "--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction",
               f"--dbname={where.database}", str(dump)], url)


def _tool(command: list[str], url: str) -> None:
    """Run a tool of PostgreSQL; the password goes by the environment, not by the list of processes."""
    where = make_url(url)
    given = {"PGHOST": where.host, "PGPORT": str(where.port or 5432), "PGUSER": where.username, "PGDATABASE": where.database,
             "PGPASSWORD": where.password}
    environ: Mapping[str, str] = os.environ | {name: value for name, value in given.items() if value}
    try:
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=_TOOL_S, check=False)
    except FileNotFoundError as error:
        raise BackupFailed(f"{command[0]} is not installed; it comes with the client of PostgreSQL") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no answer"])[-1]
        raise BackupFailed(f"{command[0]} failed: {last}")
