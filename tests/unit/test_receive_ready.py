"""Ready files: what is sealed in one comes back after a crash, once and whole, and nothing else does."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.errors import Unavailable
from service.receive import ready as module
from service.receive.blocks import BLOCK_BYTES
from service.receive.part import BUFFER_BYTES, Buffers, Part
from service.receive.plain_file import PlainFile
from service.receive.ready import LARGE_BYTES, SMALL_BYTES, Ready, kinds, restore_left
from service.receive.ready_file import HEAD_BYTES, ReadyFile
from tests.peers import wait_until

META = bytes(128) + bytes(range(100))
ROOM = 4 * LARGE_BYTES
SIZES = (0, 1, 4096 - len(META), SMALL_BYTES - len(META), SMALL_BYTES, 262_144, 525_000, LARGE_BYTES, BUFFER_BYTES - 229,
         BUFFER_BYTES - 228, BUFFER_BYTES, 3 * BUFFER_BYTES - 228, 3 * BUFFER_BYTES + 12_345)


def name() -> str:
    return "ab" + secrets.token_hex(15)


def opened(folder: Path, *, made: bool = True, room: bool = True) -> Ready:
    """Return ready files that nobody tends; made: all that there is room for."""
    (folder / "ab").mkdir(exist_ok=True)
    ready = Ready(folder / "ready", folder, ROOM, name, lambda size: room)
    while made and ready.make():
        continue
    return ready


@pytest.fixture
def ready(tmp_path: Path) -> Iterator[Ready]:
    made = opened(tmp_path)
    yield made
    made.close()


def make(folder: Path, ready: Ready | None, buffers: Buffers | None = None) -> Part:
    def plain() -> PlainFile:
        return PlainFile(f"{folder}/ab/own.part", f"{folder}/ab/own.dcm", "ab/own.dcm")

    return Part(plain, META, buffers or Buffers(), ready)


def crash(ready: Ready) -> None:
    """Let go of ready files as the end of their process does."""
    os.close(ready._lock)


def images(folder: Path) -> dict[str, bytes]:
    """Return what has its place: the bytes by path, those of the preamble taken for zeros."""
    return {file.relative_to(folder).as_posix(): bytes(HEAD_BYTES) + file.read_bytes()[HEAD_BYTES:]
            for file in (folder / "ab").glob("*.dcm")}


def ready_names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "ready").glob("*/*") if path.name != "lock")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("piece", [0, 65_000, 131_062])
@pytest.mark.parametrize("looked_at", [False, True])
def test_an_image_is_whole_in_its_place_when_its_row_is_asked_for_and_safe_before(
        tmp_path: Path, ready: Ready, size: int, piece: int, looked_at: bool):
    data, buffers = os.urandom(size), Buffers()
    with make(tmp_path, None, buffers) as before:
        before.write(b"\xff" * BUFFER_BYTES)  # what a buffer holds is left over
    with make(tmp_path, ready, buffers) as part:
        for at in range(0, size, piece or size or 1):
            part.write(data[at:at + (piece or size)])
        if looked_at:
            with part.whole() as (seen, start):
                assert seen[start:] == data
        part.commit(1234.5)
        assert images(tmp_path) == {}
        spooled = part.spooled()
        assert spooled == part.spooled()
        assert images(tmp_path) == {part.path: META + data}
    assert (spooled.path, spooled.size_bytes) == (part.path, size)
    assert spooled.sha256 == hashlib.sha256(data).hexdigest()
    ready.forget_settled()
    assert (tmp_path / part.path).read_bytes() == META + data
    assert len(ready_names(tmp_path)) == sum(len(free) for free in ready._free.values())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("settled", [False, True])
def test_after_a_crash_what_was_sealed_has_its_place_and_time_and_what_was_not_is_gone(
        tmp_path: Path, size: int, settled: bool):
    ready, data = opened(tmp_path), os.urandom(size)
    sealed, half = make(tmp_path, ready), make(tmp_path, ready)
    for part in (sealed, half):
        part.write(data)
    sealed.commit(1234.5)
    if settled:
        sealed.spooled()
    assert restore_left(tmp_path / "ready", tmp_path) == 0, "its process lives"
    crash(ready)
    assert restore_left(tmp_path / "ready", tmp_path) == 1
    assert images(tmp_path) == {sealed.path: META + data}
    assert (tmp_path / sealed.path).read_bytes() == META + data
    assert (tmp_path / sealed.path).stat().st_mtime == 1234.5
    assert list((tmp_path / "ready").iterdir()) == []
    assert restore_left(tmp_path / "ready", tmp_path) == 0


def test_a_place_that_the_disk_has_not_got_is_given_again(tmp_path: Path):
    ready = opened(tmp_path)
    part = make(tmp_path, ready)
    part.write(b"image")
    part.commit()
    part.spooled()
    (tmp_path / part.path).unlink()
    crash(ready)
    assert restore_left(tmp_path / "ready", tmp_path) == 1
    assert images(tmp_path) == {part.path: META + b"image"}


@pytest.mark.parametrize("damage", ["head", "size", "time", "first", "content", "cut"])
def test_an_image_that_is_not_whole_was_never_acknowledged(tmp_path: Path, damage: str):
    ready = opened(tmp_path)
    part = make(tmp_path, ready)
    part.write(os.urandom(9000))
    part.commit()
    crash(ready)
    [file] = [path for path in (tmp_path / "ready").glob("*/*") if path.name == Path(part.path).stem]
    offset = {"head": 3, "size": 17, "time": 26, "first": 300, "content": BLOCK_BYTES + 50, "cut": 0}[damage]
    with file.open("r+b") as raw:
        if damage == "cut":
            raw.truncate(BLOCK_BYTES)
        else:
            raw.seek(offset)
            kept = raw.read(8)
            raw.seek(offset)
            raw.write(bytes(byte ^ 0x55 for byte in kept))
    assert restore_left(tmp_path / "ready", tmp_path) == 0
    assert images(tmp_path) == {}


@pytest.mark.parametrize("block", range(3))
def test_a_block_that_did_not_come_to_the_disk_is_noticed(tmp_path: Path, block: int):
    ready = opened(tmp_path)
    part = make(tmp_path, ready)
    part.write(os.urandom(3 * BLOCK_BYTES))
    part.commit()
    crash(ready)
    [file] = [path for path in (tmp_path / "ready").glob("*/*") if path.name == Path(part.path).stem]
    with file.open("r+b") as raw:
        raw.seek(block * BLOCK_BYTES + HEAD_BYTES * (not block))
        raw.write(bytes(BLOCK_BYTES - HEAD_BYTES))
    assert restore_left(tmp_path / "ready", tmp_path) == 0


@pytest.mark.parametrize("size", [10, 300_000])
def test_without_a_ready_file_an_image_goes_to_its_own(tmp_path: Path, size: int):
    ready = opened(tmp_path, made=False)
    with make(tmp_path, ready) as part:
        part.write(bytes(size))
        part.commit()
        assert images(tmp_path) == {"ab/own.dcm": META + bytes(size)}
        assert part.spooled().path == "ab/own.dcm"
    ready.close()


def test_when_few_are_left_more_are_made_at_once_else_when_it_is_quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_QUIET_S", 3600.0)
    monkeypatch.setattr(module, "_LONGEST_S", 0.01)
    ready = Ready(tmp_path / "ready", tmp_path, 20 * LARGE_BYTES, name, lambda size: True)
    while ready.make():
        continue
    _, large = ready._free.values()
    taken = [ready.take(LARGE_BYTES) for _ in range(14)]
    ready._tend()
    assert len(large) == 2
    ready.start()
    taken.append(ready.take(LARGE_BYTES))
    wait_until(lambda: len(large) == 16)
    taken.append(ready.take(LARGE_BYTES))
    monkeypatch.setattr(module, "_QUIET_S", 0.0)
    wait_until(lambda: len(large) == 16)
    for file in taken:
        assert file is not None
        file.drop()
    ready.close()


def test_a_ready_file_that_cannot_be_opened_is_not_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    ready = opened(tmp_path)

    def failing(folder: str, spool: str, name: str) -> ReadyFile:
        raise OSError(errno.EMFILE, "no")

    monkeypatch.setattr(module, "ReadyFile", failing)
    assert ready.take(LARGE_BYTES) is None
    assert len(ready_names(tmp_path)) == sum(len(free) for free in ready._free.values()) < sum(k.count for k in kinds(ROOM))
    ready.close()
    assert list((tmp_path / "ready").iterdir()) == []


@pytest.mark.parametrize("size", [10, 525_000, BUFFER_BYTES])
def test_a_disk_that_does_not_take_the_ready_file_sends_the_image_to_its_own(
        tmp_path: Path, ready: Ready, size: int, monkeypatch: pytest.MonkeyPatch):
    data = os.urandom(size)

    def failing(self: ReadyFile, view: memoryview, offset: int, durably: bool = False) -> None:
        raise OSError(errno.EIO, "no")

    monkeypatch.setattr(ReadyFile, "_write", failing)
    with make(tmp_path, ready) as part:
        part.write(data)
        part.commit()
        assert part.spooled().size_bytes == size
    assert (tmp_path / "ab" / "own.dcm").read_bytes() == META + data
    assert list(images(tmp_path)) == ["ab/own.dcm"]


def test_an_image_that_the_disk_does_not_take_any_more_is_refused(
        tmp_path: Path, ready: Ready, monkeypatch: pytest.MonkeyPatch):
    part = make(tmp_path, ready)
    part.write(bytes(BUFFER_BYTES))

    def failing(self: ReadyFile, view: memoryview, offset: int, durably: bool = False) -> None:
        raise OSError(errno.EIO, "no")

    monkeypatch.setattr(ReadyFile, "_write", failing)
    with pytest.raises(Unavailable, match="EIO"), part:
        part.write(bytes(BUFFER_BYTES))
    assert images(tmp_path) == {}
    assert len(ready_names(tmp_path)) == sum(len(free) for free in ready._free.values())


def test_as_long_as_the_disk_has_not_got_the_places_the_names_stay(
        tmp_path: Path, ready: Ready, monkeypatch: pytest.MonkeyPatch):
    def failing(descriptor: int) -> None:
        raise OSError(errno.EIO, "no")

    with make(tmp_path, ready) as part:
        part.commit()
        part.spooled()
    with monkeypatch.context() as broken, pytest.raises(OSError, match="no"):
        broken.setattr(module, "sync_file_system", failing)
        ready.forget_settled()
    assert Path(part.path).stem in ready_names(tmp_path)
    ready.forget_settled()
    assert Path(part.path).stem not in ready_names(tmp_path)


def test_names_go_when_it_is_quiet_or_few_are_left(tmp_path: Path, ready: Ready, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_QUIET_S", 3600.0)
    for few in (False, True):
        with make(tmp_path, ready) as part:
            part.commit()
            part.spooled()
        if few:
            monkeypatch.setattr(module, "_LEFT", 1)
        ready._tend()
        assert (Path(part.path).stem in ready_names(tmp_path)) is not few
    with make(tmp_path, ready) as part:
        part.commit()
        part.spooled()
    monkeypatch.setattr(module, "_LEFT", 1000)
    monkeypatch.setattr(module, "_QUIET_S", 0.0)
    ready._tend()
    assert Path(part.path).stem not in ready_names(tmp_path)


def test_an_image_that_was_given_up_leaves_nothing(tmp_path: Path, ready: Ready):
    for size in (10, 525_000, BUFFER_BYTES):
        part = make(tmp_path, ready)
        part.write(bytes(size))
        part.close()
        part.close()
    assert images(tmp_path) == {}
    assert len(ready_names(tmp_path)) == sum(len(free) for free in ready._free.values())


def test_what_was_answered_and_has_no_place_yet_outlives_the_end_of_the_process(tmp_path: Path):
    ready = opened(tmp_path)
    with make(tmp_path, ready) as part:
        part.write(b"image")
        part.commit()
    ready.close()
    assert restore_left(tmp_path / "ready", tmp_path) == 1
    assert images(tmp_path) == {part.path: META + b"image"}


def test_the_end_gives_the_disk_back_and_so_does_a_disk_that_runs_full(tmp_path: Path):
    room = [True]
    ready = Ready(tmp_path / "ready", tmp_path, ROOM, name, lambda size: room[0])
    while ready.make():
        continue
    assert len(ready_names(tmp_path)) == sum(kind.count for kind in kinds(ROOM))
    room[0] = False
    ready._tend()
    assert ready_names(tmp_path) == []
    assert not ready.make()
    ready.close()
    assert list((tmp_path / "ready").iterdir()) == []


def test_a_disk_to_which_files_were_given_back_is_not_filled_with_them_again(tmp_path: Path):
    left = [2 * ROOM]
    ready = Ready(tmp_path / "ready", tmp_path, ROOM, name, lambda size: left[0] - size > 0)
    ready._taken_at = -1e9

    def tend() -> int:
        before = len(ready_names(tmp_path))
        ready._tend()
        now = len(ready_names(tmp_path))
        left[0] -= int((now - before) / sum(kind.count for kind in kinds(ROOM)) * ROOM)
        return now

    assert tend() > 0
    left[0] = 0
    assert tend() == 0
    assert 0 < left[0] <= ROOM
    assert tend() == 0
    ready.close()


def test_the_files_take_up_the_room_they_may_and_no_more():
    for room in (0, 8_388_608, 400 << 20):
        taken = [kind.size_bytes * kind.count for kind in kinds(room)]
        assert room - SMALL_BYTES < sum(taken) <= room
        assert room == 0 or min(taken) > room / 10
    assert [kind.count for kind in kinds(400 << 20)] == [2560, 512]


def test_each_process_has_its_own(tmp_path: Path):
    first, second = opened(tmp_path), opened(tmp_path)
    paths = []
    for number, ready in enumerate((first, second)):
        with make(tmp_path, ready) as part:
            part.write(bytes([number]))
            part.commit()
            paths.append(part.path)
    assert restore_left(tmp_path / "ready", tmp_path) == 0, "both live"
    crash(first)
    assert restore_left(tmp_path / "ready", tmp_path) == 1
    assert list(images(tmp_path)) == paths[:1]
    crash(second)
    assert restore_left(tmp_path / "ready", tmp_path) == 1
    assert sorted(images(tmp_path)) == sorted(paths)


def test_a_file_that_is_not_one_of_ours_is_left_alone(tmp_path: Path):
    folder = tmp_path / "ready" / "0123456789abcdef"
    folder.mkdir(parents=True)
    (folder / "passwd").write_bytes(b"x")
    with pytest.raises(OSError, match="not empty"):
        restore_left(tmp_path / "ready", tmp_path)
    assert (folder / "passwd").read_bytes() == b"x"


@pytest.mark.parametrize("size", SIZES)
def test_a_file_system_without_direct_writing_keeps_the_same(tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("service.receive.blocks._DIRECT", 0)
    monkeypatch.setattr("service.receive.blocks._DURABLY", 0)
    ready, data = opened(tmp_path), os.urandom(size)
    with make(tmp_path, ready) as part:
        part.write(data)
        part.commit()
        part.spooled()
    assert images(tmp_path) == {part.path: META + data}
    crash(ready)
    assert restore_left(tmp_path / "ready", tmp_path) == 1


def test_a_killed_process_leaves_what_it_has_sealed(tmp_path: Path):
    code = ("import os, sys\nfrom pathlib import Path\n"
            "from tests.unit.test_receive_ready import make, opened\n"
            "folder = Path(sys.argv[1])\nready = opened(folder)\n"
            "for number in range(5):\n"
            "    part = make(folder, ready)\n    part.write(bytes([number]) * 2000)\n"
            "    part.commit()\n    number % 2 and part.spooled()\n"
            "make(folder, ready).write(bytes(200_000))\nos.kill(os.getpid(), 9)\n")
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert done.returncode == -9
    assert restore_left(tmp_path / "ready", tmp_path) == 5
    assert sorted(images(tmp_path).values()) == [META + bytes([number]) * 2000 for number in range(5)]
