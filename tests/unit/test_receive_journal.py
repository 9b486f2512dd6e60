"""The journal: what is sealed in it comes back after a crash, once and whole, and nothing else does."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.receive import journal as module
from service.receive.journal import Journal
from service.receive.part import BUFFER_BYTES, Buffers, Part
from service.receive.slots import BLOCK_BYTES, LARGE, SMALL, Saved, restore_left
from tests.peers import wait_until

META = bytes(range(100))
SIZES = (0, 1, 4000, SMALL.most_bytes - 100, SMALL.most_bytes - 99, 262_144, 525_000, BUFFER_BYTES - 101)
BEYOND = (BUFFER_BYTES - 100, BUFFER_BYTES, 3 * BUFFER_BYTES + 12_345)


def opened(folder: Path, *, slots: bool = True, room: bool = True) -> Journal:
    """Return a journal that nobody tends; slots: with some of each kind."""
    (folder / "journals").mkdir(exist_ok=True)
    made = Journal(folder / "journals", lambda saved: None, lambda size: room)
    if slots:
        assert made.grow(SMALL) == SMALL.step and made.grow(LARGE) == LARGE.step
    return made


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = opened(tmp_path)
    yield made
    made.close()


def make(folder: Path, journal: Journal | None, name: str = "a", buffers: Buffers | None = None) -> Part:
    return Part(f"{folder}/{name}.part", f"{folder}/{name}.dcm", f"{name}.dcm", META, buffers or Buffers(), journal)


def crash(journal: Journal) -> None:
    """Let go of a journal as the end of its process does."""
    for descriptor in {journal._descriptor, journal._lock}:
        os.close(descriptor)


def left(folder: Path) -> dict[str, bytes]:
    """Return what a start restores, by path; a second one restores nothing."""
    found: list[Saved] = []
    assert restore_left(folder / "journals", found.append) == len(found)
    assert restore_left(folder / "journals", found.append) == 0
    assert len({saved.path for saved in found}) == len(found)
    return {saved.path: saved.content for saved in found}


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir() if file.is_file())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("piece", [0, 65_000, 131_062])
def test_a_sealed_file_is_safe_before_it_is_there_and_there_when_its_row_is_asked_for(
        tmp_path: Path, journal: Journal, size: int, piece: int):
    data = os.urandom(size)
    with make(tmp_path, journal) as part:
        for at in range(0, size, piece or size or 1):
            part.write(data[at:at + (piece or size)])
        part.commit(1234.5)
        assert names(tmp_path) == []
        part.spooled()
        assert (tmp_path / "a.dcm").read_bytes() == META + data
    assert names(tmp_path) == ["a.dcm"]
    crash(journal)
    assert left(tmp_path) == {"a.dcm": META + data}, "the disk may not have the file yet"
    journal.__init__(tmp_path / "journals", lambda saved: None, lambda size: True)


@pytest.mark.parametrize("size", SIZES)
def test_after_a_crash_what_was_sealed_is_restored_with_its_time_and_what_was_not_is_not(tmp_path: Path, size: int):
    journal, data = opened(tmp_path), os.urandom(size)
    sealed, half = make(tmp_path, journal, "sealed"), make(tmp_path, journal, "half")
    for part in (sealed, half):
        part.write(data)
    sealed.commit(1234.5)
    crash(journal)
    found: list[Saved] = []
    again = Journal(tmp_path / "journals", found.append, lambda size: True)
    assert found == [Saved("sealed.dcm", META + data, 1234.5)]
    again.close()
    assert left(tmp_path) == {}


@pytest.mark.parametrize("size", BEYOND)
def test_what_is_larger_than_a_slot_goes_to_its_own_file(tmp_path: Path, journal: Journal, size: int):
    data = os.urandom(size)
    with make(tmp_path, journal) as part:
        for at in range(0, size, 65_000):
            part.write(data[at:at + 65_000])
        part.commit()
        assert (tmp_path / "a.dcm").read_bytes() == META + data
    assert len(journal._free[LARGE]) == LARGE.step


@pytest.mark.parametrize("size", [10, 300_000])
def test_without_a_free_slot_an_image_goes_to_its_own_file_and_more_slots_are_wanted(tmp_path: Path, size: int):
    journal = opened(tmp_path, slots=False)
    with make(tmp_path, journal) as part:
        part.write(bytes(size))
        part.commit()
        assert names(tmp_path) == ["a.dcm"]
    assert journal._wanted == {SMALL if size == 10 else LARGE}
    journal.start()
    wait_until(lambda: not journal._wanted and journal.take(size))
    journal.close()


def test_slots_that_run_out_in_the_middle_of_an_image_cost_nothing(tmp_path: Path, journal: Journal):
    data = os.urandom(600_000)
    taken = [journal.take(BUFFER_BYTES) for _ in range(LARGE.step)]
    with make(tmp_path, journal) as part:
        part.write(data[:400_000])
        part.write(data[400_000:])
        part.commit()
        assert (tmp_path / "a.dcm").read_bytes() == META + data
    for slot in taken:
        slot.free()


@pytest.mark.parametrize("size", [10, 525_000])
def test_a_disk_that_does_not_take_the_slot_sends_the_image_to_its_own_file(
        tmp_path: Path, journal: Journal, size: int, monkeypatch: pytest.MonkeyPatch):
    data = os.urandom(size)

    def failing(view: memoryview, offset: int, durably: bool = False) -> None:
        raise OSError(errno.EIO, "no")

    with monkeypatch.context() as broken, make(tmp_path, journal) as part:
        broken.setattr(journal, "write", failing)
        part.write(data)
        part.commit()
        assert part.spooled().size_bytes == size
    assert (tmp_path / "a.dcm").read_bytes() == META + data
    assert names(tmp_path) == ["a.dcm"]


def test_a_slot_is_free_again_when_the_disk_has_its_file_and_only_then(tmp_path: Path, journal: Journal):
    with make(tmp_path, journal) as part:
        part.commit()
        part.spooled()
    assert len(journal._free[SMALL]) == SMALL.step - 1
    assert journal.free_settled()
    assert len(journal._free[SMALL]) == SMALL.step
    crash(journal)
    assert left(tmp_path) == {}
    journal.__init__(tmp_path / "journals", lambda saved: None, lambda size: True)


def test_as_long_as_the_disk_does_not_take_the_files_their_slots_stay(
        tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch):
    def failing(descriptor: int) -> None:
        raise OSError(errno.EIO, "no")

    with make(tmp_path, journal) as part:
        part.commit()
        part.spooled()
    with monkeypatch.context() as broken:
        broken.setattr(module, "_sync_file_system", failing)
        assert not journal.free_settled()
    assert len(journal._free[SMALL]) == SMALL.step - 1
    assert journal.free_settled()


def test_an_image_that_was_given_up_frees_its_slot(tmp_path: Path, journal: Journal):
    for size in (10, 525_000):
        part = make(tmp_path, journal)
        part.write(bytes(size))
        part.close()
        part.close()
    assert {kind: len(free) for kind, free in journal._free.items()} == {SMALL: SMALL.step, LARGE: LARGE.step}
    assert names(tmp_path) == []


def test_an_old_head_does_not_count_after_many_starts(tmp_path: Path):
    """Numbers begin beyond whatever stands in the journal, so that a head of long ago is never believed again."""
    for number in range(3):
        journal = opened(tmp_path, slots=number == 0)
        with make(tmp_path, journal, f"f{number}") as part:
            part.commit()
            part.spooled()
        crash(journal)
        assert list(left(tmp_path)) == [f"f{number}.dcm"]


@pytest.mark.parametrize(("place", "counts"), [("head", False), ("content", False), ("index", True)])
def test_a_slot_that_was_written_half_does_not_count_and_one_whose_index_is_damaged_does(
        tmp_path: Path, place: str, counts: bool):
    journal, data = opened(tmp_path), os.urandom(9000)
    with make(tmp_path, journal) as part:
        part.write(data)
        part.commit()
    crash(journal)
    [file] = (tmp_path / "journals").iterdir()
    offset = SMALL.offset(0) + {"head": 20, "content": BLOCK_BYTES + 5000, "index": 0}[place]
    with file.open("r+b") as raw:
        raw.seek(0 if place == "index" else offset)
        raw.write(b"\xff" * 8)
    assert left(tmp_path) == ({"a.dcm": META + data} if counts else {})
    opened(tmp_path, slots=False).close()


def test_a_journal_belongs_to_one_process_at_a_time(tmp_path: Path):
    first, second = opened(tmp_path), opened(tmp_path)
    assert len(list((tmp_path / "journals").iterdir())) == 2
    for number, journal in enumerate((first, second)):
        with make(tmp_path, journal, f"f{number}") as part:
            part.commit()
    assert left(tmp_path) == {}, "both live"
    crash(first)
    assert list(left(tmp_path)) == ["f0.dcm"]
    crash(second)
    assert list(left(tmp_path)) == ["f1.dcm"]
    opened(tmp_path, slots=False).close()
    assert len(list((tmp_path / "journals").iterdir())) == 2


def test_nothing_of_an_image_stays_in_a_journal_that_is_closed(tmp_path: Path):
    journal, mark = opened(tmp_path), b"ZZSECRET"
    for size in (1000, 300_000):
        with make(tmp_path, journal, f"n{size}") as part:
            part.write(mark * (size // 8))
            part.commit()
            part.spooled()
    [file] = (tmp_path / "journals").iterdir()
    assert mark in file.read_bytes()
    journal.close()
    assert mark not in file.read_bytes()


def test_a_quiet_journal_is_wiped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_QUIET_S", 0.0)
    monkeypatch.setattr(module, "_LONGEST_S", 0.01)
    journal = opened(tmp_path)
    with make(tmp_path, journal) as part:
        part.write(b"ZZSECRET")
        part.commit()
        part.spooled()
    journal.start()
    [file] = (tmp_path / "journals").iterdir()
    wait_until(lambda: b"ZZSECRET" not in file.read_bytes())
    wait_until(lambda: len(journal._free[SMALL]) == SMALL.step)
    journal.close()


def test_without_room_on_the_disk_no_slots_are_made(tmp_path: Path):
    journal = opened(tmp_path, slots=False, room=False)
    assert journal.grow(SMALL) == journal.grow(LARGE) == 0
    journal.close()


def test_a_file_system_without_direct_writing_keeps_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("service.receive.slots._DIRECT", 0)
    journal, data = opened(tmp_path), os.urandom(525_000)
    with make(tmp_path, journal) as part:
        part.write(data)
        part.commit()
    crash(journal)
    assert left(tmp_path) == {"a.dcm": META + data}


def test_a_killed_process_leaves_what_it_has_sealed(tmp_path: Path):
    code = ("import os, sys\nfrom pathlib import Path\n"
            "from tests.unit.test_receive_journal import make, opened\n"
            "folder = Path(sys.argv[1])\njournal = opened(folder)\n"
            "for number in range(5):\n"
            "    part = make(folder, journal, str(number))\n    part.write(bytes([number]) * 200_000)\n"
            "    part.commit()\n    number % 2 and part.spooled()\n"
            "make(folder, journal, 'x').write(bytes(200_000))\nos.kill(os.getpid(), 9)\n")
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert done.returncode == -9
    assert left(tmp_path) == {f"{n}.dcm": META + bytes([n]) * 200_000 for n in range(5)}
