"""What drift is measured by, and how far is far."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sqlmodel import select

from service.domain.drift import Bins, InvalidReference, Reference, bins_of, measures, read_reference, stability_index
from service.store.database import Database
from service.store.drift import DAY_S, OTHER, Source, counted, forget, named, note
from service.store.tables import DriftCount

RANDOM = np.random.default_rng(4)


def counts(bins: Bins, values: np.ndarray) -> list[int]:
    """Return how many values fall into each bin."""
    return np.bincount([bins.place(v) for v in values], minlength=len(bins.counts)).tolist()


def test_index_is_the_sum_worked_out_by_hand() -> None:
    # p = (30.5, 70.5) / 101 and q = (50.5, 50.5) / 101
    assert stability_index([50, 50], [30, 70]) == pytest.approx(0.1659, abs=1e-4)
    assert stability_index([50, 50], [50, 50]) == 0
    assert stability_index([50, 50], [0, 100]) == pytest.approx(stability_index([0, 100], [50, 50]))


def test_what_is_alike_stays_under_a_tenth_and_what_moved_does_not() -> None:
    reference = bins_of(RANDOM.normal(size=2000))
    assert len(reference.counts) == 10 and sum(reference.counts) == 2000 and max(reference.counts) < 260
    assert stability_index(reference.counts, counts(reference, RANDOM.normal(size=500))) < 0.1
    assert stability_index(reference.counts, counts(reference, RANDOM.normal(0.7, 1, size=500))) > 0.25
    assert stability_index(reference.counts, counts(reference, RANDOM.normal(0, 2, size=500))) > 0.25


def test_few_values_give_few_bins_and_a_heap_gives_one_of_its_own() -> None:
    assert len(bins_of(RANDOM.normal(size=60)).counts) == 2
    heap = bins_of(np.concatenate([np.zeros(900), RANDOM.uniform(0.5, 1, 100)]))
    assert sum(heap.counts) == 1000 and heap.place(-1.0) == 0 and heap.place(0.0) > 0


def test_images_are_measured_by_what_goes_in_and_comes_out() -> None:
    given = np.zeros((3, 1, 8, 8), np.float32)
    given[1] = 0.5
    given[2, :, :, ::2] = 1.0
    found = measures(given, {"probabilities": np.array([[0.1, 0.9], [0.2, 0.8], [0.3, 0.7]]),
                             "unfamiliarity": np.array([1.0, 2.0, 3.0])}, ["none", "pneumonia"])
    assert found["input mean"].tolist() == [0, 0.5, 0.5] and found["input spread"].tolist() == [0, 0, 0.5]
    assert found["input detail"].tolist() == [0, 0, 2.0]
    assert found["unfamiliarity"].tolist() == [1, 2, 3] and found["score pneumonia"].tolist() == [0.9, 0.8, 0.7]


def test_a_slice_of_which_nothing_is_marked_does_not_count() -> None:
    probabilities = np.zeros((2, 2, 8, 8), np.float32)
    probabilities[:, 0] = 0.5
    probabilities[1, 1, :4] = 0.9
    found = measures(np.zeros((2, 1, 8, 8), np.float32), {"probabilities": probabilities}, ["background", "lung"])
    assert found["score lung"].tolist() == [0.5] and len(found["input mean"]) == 1


def test_a_reference_is_read_back_and_a_broken_one_named(tmp_path: Path) -> None:
    assert read_reference(tmp_path) is None
    made = Reference("ab" * 32, 200, True, {"input mean": Bins((0.1, 0.2), (50, 100, 50))})
    file = tmp_path / "reference.json"
    file.write_text(json.dumps(made.to_json()))
    assert read_reference(tmp_path) == made
    for wrong in ("{", "[]", "{}", json.dumps(made.to_json() | {"bins": {"x": {"edges": [1], "counts": [1]}}}),
                  json.dumps(made.to_json() | {"bins": {"x": {"edges": [2, 1], "counts": [1, 1, 1]}}})):
        file.write_text(wrong)
        with pytest.raises(InvalidReference, match=r"reference\.json"):
            read_reference(tmp_path)


def test_labels_are_short_and_printable() -> None:
    assert named("SIEMENS ", " Definition\tAS+\n") == "SIEMENS Definition AS+"
    assert named("", " ") == "unknown" and named("Ä\x00") == "unknown" and len(named("x" * 200)) == 40


def test_days_are_added_up_forgotten_and_sources_bounded(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'x.db'}")
    database.migrate()
    here = Source("GE LightSpeed", "North")
    with database.transaction() as session:
        for day in (1, 1, 5):
            note(session, "net", "d1", here, day * DAY_S + 7, {"score a": [1, 2]}, 3)
        note(session, "net", "d2", here, 5 * DAY_S, {"score a": [9, 9]}, 18)
        for number in range(120):
            note(session, "net", "d1", Source("GE LightSpeed", f"site {number}"), 5 * DAY_S, {"score a": [1, 0]}, 1)
    with database.reading() as session:
        assert len(session.exec(select(DriftCount)).all()) == 2 + 1 + 99 + 1
        found = counted(session, 1 * DAY_S)
        assert found["net", "d1", here] == (9, {"score a": [3, 6]}) and found["net", "d2", here][0] == 18
        assert found["net", "d1", Source(OTHER, OTHER)] == (21, {"score a": [21, 0]})
        assert counted(session, 2 * DAY_S)["net", "d1", here] == (3, {"score a": [1, 2]})
    with database.transaction() as session:
        forget(session, 5 * DAY_S)
        assert counted(session, 0)["net", "d1", here] == (3, {"score a": [1, 2]})
    database.close()
