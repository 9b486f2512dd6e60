"""What a process had not finished writing goes at the next start; what is being written stays."""

from __future__ import annotations

import os
import time
from pathlib import Path

from service.store.leftovers import part_ending, remove_leftovers
from service.store.process import this_process
from tests.hospital import TINY, hospital, tiny_models


def left(folder: Path, ending: str) -> Path:
    file = folder / "ab" / f"ab12{ending}"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"half")
    return file


def of_a_dead_process() -> str:
    return part_ending().replace(this_process(), f"{this_process()}1")


def test_a_file_tells_whose_it_is_and_no_two_have_the_same_name(tmp_path: Path) -> None:
    ours, ours_too, dead = left(tmp_path, part_ending()), left(tmp_path, part_ending()), left(tmp_path, of_a_dead_process())
    elsewhere, long_ago = left(tmp_path, ".elsewhere:7:7:ab.part"), left(tmp_path, ".c32b5329.part")
    os.utime(long_ago, (0, time.time() - 3700))
    whole = left(tmp_path, ".dcm")
    assert remove_leftovers(tmp_path) == 2
    assert [f.exists() for f in (ours, ours_too, elsewhere, whole, dead, long_ago)] == [True] * 4 + [False] * 2


def test_half_written_results_of_a_killed_service_are_gone_at_its_next_start(tmp_path: Path) -> None:
    dead, alive = (left(tmp_path / "data" / "results", ending) for ending in (of_a_dead_process(), part_ending()))
    with hospital(tmp_path, infer=TINY | {"models_dir": tiny_models(tmp_path / "models")}):
        assert not dead.exists() and alive.exists()
