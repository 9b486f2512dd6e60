"""What is backed up while the service holds the database open comes back as it was; what is damaged does not."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

import pytest
from sqlmodel import col, select

from service import cli
from service.backup import BackupFailed, back_up, restore
from service.receive.spool import Spool
from service.store.database import Database
from service.store.tables import Study
from tests.peers import missing, wait_until
from tests.unit.test_store_migrations import _differences, _study, postgres
from tests.unit.test_store_upgrade import fill, made_by_the_release

__all__ = ["postgres"]


def house(url: str, folder: Path) -> Database:
    """Return an open database with three studies, and files beside it."""
    database = Database(url)
    database.migrate()
    with database.transaction() as session:
        session.add_all([_study(n) for n in (1, 2, 3)])
    for name in ("results/ab/one.dcm", "spool/cd/two.dcm", "spool/quarantine/three.dcm", "spool/cd/half.part"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(5000))
    return database


def files_of(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.dcm")}


def uids(url: str) -> list[str]:
    database = Database(url)
    try:
        assert _differences(database) == []
        with database.reading() as session:
            return list(session.exec(select(Study.study_instance_uid).order_by(col(Study.id))).all())
    finally:
        database.close()


def sqlite_in(folder: Path) -> str:
    return f"sqlite:///{folder / 'firstlook.db'}"


def test_a_backup_taken_while_the_database_is_open_and_written_to_comes_back_whole(tmp_path: Path) -> None:
    old, new, file = tmp_path / "old", tmp_path / "new", tmp_path / "backup.tar"
    old.mkdir()
    database = house(sqlite_in(old), old)
    with database.transaction() as session:
        session.add(_study(4))
        session.flush()
        told = back_up(sqlite_in(old), old, file)  # what is not committed is not in it
    assert (told.files, file.stat().st_mode & 0o777) == (4, 0o600)
    assert restore(sqlite_in(new), new, file).files == 4
    assert files_of(new) == files_of(old) and not list(tmp_path.rglob("new/**/*.part"))
    assert uids(sqlite_in(new)) == ["1.2.1", "1.2.2", "1.2.3"] and uids(sqlite_in(old))[-1] == "1.2.4"
    database.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["backup.tar", "new", "old"]


def test_without_images_only_results_and_database_are_kept(tmp_path: Path) -> None:
    old, new, file = tmp_path / "old", tmp_path / "new", tmp_path / "backup.tar"
    old.mkdir()
    house(sqlite_in(old), old).close()
    back_up(sqlite_in(old), old, file, images=False)
    restore(sqlite_in(new), new, file)
    assert set(files_of(new)) == {"results/ab/one.dcm"}


def test_a_backup_of_the_release_before_is_brought_up_to_date(tmp_path: Path) -> None:
    old, new, file = tmp_path / "old", tmp_path / "new", tmp_path / "backup.tar"
    old.mkdir()
    database = made_by_the_release(sqlite_in(old))
    fill(database)
    database.close()
    assert back_up(sqlite_in(old), old, file).revision == "0001"
    restore(sqlite_in(new), new, file)
    assert uids(sqlite_in(new)) == [f"study_instance_uid{n}" for n in (1, 2, 3)]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    old, file = tmp_path / "old", tmp_path / "backup.tar"
    old.mkdir()
    house(sqlite_in(old), old).close()
    back_up(sqlite_in(old), old, file)
    with pytest.raises(BackupFailed, match="nothing is overwritten"):
        back_up(sqlite_in(old), old, file)
    with pytest.raises(BackupFailed, match="not empty: results, spool"):
        restore(sqlite_in(old), old, file)
    shutil.rmtree(old / "results")
    shutil.rmtree(old / "spool")
    with pytest.raises(BackupFailed, match="not empty: the database"):
        restore(sqlite_in(old), old, file)


def test_what_is_damaged_is_not_put_back(tmp_path: Path) -> None:
    old, new, file = tmp_path / "old", tmp_path / "new", tmp_path / "backup.tar"
    old.mkdir()
    house(sqlite_in(old), old).close()
    back_up(sqlite_in(old), old, file)
    whole = file.read_bytes()
    inside = files_of(old)["results/ab/one.dcm"]
    place = whole.index(inside)
    damaged = {
        "one byte": whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1:],
        "cut": whole[:place + 100], "empty": b"", "other": b"not a backup" * 1000,
    }
    for name, content in damaged.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BackupFailed, match="damaged"):
            restore(sqlite_in(new), new, tmp_path / name)
    assert not new.exists()


def test_a_backup_of_a_newer_release_or_with_a_way_out_is_refused(tmp_path: Path) -> None:
    old, new, file = tmp_path / "old", tmp_path / "new", tmp_path / "backup.tar"
    old.mkdir()
    house(sqlite_in(old), old).close()
    with closing(sqlite3.connect(old / "firstlook.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    back_up(sqlite_in(old), old, file)
    with pytest.raises(BackupFailed, match="newer; install that release first"):
        restore(sqlite_in(new), new, file)
    link = tmp_path / "link.tar"
    with tarfile.open(link, "w") as tar:
        member = tarfile.TarInfo("spool/out")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc"
        tar.addfile(member)
    with pytest.raises(BackupFailed, match="no plain file"):
        restore(sqlite_in(new), new, link)


@pytest.mark.peer
def test_postgresql_goes_into_the_backup_and_comes_back(postgres: str, tmp_path: Path) -> None:
    if not shutil.which("pg_dump") or not shutil.which("pg_restore"):
        missing("pg_dump")
    old, new, file = tmp_path / "old", tmp_path / "new", tmp_path / "backup.tar"
    old.mkdir()
    database = house(postgres, old)
    told = back_up(postgres, old, file)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("CREATE DATABASE other")
    database.close()
    other = postgres.rsplit("/", 1)[0] + "/other"
    assert restore(other, new, file).files == told.files == 4
    assert uids(other) == ["1.2.1", "1.2.2", "1.2.3"] and files_of(new) == files_of(old)
    with pytest.raises(BackupFailed, match="not empty"):
        restore(other, tmp_path / "third", file)
    with pytest.raises(BackupFailed, match="of postgresql"):
        restore(sqlite_in(tmp_path), tmp_path / "third", file)


def test_the_commands_back_up_and_restore(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new, file = tmp_path / "old", tmp_path / "new", tmp_path / "backup.tar"
    old.mkdir()
    house(sqlite_in(old), old).close()
    for folder in (old, new):
        (tmp_path / f"{folder.name}.toml").write_text(f"[store]\ndata_dir = {json.dumps(str(folder))}\n")
    assert cli.main(["backup", str(file), "--settings", str(tmp_path / "old.toml")]) == 0
    assert "It holds patient data" in capsys.readouterr().out
    assert cli.main(["restore", str(file), "--settings", str(tmp_path / "new.toml")]) == 0
    assert files_of(new) == files_of(old)
    assert cli.main(["restore", str(file), "--settings", str(tmp_path / "new.toml")]) == 1
    assert "not empty" in capsys.readouterr().err


def test_a_backup_holds_no_ready_files_but_the_images_that_a_crash_has_left_in_them(tmp_path: Path) -> None:
    old, new, file = tmp_path / "old", tmp_path / "new", tmp_path / "backup.tar"
    old.mkdir()
    house(sqlite_in(old), old).close()
    spool = Spool(old / "spool")
    spool.make_ready(4_000_000)
    ready = spool._ready
    assert ready is not None
    wait_until(lambda: all(ready._free.values()))
    part = spool.begin("1.2.840.10008.5.1.4.1.1.2", "1.2.3", "1.2.840.10008.1.2.1")
    part.write(b"acknowledged")
    part.commit()
    path = part.path
    back_up(sqlite_in(old), old, file)
    assert not (old / "spool" / path).exists(), "ready files of a process that lives are left alone"
    part.close()
    ready._helper.stop()
    os.close(ready._lock)  # as the end of its process does
    file.unlink()
    back_up(sqlite_in(old), old, file)
    restore(sqlite_in(new), new, file)
    assert (new / "spool" / path).read_bytes().endswith(b"acknowledged")
    assert not (new / "spool" / "ready").exists()
