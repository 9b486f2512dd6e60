"""A file being written: byte for byte what came, however large and however it was cut."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from service.errors import Unavailable
from service.receive.part import BUFFER_BYTES, Buffers, Part
from service.receive.plain_file import PlainFile

SIZES = (0, 1, 4000, 4096, 262_144, 262_145, 525_000, BUFFER_BYTES - 100, BUFFER_BYTES, 3 * BUFFER_BYTES + 12_345)
META = bytes(range(100))


def make(folder: Path, buffers: Buffers | None = None) -> Part:
    return Part(lambda: PlainFile(f"{folder}/a.part", f"{folder}/a.dcm", "a.dcm"), META, buffers or Buffers())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("piece", [0, 65_000, 131_062])
def test_the_file_is_what_was_put_in(tmp_path: Path, size: int, piece: int):
    data = os.urandom(size)
    with make(tmp_path) as part:
        for at in range(0, size, piece or size or 1):
            part.write(data[at:at + (piece or size)])
        assert part.size_bytes == size
        with part.whole() as (seen, start):
            assert seen[start:] == data
        part.commit()
        spooled = part.spooled()
    assert (tmp_path / "a.dcm").read_bytes() == META + data
    assert (spooled.sha256, spooled.size_bytes) == (hashlib.sha256(data).hexdigest(), size)
    assert [file.name for file in tmp_path.iterdir()] == ["a.dcm"]


@pytest.mark.parametrize("size", SIZES)
def test_a_file_system_without_direct_writing_keeps_the_same(tmp_path: Path, size: int):
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK):
        pytest.skip("no file system in memory here")
    data, name = os.urandom(size), f"firstlook-{os.getpid()}-{tmp_path.name}"
    with Part(lambda: PlainFile(f"{shared}/{name}.part", f"{shared}/{name}", name), META, Buffers()) as part:
        part.write(data)
        part.commit()
    try:
        assert (shared / name).read_bytes() == META + data
    finally:
        (shared / name).unlink()


def test_what_is_not_committed_is_removed_and_closing_again_is_no_error(tmp_path: Path):
    part = make(tmp_path)
    part.write(bytes(600_000))
    part.close()
    part.close()
    assert [file.name for file in tmp_path.iterdir()] == []


def test_a_buffer_that_was_used_before_leaks_nothing_into_the_next_file(tmp_path: Path):
    buffers = Buffers()
    with make(tmp_path, buffers) as part:
        part.write(b"x" * BUFFER_BYTES)
    with make(tmp_path, buffers) as part:
        part.write(b"short")
        part.commit()
    assert (tmp_path / "a.dcm").read_bytes() == META + b"short"


def test_when_the_name_cannot_be_given_nothing_stays(tmp_path: Path):
    part = Part(lambda: PlainFile(f"{tmp_path}/a.part", f"{tmp_path}/absent/a.dcm", "a.dcm"), META, Buffers())
    with pytest.raises(Exception, match="ENOENT"), part:
        part.commit()
    assert [file.name for file in tmp_path.iterdir()] == []


def test_when_the_disk_has_not_got_the_name_nothing_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def failing(folder: str) -> None:
        raise OSError(errno.EIO, folder)

    monkeypatch.setattr("service.receive.plain_file.sync_folder", failing)
    with pytest.raises(Unavailable, match="EIO"), make(tmp_path) as part:
        part.commit()
    assert [file.name for file in tmp_path.iterdir()] == []
