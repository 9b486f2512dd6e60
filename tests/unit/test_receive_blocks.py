"""Writing past the page cache: all of it, also where the file system does not take our blocks."""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path

import pytest

from service.receive.blocks import BLOCK_BYTES, open_direct, write_all

DATA = os.urandom(3 * BLOCK_BYTES)


@pytest.fixture
def blocks() -> memoryview:
    page = mmap.mmap(-1, len(DATA))
    page[:] = DATA
    return memoryview(page)


def written(path: Path, blocks: memoryview, *, asked: bool | None = None, durably: bool = False) -> bool:
    """Write the blocks behind a first one, and return whether they went past the page cache; asked: to be told so."""
    descriptor, direct = open_direct(str(path), os.O_CREAT | os.O_EXCL)
    try:
        direct = write_all(descriptor, blocks, BLOCK_BYTES, direct if asked is None else asked, durably)
    finally:
        os.close(descriptor)
    assert path.read_bytes() == bytes(BLOCK_BYTES) + DATA
    return direct


def test_a_write_that_is_cut_short_goes_on(tmp_path: Path, blocks: memoryview, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.pwritev
    monkeypatch.setattr(os, "pwritev", lambda file, views, *rest: whole(file, [views[0][:BLOCK_BYTES]], *rest))
    written(tmp_path / "file", blocks)


@pytest.mark.parametrize("durably", [False, True])
def test_a_file_system_with_other_blocks_gets_them_through_the_page_cache(
        tmp_path: Path, blocks: memoryview, durably: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, refused = os.pwritev, []

    def picky(file: int, views: list[memoryview], *rest: int) -> int:
        if not refused:
            refused.append(file)
            raise OSError(errno.EINVAL, "not these")
        return whole(file, views, *rest)

    monkeypatch.setattr(os, "pwritev", picky)
    assert not written(tmp_path / "file", blocks, asked=True, durably=durably)
    assert refused


def test_what_the_disk_does_not_take_is_an_error(
        tmp_path: Path, blocks: memoryview, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_given: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "pwritev", full)
    with pytest.raises(OSError, match="full"):
        written(tmp_path / "file", blocks)
